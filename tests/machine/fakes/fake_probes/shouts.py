"""Megabytes of complaints, and an error."""

from __future__ import annotations

import sys

from manako.core.words import Words
from manako.machine.finding import Finding, Probe


def look() -> Finding:
    for _ in range(200):
        sys.stderr.write("y" * 65_536)
    raise RuntimeError("enough")


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
