"""Learning rates over the steps of a run: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Kind = Literal["cosine", "linear", "constant", "warmup_stable_decay"]
DecayType = Literal["cosine", "linear", "1-sqrt"]

DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
    "1-sqrt": lambda progress: 1.0 - math.sqrt(progress),
    "constant": lambda progress: 1.0,
}
"""Share of the rate that is left after `progress` (0 to 1) of the decay."""


def warmup_length(warmup_steps: float, total_steps: int) -> int:
    """Steps of warm-up: a number of steps, or, below 1, a share of all steps (rounded up)."""
    steps = math.ceil(warmup_steps * total_steps) if warmup_steps < 1 else round(warmup_steps)
    return min(steps, total_steps)


def rate_factor(
    step: int,
    *,
    total_steps: int,
    kind: Kind,
    warmup_steps: float = 0,
    decay_ratio: float = 1.0,
    decay_type: DecayType = "cosine",
) -> float:
    """What every learning rate is multiplied by at `step` (from 0).

    It rises in equal steps and is 1 at the last step of the warm-up; then it is 1, until over the
    last `decay_ratio` of all steps (never before the warm-up ends) it falls towards 0, which it
    would reach one step after the last. `warmup_stable_decay` falls as `decay_type` says; from the
    end of the warm-up it is `get_wsd_schedule` of transformers 5.24, whose warm-up begins at 0, one
    step behind ours.
    """
    warmup = warmup_length(warmup_steps, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    start = max(warmup, total_steps - math.ceil(decay_ratio * total_steps))
    if step < start:
        return 1.0
    shape = decay_type if kind == "warmup_stable_decay" else kind
    return DECAYS[shape]((step - start) / (total_steps - start))
