"""Resizing and cutting give the same bytes however a picture lies in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from manako.families._shared.pixels import STRIP_TOKENS, cut_patches, resize_torch_aa


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("size", "to"), [((97, 61), (56, 28)), ((31, 500), (28, 252)), ((9, 11), (28, 56))]
)
def test_resized_pixels_equal_those_from_planes(
    size: tuple[int, int], to: tuple[int, int], mode: str
) -> None:
    """Planes are what transformers' torchvision processors hand to the kernel."""
    pixels = noise(*size)
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    expected = functional.interpolate(planes, size=to, mode=mode, antialias=True)
    four = np.concatenate([pixels, np.full((*size, 1), 255, np.uint8)], axis=2)
    others = np.concatenate([pixels, pixels], axis=2)  # a view of these is no picture of four
    for shown in (pixels, four[:, :, :3], others[:, :, :3]):
        found = resize_torch_aa(shown, to[1], to[0], mode=mode)
        assert np.array_equal(found.transpose(2, 0, 1), expected[0].numpy())


@pytest.mark.parametrize("rows", [1, STRIP_TOKENS, STRIP_TOKENS * 2 + 1])
def test_patches_cut_in_strips_are_those_of_the_whole(rows: int) -> None:
    patch, merge, columns = 7, 2, 3
    pixels = noise(rows * patch * merge, columns * patch * merge)
    blocks = pixels.reshape(rows, merge, patch, columns, merge, patch, 3)
    expected = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3, patch, patch)
    assert np.array_equal(cut_patches(pixels, patch=patch, merge=merge), expected)
    by_columns = np.asfortranarray(pixels)
    assert np.array_equal(cut_patches(by_columns, patch=patch, merge=merge), expected)
