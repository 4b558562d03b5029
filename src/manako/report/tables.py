"""Findings as tables for the terminal; what `--json` prints is the plain value they came from.

A `Table` is a title, columns and rows of plain values. `rich()` draws it, `plain()` gives rows as
dicts. Values are shown by the unit that their name ends in (`_bytes`, `_seconds`, …).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manako.core.units import show_bytes, show_seconds
from manako.core.verdict import Verdict
from manako.report.figures import Group, Scores, read_scores
from manako.report.texts import Labels, Lang, labels
from manako.report.tokens import safe

if TYPE_CHECKING:
    from rich.table import Table as RichTable

STATE_STYLES = {"holds": "green", "fails": "bold red", "not run": "yellow"}
UNIT = re.compile(r"_(bytes|seconds)$")
MOST_IN_A_CELL = 6
SHARE_WORDS = ("share", "fill", "accuracy", "ratio")


@dataclass(frozen=True)
class Column:
    """A column: the key in each row, its heading, and whether it holds numbers (set right)."""

    key: str
    heading: str
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of plain values under headings; `styles` gives a row's style by its place."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    styles: Mapping[int, str]

    def plain(self) -> list[dict[str, Any]]:
        """Each row as a dict of plain values."""
        return [{column.key: row.get(column.key) for column in self.columns} for row in self.rows]

    def rich(self) -> RichTable:
        """The table for a rich console."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=self.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD
        )
        for column in self.columns:
            table.add_column(column.heading, justify="right" if column.is_number else "left")
        for place, row in enumerate(self.rows):
            cells = [show_value(column.key, row.get(column.key)) for column in self.columns]
            table.add_row(*(Text(safe(cell)) for cell in cells), style=self.styles.get(place))
        return table


