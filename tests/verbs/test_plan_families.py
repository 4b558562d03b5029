"""Every family is planned: parameters and bytes are those of what is really built, and three steps
of a recipe run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import InputError
from manako.core.family import families
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.nn.checkpoint import count_parameters, load_model
from manako.train.operations import open_operations
from manako.train.parts import prepare_parts
from manako.verbs.plan import look

FAMILIES = sorted(families().items)
TEXT_ONLY = [name for name in FAMILIES if not families().items[name].takes_images]
FLOAT32_BYTES = 4
Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("planned") / name
            families().items[name].make_tiny(made[name])
        return made[name]

    return make


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Six rows with a picture, and six without."""
    folder = tmp_path_factory.mktemp("stores")
    picture = Image.of(np.full((60, 84, 3), 200, np.uint8))
    for has_pictures, shown in ((True, (picture,)), (False, ())):
        with write_store(folder / str(has_pictures), origin={"format": "test"}) as writer:
            for number in range(6):
                asked = Message("user", (*shown, Text(f"何番? {number}")))
                turns = (asked, Message("assistant", (Text("これです。"),)))
                writer.add(row_of(Conversation(turns, id=str(number))))
    return {has: folder / str(has) for has in (True, False)}


def recipe_of(folder: Path, data: Path, method: str = "full") -> Recipe:
    return Recipe(
        model=str(folder),
        data=(Source(path=str(data)),),
        output_dir=str(folder.parent / "never"),
        method=method,  # type: ignore[arg-type]
        lora_r=3,
        pack_tokens=2048,
        global_batch_packs=1,
        max_steps=5,
        dataloader_num_workers=0,
    )


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_and_bytes_are_those_of_the_model(
    name: str, method: str, checkpoint: Checkpoint, stores: dict[bool, Path]
) -> None:
    folder, family = checkpoint(name), families().items[name]
    recipe = recipe_of(folder, stores[family.takes_images], method)
    planned = look(recipe).plan
    model = load_model(folder, family)
    parts = {part: count.parameters for part, count in planned.parts.items()}
    assert parts == count_parameters(model, family)
    weight_bytes = sum(p.numel() for p in model.parameters()) * FLOAT32_BYTES
    made = prepare_parts(model, family, recipe)
    trained = {part: count.trained for part, count in planned.parts.items()}
    assert trained == {part: count.trained for part, count in made.items()}
    memory = planned.memory
    assert (memory.weights, memory.gradients) == (weight_bytes, sum(trained.values()) * 4)
    assert memory.total > memory.weights + memory.adapters + memory.optimizer
    assert bool(memory.inputs and memory.activations_language) is True
    assert planned.refused_rows == planned.too_long_rows == 0
    assert open_operations(model, family, recipe, "cpu").why_not == ""


@pytest.mark.parametrize("name", FAMILIES)
def test_three_steps_of_every_family_are_measured(
    name: str, checkpoint: Checkpoint, stores: dict[bool, Path]
) -> None:
    family = families().items[name]
    planned = look(recipe_of(checkpoint(name), stores[family.takes_images])).measured().plan
    assert planned.measured is not None
    assert len(planned.measured.step_seconds) == 3
    assert planned.seconds == pytest.approx(5 * planned.measured.seconds)


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_a_text_model_is_not_planned_on_pictures(
    name: str, checkpoint: Checkpoint, stores: dict[bool, Path]
) -> None:
    with pytest.raises(InputError, match="not one of 6 sampled rows can be used: 6 are refused"):
        look(recipe_of(checkpoint(name), stores[True]))
