import io

import pytest
from report_makers import RESULT
from rich.console import Console

from manako.core.verdict import Verdict
from manako.report.tables import (
    census_tables,
    facts_tables,
    laws_table,
    plan_tables,
    scores_table,
    show_value,
)


def printed(*tables):
    found = Console(file=io.StringIO(), width=120, legacy_windows=False, _environ={})
    for table in tables:
        found.print(table.rich())
    return found.file.getvalue()


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("peak_memory_bytes", 4_420_000_000, "4.42 GB"),
        ("seconds", 200, "3 min 20 s"),
        ("pack_fill", 0.983, "98.3%"),
        ("rows", 31616, "31,616"),
        ("rate", 0.00123456, "0.001235"),
        ("exact", True, "✓"),
        ("nothing", None, ""),
        ("by_role", {"user": 12, "": 3}, "user 12 · – 3"),
        ("step_seconds", [1.0, 2.0], "1.0 s, 2.0 s"),
    ],
)
def test_values_are_shown_by_the_unit_in_their_name(name, value, shown):
    assert show_value(name, value) == shown


def test_facts_are_labelled_and_nested_ones_get_tables_of_their_own():
    spread = {"mean": 1.5, "smallest": 1, "median": 2, "largest": 3}
    tables = facts_tables(
        "Census",
        {
            "rows": 12,
            "turns_by_role": {"user": 5, "assistant": 5},
            "answer_characters": spread,
            "image_width": spread,
            "sources": {"a": {"rows": 3, "images": 1}, "b": {"rows": 9, "images": 4}},
            "repeats": None,
        },
        lang="en",
    )
    assert [table.title for table in tables] == ["Census", "Census", "Census · Sources"]
    assert tables[0].plain() == [
        {"setting": "Rows", "value": "12"},
        {"setting": "Turns by role", "value": "user 5 · assistant 5"},
    ]
    assert [row["setting"] for row in tables[1].plain()] == [
        "Characters of answers",
        "Picture width, px",
    ]
    assert tables[2].plain()[1] == {"setting": "b", "rows": 9, "images": 4}
    assert "Picture width, px" in printed(*tables)


def test_a_real_census_and_plan_have_a_label_for_every_field():
    """Fields without a label would show under their raw names in a Japanese table."""
    from dataclasses import fields

    from manako.data.census import Census, Repeats, TokenCount
    from manako.data.spread import Spread
    from manako.plan.inventory import PartCount
    from manako.plan.plan import Memory
    from manako.report.texts import LABELS

    names = {
        f.name for kind in (Census, Repeats, TokenCount, Spread, PartCount) for f in fields(kind)
    }
    names |= {f"{f.name}_bytes" for f in fields(Memory)}
    assert {name for name in names if f"fact.{name}" not in LABELS} == set()


def test_census_and_plan_are_facts_under_their_own_title():
    assert census_tables({"rows": 1}, lang="ja")[0].title == "データの概要"
    assert plan_tables({"steps": 1}, lang="en")[0].title == "Plan"


def test_laws_keep_their_order_and_say_what_to_do():
    verdicts = [
        Verdict(law=1, title="tokens", state="holds", figure="0 of 9"),
        Verdict(law=7, title="packing", state="fails", figure="3e-3", next_step="run it again"),
    ]
    table = laws_table(verdicts, lang="ja")
    assert [row["state"] for row in table.plain()] == ["成立", "不成立"]
    assert "run it again" in printed(table)


def test_accuracy_by_kind_ends_with_all_questions():
    table = scores_table(RESULT, lang="en")
    kinds = [row["kind"] for row in table.plain()]
    assert kinds == [
        "Read one digit",
        "made <up>",
        "Questions in Japanese",
        "Questions in English",
        "All questions",
    ]
    assert table.plain()[0]["interval"] == "50.0–99.0"
    text = printed(table)
    assert "90.0%" in text
    assert "Shuffled pictures" in text


def test_columns_that_nothing_fills_are_left_out():
    table = scores_table({"accuracy": 0.5, "by_kind": {"a": 0.5}}, lang="en")
    assert [column.key for column in table.columns] == ["kind", "accuracy"]
    assert scores_table({}, lang="en") is None


def test_markup_and_escapes_in_names_are_shown_not_obeyed():
    text = printed(*facts_tables("t", {"[bold]x": "\x1b[1m[/red]"}, lang="en"))
    assert "[bold]x" in text
    assert "⟨U+001B⟩[1m[/red]" in text
