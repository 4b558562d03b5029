"""An ordinary error, with many lines."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding, Probe


def look() -> Finding:
    raise RuntimeError("operator torchvision::nms does not exist\nand a second line")


PROBE = Probe(group="machine", title=Words(ja="偽", en="fake"), look=look, limit_seconds=20)
