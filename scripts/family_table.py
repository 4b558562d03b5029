"""Write docs/families.md: every family, what its tiny checkpoint is made of, and its cards.

python scripts/family_table.py
"""

from blocks import ROOT, table, write_if_changed
from manako.catalogue.ability import RECORD
from manako.catalogue.cards import Card, cards
from manako.catalogue.facts import RECALLED_MARK, mark_of
from manako.core.family import PARTS, Family, families
from manako.core.record import read_record
from manako.core.units import show_bytes, show_count
from manako.verify.runner import LAW_COUNT

PAGE = ROOT / "docs" / "families.md"

HEAD = f"""\
# Families

<!-- Written by scripts/family_table.py; do not edit. -->

A family is one architecture: one file in `src/manako/families/`, found by its being there. It opens
every checkpoint folder whose `config.json` names one of its `model_type`s. How to add one stands in
[map.md](map.md#adding-a-family).

No test reaches a model hub. Each family makes a tiny checkpoint with random weights and the published
file layout, and the {LAW_COUNT} [laws](laws.md) are run on that. So what they show is: *they hold on a tiny
checkpoint of this layout*. `make laws` records the verdicts in `src/manako/catalogue/laws.jsonl`, with
the figure each has seen. On a checkpoint of your own, `manako verify` runs the same code.
"""

CARDS = """\
## Published checkpoints with a card

A card is a fact sheet in `src/manako/catalogue/models/`. Law 11 holds its parameter counts against
the model that is built from its `config`. bf16: the size of the weights, two bytes a parameter where
nobody wrote it down. `manako models show ID` prints a whole card with the source of every figure.
"""

FOOTNOTE = f"""
{RECALLED_MARK} *recalled*: written down from memory and not looked up again.
"""


def page() -> str:
    """The whole page."""
    found = families().items.values()
    parts = [HEAD, *(_section(family) for family in found), CARDS, _cards_table(), FOOTNOTE]
    return "\n".join(parts)


def _section(family: Family) -> str:
    sources = family.tiny_sources
    rows = [
        ["opens `model_type`", ", ".join(f"`{name}`" for name in family.model_types)],
        ["weights held by", f"`{family.model_module}.{family.model_class}`"],
        ["parts", ", ".join(part for part in PARTS if part in family.parts)],
        ["adapters on", ", ".join(part for part in PARTS if part in family.adapter_targets)],
        ["attention", f"`{family.attention}`"],
        ["takes", _takes(family)],
        ["a batch must have", _keys(family)],
        ["tiny checkpoint: template", sources.template],
        ["tiny checkpoint: tokenizer", sources.tokenizer],
        ["tiny checkpoint: processor", sources.processor],
        ["laws on the tiny checkpoint", _verdicts(family)],
        ["laws that do not apply", _not_applicable(family)],
    ]
    return f"## {family.name}\n\n{table(['', ''], rows)}\n"


def _takes(family: Family) -> str:
    taken = ["text"]
    taken += ["pictures"] if family.takes_images else []
    taken += ["videos"] if family.takes_videos else []
    return ", ".join(taken)


def _keys(family: Family) -> str:
    keys = dict.fromkeys([*family.required_inputs, *family.required_video_inputs])
    return ", ".join(f"`{key}`" for key in keys) or "–"


def _verdicts(family: Family) -> str:
    """States of the laws as `make laws` recorded them; without one, that it was not run."""
    laws: dict[str, list[str]] = {}
    for verdict in read_record(RECORD).of_kind("verdict"):
        if verdict["family"] == family.name:
            laws.setdefault(verdict["state"], []).append(str(verdict["law"]))
    return "; ".join(f"{state}: {', '.join(found)}" for state, found in laws.items()) or "not run"


def _not_applicable(family: Family) -> str:
    reasons = [f"{law}: {why}" for law, why in sorted(family.not_applicable.items())]
    return "; ".join(reasons) or "none: all of them are run"


def _cards_table() -> str:
    head = ["checkpoint", "family", "vision", "projector", "language", "total", "bf16"]
    head += ["context", "licence", "released"]
    known = [_card(card) for card in cards() if card.family in families().items]
    return table(head, known, right=frozenset(range(2, 8)))


def _card(card: Card) -> list[str]:
    parameters, context, licences = card.parameters, card.context, card.licences
    counts = [getattr(parameters, part, None) for part in (*PARTS, "total")]
    return [
        card.id,
        card.family,
        *("" if count is None else show_count(count) + mark_of(parameters) for count in counts),
        show_bytes(card.size_bytes) if card.size_bytes else "",
        f"{context.value:,}{mark_of(context)}" if context else "",
        f"{', '.join(licences.value)}{mark_of(licences)}" if licences else "",
        f"{card.released.value}{mark_of(card.released)}" if card.released else "",
    ]


if __name__ == "__main__":
    write_if_changed(PAGE, page())
