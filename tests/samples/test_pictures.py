"""What is drawn stands where the plan says, and Pillow reads the files back exactly."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manako.samples.pictures import CELL_PIXELS, MARK_RGB, Mark, Sheet, compose, encode_pngs
from manako.samples.scans import Glyphs, load_scans, plain_glyphs


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    return plain_glyphs(load_scans().pick(np.arange(30)))


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), count=st.integers(1, 3), seed=st.integers()
)
def test_png_files_hold_the_pixels(height: int, width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(abs(seed))
    pixels = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    for png, expected in zip(encode_pngs(pixels), pixels, strict=True):
        with Image.open(io.BytesIO(png)) as image:
            image.load()
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("cells", [2, 4])
def test_digits_fill_from_the_left_and_marks_lie_under_their_digit(
    glyphs: Glyphs, cells: int
) -> None:
    sheets = [
        Sheet(cells, (0, 1), (0, 1), (Mark(1, colour),)) for colour in MARK_RGB for _ in range(4)
    ]
    pixels = compose(sheets, glyphs, np.random.default_rng(0))
    assert pixels.shape == (20, CELL_PIXELS, CELL_PIXELS * cells, 3)
    inner = pixels[:, 3:23].reshape(20, 20, cells, CELL_PIXELS, 3)[:, :, :, 4:24]
    darkest = inner.min((1, 3, 4)).astype(int)
    assert (darkest[:, :2] < 150).all()
    assert (darkest[:, 2:] > 190).all()
    for sheet, picture in zip(sheets, pixels, strict=True):
        line = picture[24:26].reshape(2, cells, CELL_PIXELS, 3)[:, :, 6:22].mean((0, 2))
        distances = np.abs(line[:, None] - np.array(list(MARK_RGB.values()))).sum(-1)
        assert list(MARK_RGB)[distances[1].argmin()] == sheet.marks[0].colour
        assert distances[1].min() <= 3 * 12 + 1
        assert (np.delete(distances.min(1), 1) > 150).all()


def test_a_form_without_digits_is_paper_only(glyphs: Glyphs) -> None:
    pixels = compose([Sheet(2, (), ())], glyphs, np.random.default_rng(0))
    assert pixels[0, 2:-2, 2:26].min() > 190
