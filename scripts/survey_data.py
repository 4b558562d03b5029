"""The part of the survey's pages that is about data sets: The Cauldron by kind, the Japanese sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blocks import table
from manako.catalogue.datasets import DataSet, datasets, find_set, parts_of
from manako.catalogue.facts import mark_of
from survey_words import CATEGORIES, DATA, KINDS, WAYS

CAULDRON = "HuggingFaceM4/the_cauldron"
MIX = "idefics2"


def cauldron_table(lang: str) -> str:
    """What The Cauldron holds, by category, beside the share that idefics2 gave it."""
    words = DATA[lang]
    parts = parts_of(find_set(CAULDRON))
    categories = list(dict.fromkeys(part.category for part in parts))
    groups = [[part for part in parts if part.category == name] for name in categories]
    rows = [
        [CATEGORIES[lang][group[0].category], *_sums(group), ", ".join(p.config for p in group)]
        for group in groups
    ]
    rows.append([f"**{words['all']}**", *_sums(parts), ""])
    return table(words["cauldron_head"], rows, right=frozenset({1, 2, 3, 4, 5}))


def _sums(parts: Sequence[DataSet]) -> list[str]:
    """Sets, pictures, pairs, per cent of the pairs, per cent of the mix."""
    whole = sum(part.questions.value for part in parts_of(find_set(CAULDRON)) if part.questions)
    images = sum(part.images.value for part in parts if part.images)
    pairs = sum(part.questions.value for part in parts if part.questions)
    share = sum(part.shares[MIX].value for part in parts if MIX in part.shares)
    return [
        str(len(parts)),
        f"{images:,}",
        f"{pairs:,}",
        f"{100 * pairs / whole:.1f}",
        f"{share:.2f}",
    ]


def japanese_tables(lang: str) -> Iterator[str]:
    """Sets with Japanese in them: those to train on, and those to measure with."""
    words = DATA[lang]
    found = [one for one in datasets() if one.languages and "ja" in one.languages.value]
    whole = [one for one in found if not one.part_of]
    for kinds, title in ((("training", "both"), "training"), (("benchmark",), "benchmark")):
        rows = [_row(one, lang) for one in whole if one.kind in kinds]
        yield words[title]
        yield table(words["head"], rows, right=frozenset({1, 2}))


def _row(one: DataSet, lang: str) -> list[str]:
    licences = one.licences
    return [
        one.id,
        f"{one.images.value:,}{mark_of(one.images)}" if one.images else "",
        _count(one),
        f"{' + '.join(licences.value)}{mark_of(licences)}" if licences else "",
        f"{WAYS[lang][one.access.way]}{mark_of(one.access)}" if one.access else "",
        f"`{one.reads}`" if one.reads else "",
        f"{one.about.in_(lang)}{mark_of(one.about)}" if one.about else "",
    ]


def _count(one: DataSet) -> str:
    found = one.questions or one.rows
    return f"{found.value:,}{mark_of(found)}" if found else ""


def counted(lang: str) -> str:
    """How many records there are of which kind."""
    kinds = ", ".join(
        f"{KINDS[lang][kind]} {sum(one.kind == kind for one in datasets())}"
        for kind in ("training", "benchmark", "both")
    )
    return DATA[lang]["counted"].format(count=len(datasets()), kinds=kinds)
