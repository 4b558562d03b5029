"""A tiny model and a small data set, made once; `train_worlds` by its plain name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # bits are promised on a CPU

from rank_runs import EPSILON, STEPS, MakeRun, Zygote
from train_worlds import make_model, make_recipe, make_store, picture

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.recipe import Recipe
from manako.core.row import row_of
from manako.data.writer import write_store


@dataclass(frozen=True)
class World:
    """Where the shared model and data lie."""

    model: Path
    data: Path
    held_out: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(
        make_model(folder / "model"),
        make_store(folder / "data", 60),
        make_store(folder / "held-out", 12, first=1000),
    )


@pytest.fixture
def recipe(world: World, tmp_path: Path) -> Callable[..., Recipe]:
    """Makes a recipe on the shared model and data; `run` names the output folder."""

    def make(run: str = "run", **changes: Any) -> Recipe:
        return make_recipe(world.model, world.data, tmp_path / run, **changes)

    return make


@pytest.fixture(scope="module")
def one_zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture
def zygote(one_zygote: Zygote) -> Iterator[Zygote]:
    yield one_zygote
    one_zygote.end_what_runs()


@pytest.fixture(scope="module")
def few_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every seventh has a picture."""
    folder = tmp_path_factory.mktemp("few") / "data"
    with write_store(folder) as writer:
        for number in range(70):
            about = (picture("red"),) if number % 7 == 0 else ()
            turns = (
                Message("user", (*about, Text(f"say {number}"))),
                Message("assistant", (Text(f"it is {number}, and I see it"),)),
            )
            writer.add(row_of(Conversation(turns, id=f"few-{number}", source="test")))
    return folder


@pytest.fixture(scope="module")
def torn_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every third has a picture whose header alone can be read."""
    folder = tmp_path_factory.mktemp("torn") / "data"
    with write_store(folder) as writer:
        for number in range(40):
            shown = picture("blue", width=84, height=56)
            torn = shown.data[:48] + bytes(12) + shown.data[60:]
            data = torn if number % 3 == 0 else shown.data
            turns = (
                Message("user", (Image(data), Text(f"say {number}"))),
                Message("assistant", (Text(f"it is {number}"),)),
            )
            writer.add(row_of(Conversation(turns, id=f"torn-{number}", source="test")))
    return folder


@pytest.fixture
def make_run(world: Any, tmp_path: Path) -> MakeRun:
    def make(name: str, **changes: Any) -> Recipe:
        fields = {"max_steps": STEPS, "global_batch_packs": 4, "cpu_threads": 1}
        fields |= {"adam_epsilon": EPSILON, **changes}
        data = fields.pop("data_folder", world.data)
        return make_recipe(world.model, data, tmp_path / name, ddp_timeout=60, **fields)

    return make
