"""It returns something else."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding, Probe


def look() -> Finding:
    return {"state": "works"}  # type: ignore[return-value]


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
