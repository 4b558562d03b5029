"""Build the model that each card's `config` describes, without memory, and count its parameters.

python scripts/check_card_sizes.py [ID ...]

The published sizes of a card are right when the empty model has exactly the parameters that the
card names, in total and part by part. Prints one line of TOML per card, to be put into the card,
and below it what differs; exits with 1 where anything does. A config with another layout than
transformers knows is counted by `card_parts.py`.
"""

import argparse
import copy
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from card_parts import COUNTERS
from manako.catalogue.cards import Card, cards, find_card

PARTS = ("vision", "projector", "language", "audio")
PREFIXES = {
    "visual": "vision",
    "vision_tower": "vision",
    "vision_model": "vision",
    "vision_encoder": "vision",
    "embed_tokens_extend.image_embed.img_processor": "vision",
    "visual.merger": "projector",
    "visual.deepstack_merger_list": "projector",
    "visual.downsample": "projector",
    "multi_modal_projector": "projector",
    "vision_projection": "projector",
    "embed_vision": "projector",
    "connector": "projector",
    "aligner": "projector",
    "merger": "projector",
    "image_newline": "projector",
    "embed_tokens_extend.image_embed": "projector",
    "audio_tower": "audio",
    "embed_audio": "audio",
    "embed_tokens_extend.audio_embed": "audio",
    "language_model": "language",
    "text_model": "language",
    "embed_tokens": "language",
    "layers": "language",
    "norm": "language",
    "lm_head": "language",
}
"""Where transformers 5 keeps each part; `model.` in front of a name is left out, the longest wins."""


def main() -> int:
    """Check the cards that the command line names, or all that have a config."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help="cards to check; all without it")
    wanted = parser.parse_args().ids
    chosen = [find_card(name) for name in wanted] if wanted else [c for c in cards() if c.config]
    wrong = [card.id for card in chosen if not _is_right(card)]
    print(f"{len(chosen)} cards, {len(wrong)} wrong: {', '.join(wrong) or '–'}")
    return 1 if wrong else 0


def _is_right(card: Card) -> bool:
    if card.config is None:
        print(f"{card.id}: the card has no config")
        return False
    counts = count(card)
    print(f"{card.id}\n  parameters = {as_toml(counts)}")
    found = differences(card, counts)
    for line in found:
        print(f"  {line}")
    return not found


def differences(card: Card, counts: Mapping[str, int]) -> list[str]:
    """Which parameter counts of the card are other than those of the model built from its config."""
    if card.parameters is None:
        return ["the card has no parameters"]
    named = {part: getattr(card.parameters, part) for part in PARTS}
    expected = {"total": card.parameters.total, **{k: v for k, v in named.items() if v is not None}}
    return [
        f"{part}: the card says {value:,}, the model has {counts.get(part, 0):,}"
        for part, value in expected.items()
        if value != counts.get(part, 0)
    ]


def count(card: Card) -> dict[str, int]:
    """Parameters by part, and `total`, of the model that the card's config describes."""
    if card.config is None or card.model_type is None:
        raise ValueError(f"{card.id}: the card has no config, or no model_type")
    if counter := COUNTERS.get(card.model_type.value):
        parts = Counter(counter(card.config.fields))
    else:
        parts = count_built(card.model_type.value, card.config.fields)
    return {"total": parts.total(), **{part: parts[part] for part in PARTS if parts[part]}}


def count_built(model_type: str, fields: Mapping[str, Any]) -> Counter[str]:
    """Parameters by part of an empty model; a tensor that two modules share counts once."""
    parts: Counter[str] = Counter()
    for name, parameter in build_empty(model_type, fields).named_parameters():
        parts[part_of(name)] += parameter.numel()
    return parts


def part_of(name: str) -> str:
    """The part to which the parameter of a model belongs, by its name."""
    inner = name.removeprefix("model.")
    found = [prefix for prefix in PREFIXES if f"{inner}.".startswith(f"{prefix}.")]
    if not found:
        raise KeyError(f"no part for the parameter {name}; PREFIXES wants another line")
    return PREFIXES[max(found, key=len)]


def build_empty(model_type: str, fields: Mapping[str, Any]) -> Any:
    """The model of a config on the `meta` device: shapes and names, no memory."""
    import torch
    import transformers
    from transformers.models.auto import modeling_auto as auto

    config = transformers.CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(fields)))
    names = {
        **auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        **auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    }
    with torch.device("meta"):
        return getattr(transformers, names[model_type])._from_config(config)


def as_toml(counts: Mapping[str, int]) -> str:
    """The counts as the value of a card's `parameters`."""
    figures = ", ".join(f"{part} = {value:_}" for part, value in counts.items())
    return f'{{ {figures}, by = "config-sizes" }}'


if __name__ == "__main__":
    sys.exit(main())
