"""Python itself."""

from __future__ import annotations

import platform
import struct
import sys
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, does_not, works

OLDEST = (3, 11)


def look() -> Finding:
    """Version, system and whether it is a virtual environment."""
    facts: dict[str, Any] = {
        "version": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "is_virtual_environment": sys.prefix != sys.base_prefix,
    }
    words = f"{facts['version']}, {facts['system']} {facts['architecture']}"
    if sys.version_info[:2] < OLDEST or struct.calcsize("P") < 8:
        mends = "make install PYTHON=python3.11"
        return does_not(
            f"{words}。3.11 以降の 64 ビット版が要る",
            f"{words}; Manako needs 3.11 or later, 64 bit",
            mends=mends,
            **facts,
        )
    inside = bool(facts["is_virtual_environment"])
    return works(
        f"{words}、{'仮想環境' if inside else '仮想環境ではない'}",
        f"{words}, {'in' if inside else 'outside'} a virtual environment",
        **facts,
    )


PROBE = Probe(
    group="machine", title=Words(ja="Python", en="Python"), look=look, place=10, is_needed=True
)
