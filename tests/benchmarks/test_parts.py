"""A benchmark ends in time, loses nothing, and one part's failure is not the others'."""

from __future__ import annotations

import time
from typing import Any

import pytest
from benchmarks.gpu.parts import Parts


@pytest.fixture
def written() -> list[dict[str, Any]]:
    return []


def parts(written: list[dict[str, Any]], **limits: float) -> Parts:
    limits = {"minutes": 1.0, "part_minutes": 0.5, **limits}
    return Parts(**limits, write=lambda fields: written.append({**fields}))


def test_every_part_is_followed_by_what_is_known(written: list[dict[str, Any]]) -> None:
    made = parts(written)
    assert made.run("one", lambda: 5) == 5
    made.fields["one"] = 5
    made.run("two", lambda: 6)
    assert [fields.get("one") for fields in written] == [None, 5]


def test_a_failure_is_noted_and_the_next_part_runs(
    written: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    made = parts(written)
    assert made.run("bad", lambda: 1 / 0) is None
    assert made.failed == {"bad"}
    assert made.run("good", lambda: 7) == 7
    assert written[-1]["notes"] == ["bad: ZeroDivisionError: division by zero"]
    assert "Traceback" in capfd.readouterr().err


def test_a_part_that_takes_too_long_is_ended(written: list[dict[str, Any]]) -> None:
    made = parts(written, part_minutes=1.1 / 60)
    begun = time.monotonic()
    assert made.run("slow", lambda: time.sleep(20)) is None
    assert time.monotonic() - begun < 5
    assert made.fields["notes"] == ["slow: not done within 1 s"]


def test_what_would_not_fit_is_not_begun(written: list[dict[str, Any]]) -> None:
    made = parts(written, minutes=0.1)
    assert made.run("long", lambda: 8, takes=30.0) is None
    assert "long: left out" in made.fields["notes"][0]
    assert made.failed == set()  # a shorter one may still fit
