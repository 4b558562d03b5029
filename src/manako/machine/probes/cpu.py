"""The CPU: its name, the cores that may be used, and the instruction sets that matter here."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from manako.core.words import Words
from manako.machine.cgroups import read_limits
from manako.machine.finding import Finding, Probe, works
from manako.machine.runner import usable_cores

CPUINFO = Path("/proc/cpuinfo")
MATTERS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
"""bitsandbytes needs avx2 on a CPU; the bf16 ones make bfloat16 fast; the last three are Arm's."""


def look() -> Finding:
    """Never fails: what the system does not tell is left out."""
    name, flags = _described()
    usable, limit = usable_cores(), read_limits().cores
    cores = max(1, min(usable, int(limit))) if limit else usable
    sets = [flag for flag in MATTERS if flag in flags]
    facts: dict[str, Any] = {
        "name": name,
        "cores": cores,
        "machine_cores": os.cpu_count() or cores,
        "quota_cores": limit,
        "instruction_sets": sets,
    }
    known = ", ".join(sets) or "-"
    return works(
        f"{name}、{cores} コア（全 {facts['machine_cores']}）、{known}",
        f"{name}, {cores} cores of {facts['machine_cores']}, {known}",
        **facts,
    )


def read_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """(model name, flags) of /proc/cpuinfo; Arm writes no name and calls its flags Features."""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return (
        name[1].strip() if name else "",
        frozenset(flags[1].lower().split()) if flags else frozenset(),
    )


def _described() -> tuple[str, frozenset[str]]:
    name, flags = "", frozenset[str]()
    if CPUINFO.is_file():
        name, flags = read_cpuinfo(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    elif platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return name or platform.processor() or platform.machine(), flags


PROBE = Probe(group="machine", title=Words(ja="CPU", en="CPU"), look=look, place=30)
