"""The middle of a resized picture is bit for bit what the whole resize has there."""

from __future__ import annotations

import numpy as np
import pytest

from manako.families._shared import crop
from manako.families._shared.pixels import resize_torch_aa
from manako.verify.golden.pictures import pattern

SIZES = (
    (1, 40), (40, 1), (1, 1), (3, 100), (100, 3), (5, 399), (399, 5), (10, 41), (41, 10), (50, 50),
    (51, 50), (60, 1000), (1000, 60), (7, 7000), (7000, 7), (336, 4001), (700, 9000),
)  # fmt: skip


CASES = [
    (edge, size)
    for edge in (28, 336)
    for size in SIZES
    if max(size) / min(size) * edge**2 < 10_000_000  # the whole is made, to compare
]


@pytest.mark.parametrize(("edge", "size"), CASES)
def test_the_part_is_the_middle_of_the_whole(
    edge: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = crop.shortest_edge(*size, edge)
    pixels = pattern(*size)
    whole = resize_torch_aa(pixels, width, height)
    top, left = (height - edge) // 2, (width - edge) // 2
    expected = whole[top : top + edge, left : left + edge]
    assert np.array_equal(crop.resize_and_crop(pixels, width, height, edge), expected)
    monkeypatch.setattr(crop, "WHOLE_UP_TO", 0)
    assert np.array_equal(crop.resize_and_crop(pixels, width, height, edge), expected)


def test_the_shortest_edge_is_that_of_the_reference() -> None:
    from transformers.image_transforms import get_resize_output_image_size

    for width in (1, 2, 13, 335, 336, 337, 1240, 4000):
        for height in (1, 2, 13, 335, 336, 337, 1754, 4000):
            picture = np.broadcast_to(np.zeros((), np.uint8), (3, height, width))
            expected = get_resize_output_image_size(picture, 336, default_to_square=False)
            assert crop.shortest_edge(width, height, 336) == expected[::-1]


def test_a_line_of_pixels_takes_no_memory_for_what_is_thrown_away() -> None:
    import tracemalloc

    tracemalloc.start()
    crop.resize_and_crop(pattern(1, 2000), *crop.shortest_edge(1, 2000, 336), 336)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 336 * 336 * 2000 * 3
