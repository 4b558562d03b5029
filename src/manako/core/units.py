"""Numbers as people read them."""

from __future__ import annotations

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
