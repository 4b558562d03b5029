"""An import that ends the process."""

from __future__ import annotations

import sys

from manako.core.words import Words
from manako.machine.finding import Finding, Probe


def look() -> Finding:
    sys.exit("this version of Python is not supported")


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
