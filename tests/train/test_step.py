"""One step: how it is cut into packs changes nothing, and only trained positions are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from train_worlds import make_conversation

from manako.core.example import Example, Pack
from manako.families.qwen2_vl import FAMILY
from manako.nn.attention import use_segments
from manako.nn.batch import Batch, make_batch
from manako.nn.checkpoint import load_model
from manako.train.step import clip_gradients, trained_by_part, training_step, update


@pytest.fixture(scope="module")
def processor(world: Any) -> Any:
    return FAMILY.open(world.model)


@pytest.fixture
def model(world: Any) -> Any:
    model = load_model(world.model, FAMILY)
    use_segments(model)
    return model


@pytest.fixture(scope="module")
def examples(processor: Any) -> list[Example]:
    return [processor.encode(make_conversation(number)) for number in range(8)]


def batches(processor: Any, groups: Sequence[Sequence[Example]]) -> list[Batch]:
    packs = [Pack(examples=tuple(group), pack_tokens=1024) for group in groups]
    return [make_batch(pack, processor, device="cpu", dtype=torch.float32) for pack in packs]


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def trained_tokens(examples: Sequence[Example]) -> int:
    return sum(int(example.trained.sum()) for example in examples)


def test_packs_one_after_another_equal_one_big_pack(
    model: Any, processor: Any, examples: list[Example]
) -> None:
    count = trained_tokens(examples)
    whole_loss = training_step(model, batches(processor, [examples]), trained_tokens=count)
    whole = gradients(model)
    model.zero_grad()
    cut = [examples[:1], examples[1:3], examples[3:]]
    cut_loss = training_step(model, batches(processor, cut), trained_tokens=count)
    # float32 sums in another order; seen 2e-7 for the loss, 1e-6 of the largest gradient
    assert float(cut_loss) == pytest.approx(float(whole_loss), rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    for name, gradient in gradients(model).items():
        assert float((gradient - whole[name]).abs().max()) <= 1e-5 * largest, name


def test_the_loss_is_the_mean_over_trained_tokens(
    model: Any, processor: Any, examples: list[Example]
) -> None:
    loss = training_step(
        model, batches(processor, [[e] for e in examples]), trained_tokens=trained_tokens(examples)
    )
    total = 0.0
    for example in examples:
        (batch,) = batches(processor, [[example]])
        batch.inputs.pop("logits_to_keep")
        with torch.no_grad():
            logits = model(**batch.inputs).logits[0]
        chances = logits.log_softmax(-1)
        for place in example.trained.nonzero()[0]:
            total -= float(chances[place - 1, int(example.input_ids[place])])
    assert float(loss) == pytest.approx(total / trained_tokens(examples), rel=1e-5)


def test_only_trained_positions_reach_the_head(
    model: Any, processor: Any, examples: list[Example]
) -> None:
    rows: list[int] = []
    hook = model.lm_head.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[1])
    )
    training_step(model, batches(processor, [examples]), trained_tokens=1)
    hook.remove()
    assert rows == [trained_tokens(examples)]


def test_clipping_bounds_the_common_norm_and_tells_the_norm_before(
    model: Any, processor: Any, examples: list[Example]
) -> None:
    training_step(model, batches(processor, [examples]), trained_tokens=1)
    parts = trained_by_part(model, FAMILY)
    before = {
        part: torch.cat([p.grad.flatten() for p in parameters]).norm()
        for part, parameters in parts.items()
    }
    norms = clip_gradients(parts, 0.5)
    assert {part: float(norm) for part, norm in norms.items()} == pytest.approx(
        {part: float(norm) for part, norm in before.items()}, rel=1e-5
    )
    after = torch.cat([p.grad.flatten() for ps in parts.values() for p in ps]).norm()
    assert float(after) == pytest.approx(0.5, rel=1e-4)


def test_no_clipping_leaves_gradients_alone(
    model: Any, processor: Any, examples: list[Example]
) -> None:
    training_step(model, batches(processor, [examples]), trained_tokens=1)
    before = gradients(model)
    clip_gradients(trained_by_part(model, FAMILY), 0.0)
    assert all(torch.equal(before[name], g) for name, g in gradients(model).items())


def test_an_update_lowers_the_loss_and_forgets_the_gradients(
    model: Any, processor: Any, examples: list[Example]
) -> None:
    count = trained_tokens(examples)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first = training_step(model, batches(processor, [examples]), trained_tokens=count)
    update([optimizer])
    assert not gradients(model)
    second = training_step(model, batches(processor, [examples]), trained_tokens=count)
    assert float(second) < float(first)
