"""A tiny model and a small data set, made once; `train_worlds` by its plain name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # bits are promised on a CPU

from train_worlds import make_model, make_recipe, make_store

from manako.core.recipe import Recipe


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
