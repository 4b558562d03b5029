"""It ignores the polite signals, and hangs."""

from __future__ import annotations

import signal
import time

from manako.core.words import Words
from manako.machine.finding import Finding, Probe


def look() -> Finding:
    for name in ("SIGTERM", "SIGINT", "SIGALRM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    while True:
        time.sleep(600)


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=1)
