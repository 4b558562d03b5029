"""The process of one probe: `python -m manako.machine.run_probe MODULE SECONDS`.

Its answer is one JSON document on stdout. Whatever else is printed, also by libraries in C, goes to
stderr: the descriptors are swapped before the probe's module is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import math
import os
import signal
import sys
import time

from manako.core.settings import plain
from manako.machine.finding import Finding, Probe, does_not

LATE_SECONDS = 5
"""If nobody stops this process in time (its parent was killed), it ends itself this much later."""


def main(module: str, limit_seconds: float) -> None:
    """Look, answer, and leave at once: what a library does at exit is not waited for."""
    answers_to = os.dup(1)
    os.dup2(2, 1)
    with contextlib.suppress(AttributeError):  # no alarms on Windows
        signal.alarm(math.ceil(limit_seconds) + LATE_SECONDS)
    started = time.monotonic()
    found = look(module)
    found = dataclasses.replace(found, seconds=round(time.monotonic() - started, 3))
    with os.fdopen(answers_to, "wb") as stdout:
        stdout.write(json.dumps(plain(found), default=str).encode())
    os._exit(0)


def look(module: str) -> Finding:
    """What the probe of a module finds; an error that it raises is a finding."""
    try:
        probe = importlib.import_module(module).PROBE
        if not isinstance(probe, Probe):
            raise TypeError(f"PROBE is a {type(probe).__name__}")
        found = probe.look()
        if not isinstance(found, Finding):
            raise TypeError(f"the probe returned a {type(found).__name__}, not a finding")
    # Any error at all, also SystemExit from an import, is what the probe was to find out.
    except BaseException as error:  # noqa: BLE001
        return broken(error)
    return found


def broken(error: BaseException, *, mends: str = "") -> Finding:
    """The finding that an error is, in its own words; those stay English."""
    words = first_line(f"{type(error).__name__}: {error}")
    return does_not(words, words, mends=mends)


def first_line(text: str, limit: int = 240) -> str:
    """The first line that says something, cut where it is long."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
