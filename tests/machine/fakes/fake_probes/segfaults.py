"""A null pointer, as a library built for another CPU may follow."""

from __future__ import annotations

import ctypes

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works


def look() -> Finding:
    ctypes.string_at(0)
    return works("よい", "fine")


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
