"""It ends at once, without a word."""

from __future__ import annotations

import os

from manako.core.words import Words
from manako.machine.finding import Finding, Probe


def look() -> Finding:
    os._exit(3)


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
