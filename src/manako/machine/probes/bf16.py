"""bfloat16, tried: what training uses on a GPU."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._torch import look_at_number, torch_probe


def look() -> Finding:
    """A product and an autocast step."""
    return look_at_number("bfloat16")


PROBE = torch_probe(Words(ja="bfloat16", en="bfloat16"), look, place=10)
