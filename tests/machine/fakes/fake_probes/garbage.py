"""It writes nonsense where the answer goes: to every descriptor there is."""

from __future__ import annotations

import os

from manako.core.words import Words
from manako.machine.finding import Finding, Probe


def look() -> Finding:
    for number in range(3, 64):
        try:
            os.write(number, b"\xff\x00{nonsense")
        except OSError:
            continue
    os._exit(0)


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
