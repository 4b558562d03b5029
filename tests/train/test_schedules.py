"""Learning rates over a run."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_wsd_schedule

from manako.train.schedules import DecayType, rate_factor, warmup_length


@given(
    total_steps=st.integers(1, 300),
    kind=st.sampled_from(["cosine", "linear", "constant", "warmup_stable_decay"]),
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


@pytest.mark.parametrize("decay_type", ["cosine", "linear", "1-sqrt"])
def test_warmup_stable_decay_is_that_of_transformers(decay_type: DecayType) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_wsd_schedule(
        optimizer,
        num_warmup_steps=10,
        num_decay_steps=20,
        num_training_steps=100,
        decay_type=decay_type,
    ).lr_lambdas[0]
    ours = [
        rate_factor(
            step,
            total_steps=100,
            kind="warmup_stable_decay",
            warmup_steps=10,
            decay_ratio=0.2,
            decay_type=decay_type,
        )
        for step in range(100)
    ]
    # Same formula in the same order of operations; the cosine multiplies by 2 × 0.5 on their side.
    assert ours[10:] == pytest.approx([theirs(step) for step in range(10, 100)], rel=1e-12)
    # Their warm-up spends its first step at rate 0; ours reaches the full rate one step earlier.
    assert ours[:10] == pytest.approx([theirs(step + 1) for step in range(10)], rel=1e-12)
    assert ours[10:80] == [1.0] * 70
    assert ours[80] == 1.0
    assert 0 < ours[99] < ours[81] < 1
