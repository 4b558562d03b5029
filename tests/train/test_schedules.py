"""Learning rates over a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.train.schedules import rate_factor, warmup_length


@given(
    total_steps=st.integers(1, 300),
    kind=st.sampled_from(["cosine", "linear", "constant"]),
    warmup_steps=st.one_of(st.floats(0, 1, exclude_max=True), st.integers(1, 400)),
    decay_ratio=st.floats(0, 1, exclude_min=True),
)
def test_every_rate_lies_between_0_and_1_rises_in_the_warmup_and_then_never(
    total_steps: int, kind: str, warmup_steps: float, decay_ratio: float
) -> None:
    rates = [
        rate_factor(
            step,
            total_steps=total_steps,
            kind=kind,  # type: ignore[arg-type]
            warmup_steps=warmup_steps,
            decay_ratio=decay_ratio,
        )
        for step in range(total_steps)
    ]
    warmup = warmup_length(warmup_steps, total_steps)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warmup] == sorted(set(rates[:warmup]))
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert warmup == 0 or rates[warmup - 1] == 1


def test_the_rate_is_full_until_the_last_share_of_the_steps() -> None:
    rates = [
        rate_factor(step, total_steps=100, kind="cosine", warmup_steps=0.01, decay_ratio=0.35)
        for step in range(100)
    ]
    assert rates[:66] == [1.0] * 66
    assert rates[66] < 1
    assert rates[65 + 18] == pytest.approx(0.5 * (1 + math.cos(math.pi * 18 / 35)))


def test_linear_falls_in_equal_steps_towards_0() -> None:
    rates = [rate_factor(step, total_steps=4, kind="linear") for step in range(4)]
    assert rates == [1.0, 0.75, 0.5, 0.25]


def test_constant_stays() -> None:
    rates = [rate_factor(s, total_steps=4, kind="constant", warmup_steps=2) for s in range(4)]
    assert rates == [0.5, 1.0, 1.0, 1.0]
