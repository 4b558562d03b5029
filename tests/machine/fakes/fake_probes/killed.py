"""What the system does to a process when memory runs out."""

from __future__ import annotations

import os
import signal

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works


def look() -> Finding:
    os.kill(os.getpid(), signal.SIGKILL)
    return works("よい", "fine")


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
