"""float16, tried: for GPUs without bfloat16, and only with a loss scaler."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._torch import look_at_number, torch_probe


def look() -> Finding:
    """A product and an autocast step."""
    return look_at_number("float16")


PROBE = torch_probe(Words(ja="float16", en="float16"), look, place=20)
