"""A tiny model that says something: random weights wide enough apart that greedy answers vary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manako.core.conversation import Image
from manako.infer.open import Model, open_model


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its answers hold bytes that make no character, control tokens, and now and then an end."""
    from manako.families.qwen2_vl import FAMILY

    folder = tmp_path_factory.mktemp("checkpoints") / "lively"
    FAMILY.make_tiny(folder, tie_embeddings=False, initializer_range=0.3, vocabulary=300)
    return folder


@pytest.fixture(scope="session")
def model(lively: Path) -> Model:
    return open_model(lively, device="cpu")


@pytest.fixture(scope="session")
def picture() -> Callable[[int, int], Image]:
    """A picture of noise, the same for the same size."""

    def make(width: int, height: int) -> Image:
        noise = np.random.default_rng(width * 1000 + height)
        return Image.of(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))

    return make
