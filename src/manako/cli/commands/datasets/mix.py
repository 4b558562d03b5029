"""`manako datasets mix`: what share each set really gets, and what must not meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.facts import footnotes, known
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import parse_count, show_count

if TYPE_CHECKING:
    from rich.table import Table

    from manako.plan.mix import Portion, Share
    from manako.verbs.datasets import MixReport

UNITS = ("rows", "questions", "answer_tokens")
NAMED_AT_MOST = 6
"""Sets that a note names before it says how many more there are."""


@command(
    "mix",
    key="datasets.mix",
    examples=(
        "manako datasets mix the_cauldron:plotqa=1 the_cauldron:docvqa=2 --in questions",
        "manako datasets mix 'the_cauldron:*' --in epochs",
        "manako datasets mix --as idefics2 --size 500M",
        "manako datasets mix ja-vg-vqa STAIR-Captions --in questions --for JA-VG-VQA-500",
    ),
)
@click.argument("sets", nargs=-1, metavar="[ID=WEIGHT]...")
@option("--in", "unit", type=click.Choice((*UNITS, "epochs")), key="option.datasets.in")
@option("--size", metavar="N", key="option.datasets.size")
@option("--as", "preset", metavar="MIX", default="", key="option.datasets.as")
@option("--for", "benchmarks", metavar="ID", multiple=True, key="option.datasets.for")
@option("--strict", is_flag=True, key="option.strict")
def mix(
    screen: Screen,
    sets: tuple[str, ...],
    unit: Any,
    size: str | None,
    preset: str,
    benchmarks: tuple[str, ...],
    strict: bool,
) -> None:
    """Show what a mix holds."""
    from manako.verbs.datasets import mix_as_json, mix_sets

    report = mix_sets(
        sets,
        unit,
        size=parse_count(size) if size else None,
        benchmarks=benchmarks,
        preset=preset,
        is_strict=strict,
    )
    screen.result(
        mix_as_json(report), lambda console: console.print(*_drawn(screen, report), sep="\n")
    )


def _drawn(screen: Screen, report: MixReport) -> Iterator[Any]:
    from rich.text import Text

    t, found = screen.texts, report.mix
    words = t(f"datasets.unit.{found.unit}")
    yield t("datasets.mix.title", unit=words) + _size(screen, report)
    yield _table(screen, report)
    for one in report.drowned:
        yield t(
            "datasets.mix.drowned",
            id=one.id,
            share=_percent(one.share),
            unit=t(f"datasets.unit.{one.unit}"),
            mix=one.mix,
            published=_percent(one.published),
            among=_percent(one.among),
        )
    yield from _notes(screen, report)
    if report.met:
        yield ""
        yield Text(t("datasets.must_not_meet"), style="bold")
        yield from _meetings(screen, report)


def _size(screen: Screen, report: MixReport) -> str:
    if report.mix.size is None:
        return ""
    unit = screen.texts(f"datasets.unit.{report.mix.unit}")
    return screen.texts("datasets.mix.size", size=show_count(report.mix.size), unit=unit)


def _table(screen: Screen, report: MixReport) -> Table:
    from manako.catalogue.facts import RECALLED_MARK
    from manako.verbs.datasets import uses_recalled

    names = ("set", "weight", "passes", *UNITS, "published")
    figures = {f"datasets.mix.{name}" for name in names[1:]}
    table = make_table(screen, "", *(f"datasets.mix.{name}" for name in names), right=figures)
    for portion, one in zip(report.mix.portions, report.sets, strict=True):
        mark = RECALLED_MARK if uses_recalled(one) else ""
        published = ", ".join(f"{share.value:g} % ({name})" for name, share in one.shares.items())
        table.add_row(*_cells(screen, portion, mark), published)
    return table


def _cells(screen: Screen, portion: Portion, mark: str) -> Iterator[str]:
    unknown = screen.texts("datasets.unknown")
    yield portion.id
    yield f"{portion.weight:g}"
    yield unknown if portion.passes is None else f"{portion.passes:.3g}{mark}"
    for unit in UNITS:
        share = portion.shares[unit]  # type: ignore[index]
        yield unknown if share is None else f"{_shown(share)}{mark}"


def _shown(share: Share) -> str:
    return f"≤ {_percent(share.value)}" if share.is_at_most else _percent(share.value)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _notes(screen: Screen, report: MixReport) -> Iterator[str]:
    """What the figures of the table rest on, and where they end."""
    from manako.catalogue.facts import RECALLED_MARK, is_recalled
    from manako.verbs.datasets import uses_recalled

    t = screen.texts
    for unit, ids in report.unknown.items():
        if ids and len(report.sets) > 1 and unit != report.mix.unit:
            yield t("datasets.mix.unknown", unit=t(f"datasets.unit.{unit}"), ids=_some(screen, ids))
    if report.mix.size is None and report.mix.unit != "epochs":
        yield t("datasets.mix.no_size")
    recalled = (*(uses_recalled(one) for one in report.sets), *map(is_recalled, report.met))
    marks = [RECALLED_MARK] if any(recalled) else []
    for one in report.sets:
        if one.held_rows and one.rows:
            marks.append(RECALLED_MARK)
            yield t(
                "datasets.mix.held",
                id=one.id,
                held=f"{one.held_rows.value:,}{RECALLED_MARK}",
                rows=f"{one.rows.value:,}",
            )
    yield t("datasets.mix.computed")
    yield from footnotes(screen, marks)


def _meetings(screen: Screen, report: MixReport) -> Iterator[str]:
    """One line for each reason; a reason that holds for many pairs names the sets once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for met in report.met:
        why = known(met, lambda one: str(one.why.in_(screen.lang)))
        reasons.setdefault((met.relation, why), []).extend((met.one, met.other))
    for (relation, why), ids in reasons.items():
        words = screen.texts(f"datasets.relation.{relation}")
        names = ", ".join(dict.fromkeys(ids))
        yield "- " + screen.texts("datasets.met", ids=names, relation=words, why=why)


def _some(screen: Screen, ids: tuple[str, ...]) -> str:
    shown = ", ".join(ids[:NAMED_AT_MOST])
    more = len(ids) - NAMED_AT_MOST
    return shown if more <= 0 else screen.texts("datasets.mix.more", ids=shown, count=more)


COMMAND = mix
