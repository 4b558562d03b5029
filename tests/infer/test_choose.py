from __future__ import annotations

import pytest
import torch
from transformers import TopPLogitsWarper

from manako.infer.choose import chooser, likeliest
from manako.infer.reply import Asking


def logits(rows: int = 4, entries: int = 50) -> torch.Tensor:
    return torch.randn(rows, entries, generator=torch.Generator().manual_seed(0)) * 3


def test_temperature_zero_takes_the_likeliest() -> None:
    found = chooser(Asking())(logits(), range(4))
    assert found == logits().argmax(dim=-1).tolist()


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 1.0])
def test_the_kept_tokens_are_those_of_transformers(top_p: float) -> None:
    falling, ids = likeliest(logits(), temperature=0.7, top_p=top_p)
    mine = torch.zeros_like(falling).scatter(-1, ids, falling)
    warped = TopPLogitsWarper(top_p)(None, logits() / 0.7)
    expected = warped.softmax(dim=-1)
    assert ((mine > 0) == (expected > 0)).all()
    # Softmax in float32 over 50 entries: sums in another order differ by a few 1e-7.
    torch.testing.assert_close(
        mine / mine.sum(dim=-1, keepdim=True), expected, rtol=1e-5, atol=1e-7
    )


def test_draws_follow_the_probabilities() -> None:
    one = torch.tensor([[2.0, 1.0, 0.0, -30.0]])
    choose = chooser(Asking(temperature=1.0, seed=0))
    draws = [choose(one, [0])[0] for _ in range(4000)]
    expected = one.softmax(dim=-1)[0]
    # Four standard deviations of a share of 4,000 draws.
    allowed = 4 * (expected * (1 - expected) / 4000).sqrt() + 1e-9
    shares = torch.tensor([draws.count(i) / 4000 for i in range(4)])
    assert ((shares - expected).abs() <= allowed).all()


def test_a_row_draws_the_same_whichever_rows_stand_beside_it() -> None:
    asking = Asking(temperature=1.0, seed=5)
    together = chooser(asking)(logits(), range(4))
    alone = [chooser(asking)(logits()[row : row + 1], [row])[0] for row in range(4)]
    as_first = [
        chooser(Asking(temperature=1.0, seed=5 + row))(logits()[row : row + 1], [0])[0]
        for row in range(4)
    ]
    assert together == alone == as_first


def test_without_a_seed_draws_differ() -> None:
    flat = torch.zeros(1, 1000)
    draws = {chooser(Asking(temperature=1.0))(flat, [0])[0] for _ in range(10)}
    assert len(draws) > 1


def test_a_tiny_temperature_is_greedy_and_no_overflow() -> None:
    found = chooser(Asking(temperature=1e-30, seed=0))(logits() * 1e4, range(4))
    assert found == logits().argmax(dim=-1).tolist()
