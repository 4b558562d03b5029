"""It answers well, and leaves a process behind."""

from __future__ import annotations

import subprocess

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works


def look() -> Finding:
    child = subprocess.Popen(["sleep", "600"])
    return works("よい", "fine", child=child.pid)


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
