"""It works, and starts with words on stdout, from Python and from below it."""

from __future__ import annotations

import subprocess
import sys

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works


def look() -> Finding:
    sys.stdout.write("an import that prints")
    subprocess.run(["echo", "a program that prints"], check=True)
    return works("よい", "fine", number=3)


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
