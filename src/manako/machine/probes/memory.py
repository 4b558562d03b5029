"""Memory of the machine, or of the container where that is less."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from manako.core.units import show_bytes
from manako.core.words import Words
from manako.machine.cgroups import read_limits
from manako.machine.finding import Finding, Probe, does_not, works

MEMINFO = Path("/proc/meminfo")


def look() -> Finding:
    """Total and available; psutil is asked, and /proc where it is missing."""
    system, source = _system()
    if system is None:
        return does_not(
            "psutil がなく、/proc/meminfo も読めない",
            "psutil is missing, and there is no /proc/meminfo",
            mends="pip install psutil",
        )
    total, available = system
    limits = read_limits()
    if limits.memory_bytes is not None and limits.memory_bytes < total:
        total = limits.memory_bytes
        available = min(available, max(0, total - (limits.used_bytes or 0)))
    facts: dict[str, Any] = {"total_bytes": total, "available_bytes": available, "source": source}
    facts["is_limited"] = total == limits.memory_bytes
    ja, en = (
        ("（コンテナーの上限）", " (the container's limit)") if facts["is_limited"] else ("", "")
    )
    if source != "psutil":
        ja, en = f"{ja}（psutil がないので /proc から）", f"{en} (psutil is missing; from /proc)"
    sizes = show_bytes(total), show_bytes(available)
    return works(
        f"{sizes[0]}、うち空き {sizes[1]}{ja}", f"{sizes[0]}, {sizes[1]} available{en}", **facts
    )


def read_meminfo(text: str) -> tuple[int, int] | None:
    """(total, available) bytes of /proc/meminfo, which counts in KiB."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", text, re.MULTILINE))
    if len(found) < 2:
        return None
    return int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024


def _system() -> tuple[tuple[int, int] | None, str]:
    try:
        import psutil
    except ImportError:
        text = MEMINFO.read_text(encoding="ascii") if MEMINFO.is_file() else ""
        return read_meminfo(text), str(MEMINFO)
    memory = psutil.virtual_memory()
    return (memory.total, memory.available), "psutil"


PROBE = Probe(
    group="machine", title=Words(ja="メモリー", en="memory"), look=look, place=40, is_needed=True
)
