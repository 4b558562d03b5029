"""The table of accelerators and the kinds of machines keep to the catalogue's schema."""

from __future__ import annotations

import pytest

from manako.catalogue.check import Lists, problems_of
from manako.catalogue.facts import licences, source_of, sources
from manako.catalogue.machines import machine_kinds
from manako.catalogue.matrix import BACKENDS, matrix
from manako.catalogue.scores import score_tables


@pytest.mark.parametrize("key", matrix())
def test_a_row_holds_to_the_schema(key: str) -> None:
    lists = Lists(sources=sources(), licences=licences(), tables=score_tables())
    row = matrix()[key]
    assert list(problems_of(f"matrix.toml {key}", row, lists)) == []
    assert [name for name, _ in row.cells()] == list(BACKENDS)


def test_what_works_in_part_or_was_published_says_what_part() -> None:
    """A cell `partly` without a word is allowed only where nobody looked it up."""
    for key, row in matrix().items():
        for name, cell in row.cells():
            if cell.state == "partly" and cell.note is None:
                assert source_of(cell).how == "recalled", f"{key}.{name}"


def test_only_the_cpu_was_measured() -> None:
    measured = {
        name
        for row in matrix().values()
        for name, cell in row.cells()
        if source_of(cell).how == "measured"
    }
    assert measured == {"cpu"}


def test_kinds_of_machines_grow() -> None:
    lists = Lists(sources=sources(), licences=licences(), tables=score_tables())
    kinds = list(machine_kinds().values())
    for kind in kinds:
        assert list(problems_of(f"machines.toml {kind.key}", kind, lists)) == []
    totals = [kind.each_bytes * kind.count for kind in kinds]
    assert totals == sorted(totals)
