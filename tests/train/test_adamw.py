"""AdamW with bfloat16 moments: right in the mean, small, and the same again after a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from manako.core.recipe import Recipe
from manako.core.record import read_record
from manako.train import adamw
from manako.train.adamw import MOST_CHANCE, RoundedAdamW, rounded
from manako.train.loop import run_training

MakeRecipe = Callable[..., Recipe]


def trained(kind: Any, steps: int, *, scale: Callable[[int], float] = lambda step: 1.0) -> Any:
    """Weights of several shapes and their optimizer, after steps on the same random gradients."""
    generator = torch.Generator().manual_seed(1)
    weights = [
        nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(64, 48), (48,), ()]
    ]
    optimizer = kind(weights, lr=1e-3, weight_decay=0.1)
    for step in range(steps):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator) * scale(step)
        optimizer.step()
    return weights, optimizer


@pytest.mark.parametrize("value", [1.001, -1.001, 3e-7])
def test_rounding_is_right_in_the_mean(value: float) -> None:
    values = torch.full((MOST_CHANCE + 1,), value)
    found = rounded(values.clone(), torch.arange(MOST_CHANCE + 1, dtype=torch.int32))
    assert torch.equal(found, found.bfloat16().float())
    # Over all chances the mean is exact to float32's last bits.
    assert float(found.double().mean()) == pytest.approx(value, rel=1e-6)


def test_the_first_step_is_torchs_own() -> None:
    ours, theirs = trained(RoundedAdamW, 1)[0], trained(torch.optim.AdamW, 1)[0]
    # The moments of this step are used before they are rounded.
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_many_steps_stay_beside_torchs_own() -> None:
    ours, theirs = trained(RoundedAdamW, 200)[0], trained(torch.optim.AdamW, 200)[0]
    for a, b in zip(ours, theirs, strict=True):
        # A moment is off by a 256th at most, so a step of at most 1e-3 by about 1e-3 / 256, now up,
        # now down: over 200 steps that adds up to 1e-3 / 256 · √200 = 6e-5; seen up to 3e-4.
        assert float((a - b).detach().abs().max()) < 1e-3


def test_the_second_moment_falls_again() -> None:
    """Rounded to the nearest it would stay at its height for ever: 0.999 of a bfloat16 is itself."""
    gradients = {"scale": lambda step: 10.0 if step < 20 else 0.1}
    (weight, *_), ours = trained(RoundedAdamW, 400, **gradients)
    (other, *_), theirs = trained(torch.optim.AdamW, 400, **gradients)
    expected = float(theirs.state[other]["exp_avg_sq"].mean())
    assert float(ours.state[weight]["exp_avg_sq"].float().mean()) == pytest.approx(
        expected, rel=0.01
    )  # 3,072 numbers, each off by less than a 256th per rounding; seen 0.0005
    assert torch.tensor(1.0).bfloat16() * 0.999 == 1.0


def test_large_weights_go_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(RoundedAdamW, 1)[0]
    monkeypatch.setattr(adamw, "PIECE", 100)
    assert all(torch.equal(a, b) for a, b in zip(whole, trained(RoundedAdamW, 1)[0], strict=True))


def test_a_gradient_may_lie_in_memory_in_any_order() -> None:
    weight, other = nn.Parameter(torch.ones(6, 4)), nn.Parameter(torch.ones(6, 4))
    gradient = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for parameter, given in ((weight, gradient.T), (other, gradient.T.contiguous())):
        parameter.grad = given
        RoundedAdamW([parameter], lr=0.1).step()
    assert torch.equal(weight, other)


@pytest.mark.slow
@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_over_a_hundred_steps_the_loss_is_that_of_float32(recipe: MakeRecipe, optim: str) -> None:
    def losses(name: str, **changes: Any) -> list[float]:
        folder = run_training(recipe(name, optim=optim, max_steps=120, **changes)).folder
        return [event["loss"] for event in read_record(folder / "record.jsonl").of_kind("step")]

    exact, half = losses("float32"), losses("bfloat16", optim_state_dtype="bfloat16")
    assert exact[-1] < exact[0] / 4
    # What is kept is off by a 256th at most (0.4 %), each number on its own, right in the mean; the
    # loss, a sum over all of them, by less. Seen at the worst step: 0.26 % (AdamW), 0.09 % (Muon).
    assert half == pytest.approx(exact, rel=0.01)
    assert half != exact
