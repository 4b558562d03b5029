"""Makes the golden hashes of DeepSeek-VL2, whose processor is in no release of transformers.

What its authors' public code does to pixels (deepseek-ai/DeepSeek-VL2, MIT, processor of ef9f91e) is
done here once more, by Pillow's own functions and with nothing of `families`: the candidate that
keeps most pixels, `ImageOps.pad` with the mean's grey, and crops row by row behind the whole. Run in
Manako's own environment:

    PYTHONPATH=src python -m manako.verify.golden.make_deepseek_vl2

Each variant has the `arguments` of `reference` below and the `settings` of our processor that mean
the same.
"""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manako.verify.golden.make import _text, _written
from manako.verify.golden.pictures import pattern

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

FILE = Path(__file__).with_name("deepseek_vl2.json")
SIZES = (
    (1, 1), (1, 2), (200, 1), (1, 200), (384, 384), (383, 385), (640, 480), (481, 641), (200, 1000),
    (2000, 300), (1920, 1080), (1024, 768), (1000, 1000), (41, 4000),
)  # fmt: skip
PUBLISHED = (
    (384, 384), (384, 768), (768, 384), (384, 1152), (1152, 384), (384, 1536), (1536, 384),
    (768, 768), (384, 1920), (1920, 384), (384, 2304), (2304, 384), (768, 1152), (1152, 768),
    (384, 2688), (2688, 384), (384, 3072), (3072, 384), (768, 1536), (1536, 768), (384, 3456),
    (3456, 384), (1152, 1152),
)  # fmt: skip
"""candidate_resolutions of the published config.json, in its order."""


def reference(
    picture: Pillow, *, candidates: list[tuple[int, int]], pictures: int
) -> np.ndarray[Any, Any]:
    """uint8 [N, 3, t, t] of one of `pictures` pictures in a conversation."""
    from PIL import ImageOps

    side = candidates[0][0]
    grey = (int(0.5 * 255),) * 3
    best = _best(picture.size, candidates) if pictures <= 2 else (side, side)
    views = [ImageOps.pad(picture, (side, side), color=grey)]
    local = ImageOps.pad(picture, best, color=grey)
    corners = [(x, y) for y in range(0, best[1], side) for x in range(0, best[0], side)]
    views += [local.crop((x, y, x + side, y + side)) for x, y in corners]
    return np.stack([np.asarray(view).transpose(2, 0, 1) for view in views])


def _best(size: tuple[int, int], candidates: list[tuple[int, int]]) -> tuple[int, int]:
    """Most pixels kept; then least of the candidate wasted; then the earlier one."""

    def rank(candidate: tuple[int, int]) -> tuple[int, float]:
        scale = min(candidate[0] / size[0], candidate[1] / size[1])
        kept = min(int(size[0] * scale) * int(size[1] * scale), math.prod(size))
        return kept, kept - math.prod(candidate)

    return max(candidates, key=rank)


def main() -> None:
    """Run the reference over all variants and sizes, and write what it gave."""
    from PIL import Image, ImageOps

    variants = [_variant(384, 1), _variant(384, 3), _variant(42, 2)]
    entries = []
    for number, variant in enumerate(variants):
        candidates = [tuple(size) for size in variant["arguments"]["candidates"]]
        for size in SIZES:
            picture = Image.fromarray(pattern(*size))
            if not min(ImageOps.contain(picture, candidates[0]).size):
                continue  # Pillow 12.0 refuses it, and so do we; 13 leaves nothing but grey
            pixels = reference(picture, candidates=candidates, pictures=variant["pictures"])
            entries.append({"variant": number, "size": list(size), **_written(pixels, size, 0)})
    made_with = {
        "processor": "the processor in deepseek-ai/DeepSeek-VL2 (its Pillow calls)",
        "pillow": importlib.metadata.version("pillow"),
    }
    golden = {"variants": variants, "made_with": made_with, "entries": entries}
    FILE.write_text(_text(golden), encoding="utf-8")


def _variant(tile: int, pictures: int) -> dict[str, Any]:
    sheets = [[width // 384, height // 384] for width, height in PUBLISHED]
    patches = tile // 14
    return {
        "arguments": {"candidates": [[c * tile, r * tile] for c, r in sheets]},
        "settings": {"tile": tile, "side": math.ceil(patches / 2), "sheets": sheets},
        "pictures": pictures,
    }


if __name__ == "__main__":
    main()
