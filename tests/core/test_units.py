"""Numbers as people read them: three digits, the right unit, no powers of ten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.core.errors import InputError
from manako.core.units import parse_bytes, parse_count, show_bytes, show_count, show_seconds


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show_bytes(0), "0 B"),
        (show_bytes(999), "999 B"),
        (show_bytes(999_950), "1 MB"),
        (show_bytes(4_420_000_000), "4.42 GB"),
        (show_bytes(5.1e12), "5.1 TB"),
        (show_count(999_999), "1 M"),
        (show_count(1_034_880), "1.03 M"),
        (show_count(8_290_000_000), "8.29 B"),
        (show_seconds(3.26), "3.3 s"),
        (show_seconds(59.7), "1 min 00 s"),
        (show_seconds(200), "3 min 20 s"),
        (show_seconds(7_512), "2 h 05 min"),
    ],
)
def test_examples(shown: str, expected: str) -> None:
    assert shown == expected


@given(st.integers(0, 10**14))
def test_no_number_is_shown_as_a_power(number: int) -> None:
    for shown in (show_bytes(number), show_count(number), show_seconds(number)):
        assert "e+" not in shown


@pytest.mark.parametrize(
    ("text", "count"),
    [("24GB", 24 * 10**9), ("16 gib", 16 * 2**30), ("1.5TB", 1_500 * 10**9), ("7", 7)],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "count"), [("8B", 8 * 10**9), ("0.5b", 5 * 10**8), ("8,000", 8000)]
)
def test_counts_are_read(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "GB", "24XB", "-3GB", "nan", "1e9", "24 GB 3"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="24GB"):
        parse_bytes(text)
