"""Its words would steer a terminal."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works


def look() -> Finding:
    return works("\x1b[2Jよい", "\x1b[2Jfine", name="a\x1b]0;b", odd=float("nan"))


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
