"""Numbers as people read them."""

from __future__ import annotations


def show_bytes(count_bytes: float) -> str:
    """Bytes in powers of 1000, as disks and hubs count them: 4_420_000_000 → '4.42 GB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count_bytes) < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.3g} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.3g} TB"


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
        if abs(count) < 1000:
            return f"{count:.0f}{unit}" if not unit else f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.4g} B"
