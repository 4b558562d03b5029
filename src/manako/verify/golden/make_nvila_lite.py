"""Makes the golden hashes of NVILA-Lite, whose pictures are made by the code beside its weights.

What its authors' public code does to pixels (NVlabs/VILA, Apache-2.0) is done here once more, by
Pillow's own functions and with nothing of `families`: the grid whose ratio is nearest, one resize,
crops row by row, and the whole picture last. Run in Manako's own environment:

    PYTHONPATH=src python -m manako.verify.golden.make_nvila_lite

Each variant has the `arguments` of `reference` below and the `settings` of our processor that mean
the same.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manako.verify.golden.make import _text, _written
from manako.verify.golden.pictures import pattern

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

FILE = Path(__file__).with_name("nvila_lite.json")
SIZES = (
    (1, 1), (1, 2), (200, 1), (1, 200), (448, 448), (447, 449), (512, 512), (634, 634), (640, 480),
    (481, 641), (200, 1000), (2000, 300), (1920, 1080), (1024, 768), (41, 4000),
)  # fmt: skip


def reference(picture: Pillow, *, tile: int, most: int, pictures: int) -> np.ndarray[Any, Any]:
    """uint8 [N, 3, t, t] of one of `pictures` pictures in a conversation."""
    columns, rows = _grid(picture.size, tile, most) if pictures == 1 else (1, 1)
    sheet = picture.resize((columns * tile, rows * tile))
    corners = [(c * tile, r * tile) for r in range(rows) for c in range(columns)]
    views = [sheet.crop((x, y, x + tile, y + tile)) for x, y in corners]
    if len(views) > 1:
        views.append(picture.resize((tile, tile)))
    return np.stack([np.asarray(view).transpose(2, 0, 1) for view in views])


def _grid(size: tuple[int, int], tile: int, most: int) -> tuple[int, int]:
    """The nearest ratio; of equally near ones the larger, where the picture half fills it."""
    sides = range(1, most + 1)
    grids = sorted(
        ((c, r) for c in sides for r in sides if c * r <= most), key=lambda g: g[0] * g[1]
    )
    gaps = [abs(size[0] / size[1] - c / r) for c, r in grids]
    nearest = [grid for grid, gap in zip(grids, gaps, strict=True) if gap == min(gaps)]
    filled = [g for g in nearest if size[0] * size[1] > 0.5 * tile * tile * g[0] * g[1]]
    return [nearest[0], *filled][-1]


def main() -> None:
    """Run the reference over all variants and sizes, and write what it gave."""
    from PIL import Image

    variants = [
        {
            "arguments": {"tile": tile, "most": most},
            "settings": {"tile": tile, "side": -(-(tile // 14) // 2), "max_tiles": most},
            "pictures": pictures,
        }
        for tile, most, pictures in ((448, 12, 1), (448, 12, 2), (56, 12, 1), (56, 4, 1))
    ]
    entries = []
    for number, variant in enumerate(variants):
        arguments: Any = variant["arguments"]
        for size in SIZES:
            picture = Image.fromarray(pattern(*size))
            pixels = reference(picture, **arguments, pictures=variant["pictures"])  # type: ignore[arg-type]
            entries.append({"variant": number, "size": list(size), **_written(pixels, size, 0)})
    made_with = {
        "processor": "the code in NVlabs/VILA (its Pillow calls)",
        "pillow": importlib.metadata.version("pillow"),
    }
    golden = {"variants": variants, "made_with": made_with, "entries": entries}
    FILE.write_text(_text(golden), encoding="utf-8")


if __name__ == "__main__":
    main()
