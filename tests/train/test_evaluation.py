"""Validation loss: every trained token of the held-out rows counts once, however they are packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from manako.core.example import Pack
from manako.core.recipe import Evaluation, Recipe
from manako.data.store import Store
from manako.data.too_long import Fitted
from manako.families.qwen2_vl import FAMILY
from manako.nn.attention import use_segments
from manako.nn.batch import make_batch, token_losses
from manako.nn.checkpoint import load_model
from manako.train.evaluation import SomeRows, Validation

CPU = torch.device("cpu")


def test_it_is_the_mean_over_tokens_and_leaves_the_model_as_it_was(
    recipe: Callable[..., Recipe], world: Any
) -> None:
    processor = FAMILY.open(world.model)
    model = load_model(world.model, FAMILY)
    use_segments(model)
    model.train()
    store = Store.open(world.held_out)
    made = recipe(eval=Evaluation(data=str(world.held_out), every_steps=1))
    fitted = Fitted(processor=processor, pack_tokens=made.pack_tokens, policy="error")
    validation = Validation(made, store, fitted)
    found = [validation.loss(model, device=CPU, dtype=torch.float32) for _ in range(2)]
    assert model.training
    losses = []
    with torch.no_grad():
        for row in range(store.rows):
            pack = Pack(examples=(processor.encode(store.conversation(row)),), pack_tokens=128)
            batch = make_batch(pack, processor, device=CPU, dtype=torch.float32)
            losses.append(token_losses(model, batch))
    assert found[0] == found[1]
    # float32 losses, summed in float64; packed and alone differ by rounding, seen 1e-7
    assert found[0] == pytest.approx(float(torch.cat(losses).double().mean()), rel=1e-5)


@pytest.mark.parametrize("most", [1, 5, 12, 100])
def test_at_most_so_many_rows_are_taken_spread_over_all(world: Any, most: int) -> None:
    store = Store.open(world.held_out)
    rows = SomeRows(store, most)
    taken = [rows.conversation(index).id for index in range(rows.rows)]
    everything = [store.conversation(index).id for index in range(store.rows)]
    assert rows.rows == min(most, store.rows)
    assert taken == sorted(set(taken), key=everything.index)
    assert taken[0] == everything[0]
    assert [rows.outline(index).id for index in range(rows.rows)] == taken
    assert most < 5 or everything.index(taken[-1]) >= 9
