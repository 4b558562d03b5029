"""It never ends, nor does what it started; the latter's number is on stderr."""

from __future__ import annotations

import subprocess
import sys

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works


def look() -> Finding:
    child = subprocess.Popen(["sleep", "600"])
    sys.stderr.write(f"{child.pid}\n")
    sys.stderr.flush()
    child.wait()
    return works("よい", "fine")


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=1)
