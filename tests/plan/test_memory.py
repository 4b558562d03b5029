"""The peak that the plan predicts, against the storages that a real training step allocates."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import InputError
from manako.core.example import Lengths, Pack
from manako.core.files import read_json
from manako.core.recipe import Recipe, Source
from manako.plan.activations import read_shapes
from manako.plan.packs import PackCost
from manako.plan.plan import Data, Measured, count_memory, make_plan

TOLERANCE = 0.05
"""The plan takes the larger of two moments as if all that a pass keeps were there at both, so it is
about one per cent high; on the tiny model norms' variances and the like take that back."""


def picture_row() -> Conversation:
    picture = Image.of(np.full((112, 140, 3), 200, np.uint8))
    return Conversation(
        (
            Message("user", (picture, Text("何が見えますか。"))),
            Message("assistant", (Text("長い答えです。" * 8),)),
        )
    )


def recipe(folder: Path, train: dict[str, str], **changes: Any) -> Recipe:
    return Recipe(
        model=str(folder), data=(Source(path="d"),), output_dir="o", train=train, **changes
    )


def peak_of_a_step(recipe: Recipe, pack: Pack) -> int:
    """Bytes of all storages at the worst moment of the second step, when there is optimizer state."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from manako.families.qwen2_vl import FAMILY
    from manako.nn.attention import use_segments
    from manako.nn.batch import make_batch
    from manako.nn.checkpoint import load_model
    from manako.train.optimizers import build_optimizers
    from manako.train.parts import prepare_parts
    from manako.train.step import training_step, update

    class Count(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: dict[int, int] = {}
            self.live = self.peak = 0

        def add(self, tensor: Any) -> None:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.sizes:
                self.sizes[key] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.drop, key)

        def drop(self, key: int) -> None:
            self.live -= self.sizes.pop(key, 0)

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = function(*args, **(kwargs or {}))
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    self.add(leaf)
            return out

    folder = Path(recipe.model)
    processor = FAMILY.open(folder)
    model = load_model(folder, FAMILY)
    use_segments(model)
    prepare_parts(model, FAMILY, recipe)
    optimizers = build_optimizers(model, FAMILY, recipe)
    count = Count()
    for parameter in model.parameters():
        count.add(parameter)
    with count:
        for _ in range(2):
            count.peak = count.live
            batches = (
                make_batch(pack, processor, device="cpu", dtype=torch.float32)
                for _ in range(recipe.global_batch_packs)
            )
            training_step(model, batches, trained_tokens=pack.trained_tokens)
            update(optimizers)
    return count.peak


@pytest.mark.parametrize(
    ("train", "packs", "optim"),
    [
        ({"language": "1e-4", "projector": "1e-4", "vision": "1e-4"}, 1, "adamw"),
        ({"language": "1e-4", "projector": "1e-4", "vision": "1e-4"}, 2, "muon"),
        ({"projector": "1e-4"}, 2, "adamw"),
    ],
    ids=["all", "two-packs-muon", "projector"],
)
def test_the_peak_of_a_step_is_predicted(
    tiny_qwen: Path, train: dict[str, str], packs: int, optim: str
) -> None:
    from manako.families.qwen2_vl import FAMILY
    from manako.verbs.plan import take_inventory

    example = FAMILY.open(tiny_qwen).encode(picture_row())
    pack = Pack(examples=(example,) * 5, pack_tokens=4096)
    chosen = recipe(tiny_qwen, train, global_batch_packs=packs, optim=optim)
    cost = PackCost(
        rows=5,
        tokens=pack.tokens,
        trained_tokens=pack.trained_tokens,
        vision_patches=5 * example.lengths.vision_patches,
    )
    shapes = read_shapes(read_json(tiny_qwen / "config.json"))
    memory = count_memory(chosen, take_inventory(tiny_qwen, FAMILY), shapes, cost)
    assert memory.total == pytest.approx(peak_of_a_step(chosen, pack), rel=TOLERANCE)


def make(tiny_qwen: Path, **changes: Any) -> Any:
    from manako.families.qwen2_vl import FAMILY
    from manako.verbs.plan import take_inventory

    chosen = recipe(
        tiny_qwen, {"language": "1e-4"}, pack_tokens=100, global_batch_packs=2, **changes
    )
    row = Lengths(text_tokens=10, image_tokens=10, trained_tokens=4, vision_patches=40)
    measured = Measured(
        step_seconds=[9.0, 1.0, 2.0],
        peak_memory_bytes=10**9,
        open_memory_bytes=5 * 10**8,
        memory_is_process=True,
    )
    return make_plan(
        chosen,
        take_inventory(tiny_qwen, FAMILY),
        read_shapes(read_json(tiny_qwen / "config.json")),
        Data(rows=1000, sample=[row] * 8, looked_at=10, refused=1, too_long=1),
        measured=measured,
    )


def test_steps_are_estimated_from_rows_that_can_be_used(tiny_qwen: Path) -> None:
    plan = make(tiny_qwen, num_train_epochs=2.0)
    assert plan.rows_per_step == 10
    assert plan.steps == 2 * 800 / 10
    assert not plan.is_counted
    assert plan.seconds == plan.steps * 2.0


def test_steps_of_the_recipe_are_taken_as_they_are(tiny_qwen: Path) -> None:
    plan = make(tiny_qwen, max_steps=7)
    assert (plan.steps, plan.is_counted) == (7, True)


def test_figures_carry_their_unit_and_are_plain(tiny_qwen: Path) -> None:
    import json

    found = json.loads(json.dumps(make(tiny_qwen).as_dict()))
    assert found["memory"]["total_bytes"] == max(
        found["memory"]["backward_peak_bytes"], found["memory"]["update_peak_bytes"]
    )
    assert found["disk_bytes"] == 3 * found["checkpoint_bytes"]


def test_a_process_is_expected_to_hold_more_than_its_tensors(tiny_qwen: Path) -> None:
    plan = make(tiny_qwen)
    low, high = plan.process_range
    before = 5 * 10**8 - plan.memory.weights
    assert before + plan.memory.total < low < high < before + 2 * plan.memory.total


def test_data_of_which_nothing_can_be_encoded_is_refused() -> None:
    with pytest.raises(InputError, match="not one of 5"):
        Data(rows=5, sample=[], looked_at=5, refused=5)
