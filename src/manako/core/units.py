"""Numbers as people read them."""

from __future__ import annotations

import re

from manako.core.errors import InputError

BYTE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
COUNT_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
ROUNDS_TO_1000 = 999.5
"""From here on three digits are not enough: the next unit is taken, not `1e+03`."""


def show_bytes(count_bytes: float) -> str:
    """Bytes in powers of 1000, as disks and hubs count them: 4_420_000_000 → '4.42 GB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count_bytes) < ROUNDS_TO_1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.3g} {unit}"
        count_bytes /= 1000
    return f"{_largest(count_bytes)} TB"


def show_seconds(seconds: float) -> str:
    """Seconds as '42 s', '3 min 20 s' or '2 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def show_count(count: float) -> str:
    """A count in short form: 1_034_880 → '1.03 M'."""
    for unit in ("", " K", " M"):
        if abs(count) < ROUNDS_TO_1000:
            return f"{count:.0f}{unit}" if not unit else f"{count:.3g}{unit}"
        count /= 1000
    return f"{_largest(count)} B"


def _largest(number: float) -> str:
    """A number in the last unit there is: however large, never `1e+04`."""
    return f"{number:.4g}" if abs(number) < ROUNDS_TO_1000 else f"{number:,.0f}"


def parse_bytes(text: str) -> int:
    """'24GB', '24 gb' or '16GiB' as bytes. Raises `InputError` for anything else."""
    return _parsed(text, BYTE_UNITS, "a size such as 24GB or 16GiB")


def parse_count(text: str) -> int:
    """'8B', '500M' or '8,000' as a number. Raises `InputError` for anything else."""
    return _parsed(text, COUNT_UNITS, "a number such as 8B or 500M")


def _parsed(text: str, units: dict[str, int], expected: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)", text.strip().replace(",", "").lower())
    if found is None or found[2].upper() not in units:
        raise InputError(f"{text!r} is no size; expected {expected}")
    return round(float(found[1]) * units[found[2].upper()])
