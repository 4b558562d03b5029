"""Normalised pixels: the same numbers on every path, whatever shape they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manako.core.family import PixelRule
from manako.nn.batch import CHUNK_VALUES, normalise

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def plainly(pixels: torch.Tensor, copies: int = 0) -> torch.Tensor:
    """The rule in one pass over everything, as it is done on a device that is no CPU."""
    mean, std = (torch.tensor(each).view(-1, 1, 1) * (1.0 / (1 / 255)) for each in (MEAN, STD))
    found = (pixels.float() - mean) / std
    return torch.stack([found] * copies, dim=2).flatten(1) if copies else found


@pytest.mark.parametrize("patches", [0, 1, CHUNK_VALUES // 588, CHUNK_VALUES // 588 * 2 + 3])
def test_patches_in_chunks_are_the_same_to_the_last_bit(patches: int) -> None:
    pixels = noise(patches, 3, 14, 14)
    still = PixelRule(mean=MEAN, std=STD, temporal_copies=2)
    assert torch.equal(normalise(pixels, still), plainly(pixels, 2))
    assert torch.equal(normalise(pixels, PixelRule(mean=MEAN, std=STD)), plainly(pixels))


def test_whole_pictures_are_larger_than_a_chunk() -> None:
    pixels = noise(3, 3, 256, 256)
    assert torch.equal(normalise(pixels, PixelRule(mean=MEAN, std=STD)), plainly(pixels))
