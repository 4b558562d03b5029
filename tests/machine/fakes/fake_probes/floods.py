"""Megabytes on both streams."""

from __future__ import annotations

import sys

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works


def look() -> Finding:
    for _ in range(200):
        sys.stdout.write("x" * 65_536)
        sys.stderr.write("y" * 65_536)
    return works("よい", "fine")


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
