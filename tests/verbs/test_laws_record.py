"""The Record of the laws in the package is what the laws say today."""

from __future__ import annotations

from pathlib import Path

import pytest

from manako.catalogue.ability import RECORD
from manako.core.record import read_record
from manako.verbs.laws import record_laws


@pytest.mark.slow
def test_the_record_in_the_package_is_current(tmp_path: Path) -> None:
    record_laws(tmp_path / "laws.jsonl")
    columns = ("family", "law", "title", "state")
    fresh, kept = (
        [tuple(event[name] for name in columns) for event in read_record(path).events]
        for path in (tmp_path / "laws.jsonl", RECORD)
    )
    assert fresh == kept, "run `make laws`"


def test_the_record_covers_every_family_and_law() -> None:
    from manako.core.family import families
    from manako.verify.runner import laws

    kept = {(event["family"], event["law"]) for event in read_record(RECORD).events}
    assert kept == {(name, law.number) for name in families().items for law in laws()}
    assert {event["state"] for event in read_record(RECORD).events} == {"holds", "not applicable"}