def show_value(name: str, value: Any) -> str:
    """A value as people read it, by the unit in its name; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "✓" if value else "–"
    if isinstance(value, int | float):
        return _show_number(name, value)
    if isinstance(value, Mapping):
        return " · ".join(
            f"{key or '–'} {show_value(str(key), item)}" for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(show_value(name, item) for item in value)
    return str(value)


def _show_number(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return show_bytes(value)
    if name.endswith("seconds"):
        return show_seconds(value)
    if name.endswith(SHARE_WORDS) and 0 <= value <= 1:
        return f"{100 * value:.1f}%"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def facts_tables(title: str, facts: Mapping[str, Any], *, lang: Lang) -> list[Table]:
    """Any nested mapping as tables: what is plain in one, what is nested in tables of its own.

    Mappings with the same fields, such as spreads, share a table with one row each. A field that
    is None or empty is left out.
    """
    t = labels(lang)
    plain = {key: value for key, value in facts.items() if not _is_nested(value)}
    tables = [_two_columns(title, plain, t)] if plain else []
    for names, group in _alike({k: v for k, v in facts.items() if _is_nested(v)}):
        if len(names) > 1:
            tables.append(_grid(title, group, t))
            continue
        inner, heading = group[names[0]], f"{title} · {fact_label(names[0], t)}"
        if all(isinstance(value, Mapping) for value in inner.values()):
            tables.append(_grid(heading, inner, t))
        else:
            tables += facts_tables(heading, inner, lang=lang)
    return tables


def census_tables(census: Mapping[str, Any], *, lang: Lang) -> list[Table]:
    """A data set in figures."""
    return facts_tables(labels(lang)("census_title"), census, lang=lang)


def plan_tables(plan: Mapping[str, Any], *, lang: Lang) -> list[Table]:
    """What a run will take."""
    return facts_tables(labels(lang)("plan_title"), plan, lang=lang)


def fact_label(name: str, t: Labels) -> str:
    """The label of a field; an unknown name without its unit, which its value shows."""
    found = t.named("fact", name)
    return found if found != name else UNIT.sub("", name).replace("_", " ")


def _two_columns(title: str, facts: Mapping[str, Any], t: Labels) -> Table:
    columns = (Column("setting", t("setting")), Column("value", t("value"), is_number=True))
    rows = tuple(
        {"setting": fact_label(name, t), "value": show_value(name, value)}
        for name, value in facts.items()
        if value not in (None, "", {}, [])
    )
    return Table(title, columns, rows, {})


def _grid(title: str, groups: Mapping[str, Mapping[str, Any]], t: Labels) -> Table:
    """One row per group, one column per field that any of them has."""
    fields = dict.fromkeys(field for values in groups.values() for field in values)
    columns = (
        Column("setting", ""),
        *(
            Column(field, fact_label(field, t), is_number=_are_numbers(field, groups))
            for field in fields
        ),
    )
    rows = tuple({"setting": fact_label(name, t), **values} for name, values in groups.items())
    return Table(title, columns, rows, {})


def _are_numbers(field: str, groups: Mapping[str, Mapping[str, Any]]) -> bool:
    return all(isinstance(values.get(field, 0), int | float) for values in groups.values())


def _is_nested(value: Any) -> bool:
    """Whether a value needs a table of its own; a few short counts fit in one cell."""
    if not isinstance(value, Mapping) or not value:
        return False
    has_inner = any(isinstance(inner, Mapping) for inner in value.values())
    return has_inner or len(value) > MOST_IN_A_CELL or not _are_counts(value)


def _are_counts(value: Mapping[str, Any]) -> bool:
    return all(isinstance(inner, int) for inner in value.values())


def _alike(nested: Mapping[str, Any]) -> Iterable[tuple[list[str], dict[str, Any]]]:
    """Mappings grouped by their fields, in order of first appearance."""
    by_fields: dict[tuple[str, ...], list[str]] = {}
    for name, value in nested.items():
        by_fields.setdefault(tuple(value), []).append(name)
    for names in by_fields.values():
        yield names, {name: nested[name] for name in names}


def laws_table(verdicts: Iterable[Verdict], *, lang: Lang) -> Table:
    """Verdicts of the laws, in their order."""
    t, found = labels(lang), list(verdicts)
    columns = (
        Column("law", t("law"), is_number=True),
        Column("title", ""),
        Column("state", t("state")),
        Column("figure", t("figure")),
        Column("next_step", t("next_step")),
    )
    rows = tuple(
        {**verdict.as_dict(), "state": t.named("verdict", verdict.state)} for verdict in found
    )
    styles = {i: STATE_STYLES.get(verdict.state, "dim") for i, verdict in enumerate(found)}
    return Table(t("laws_title"), columns, rows, styles)


def scores_table(result: Mapping[str, Any], *, lang: Lang) -> Table | None:
    """Accuracy by kind of question with interval and controls; None without an accuracy."""
    t, scores = labels(lang), read_scores(result)
    if scores is None:
        return None
    fields = ("accuracy", "interval", "n", "blank", "shuffled", "majority")
    present = [field for field in fields if _is_present(scores, field)]
    columns = (
        Column("kind", t("kind")),
        *(Column(field, t(field), is_number=True) for field in present),
    )
    rows = tuple(_score_row(group, t) for group in scores.rows)
    return Table(t("evaluation_title"), columns, rows, _score_styles(scores.rows))


def _is_present(scores: Scores, field: str) -> bool:
    return scores.has("low" if field == "interval" else field)


def _score_row(group: Group, t: Labels) -> dict[str, Any]:
    has_interval = group.low is not None and group.high is not None
    return {
        "kind": t.named("group", group.name) if group.name else t("overall"),
        "accuracy": group.accuracy,
        "interval": f"{_percent(group.low)}–{_percent(group.high)}" if has_interval else None,
        "n": group.n,
        "blank": _percent(group.blank),
        "shuffled": _percent(group.shuffled),
        "majority": _percent(group.majority),
    }


def _score_styles(groups: Sequence[Group]) -> dict[int, str]:
    styles = {i: "yellow" for i, group in enumerate(groups) if group.is_control_high}
    return styles | {len(groups) - 1: "bold"}


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f}"
