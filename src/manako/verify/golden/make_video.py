"""Makes the golden hashes of a family's videos with transformers' own video processor.

Run once, in an environment that has a torchvision matching its torch (Manako's has none):

    PYTHONPATH=src python -m manako.verify.golden.make_video src/manako/verify/golden/qwen3_vl_video.json

The file is as for `make.py`: `class` names the video processor, `variants` hold its `arguments` and
the `settings` of ours, `output` the key of the pixels where that is not `pixel_values_videos`. Sizes are (width, height, frames).
"""

from __future__ import annotations

import hashlib
import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from manako.verify.golden.make import _made_with, _text
from manako.verify.golden.pictures import moving_pattern

SIZES = (
    (1, 1, 2), (28, 28, 1), (28, 28, 2), (56, 28, 3), (13, 200, 4), (200, 13, 5), (64, 48, 16),
    (320, 240, 7), (481, 641, 2), (640, 480, 3), (41, 4000, 2), (4000, 41, 2), (100, 100, 24),
    (1000, 300, 6),
)  # fmt: skip


def main(file: Path) -> None:
    """Run the reference over all variants and sizes, and write what it gave."""
    import transformers

    golden: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    entries = []
    for number, variant in enumerate(golden["variants"]):
        arguments = {"do_rescale": False, "do_normalize": False, "do_sample_frames": False}
        processor = getattr(transformers, golden["class"])(
            **arguments, **deepcopy(variant["arguments"])
        )  # a reference may change what it is given
        for size in SIZES:
            found = _pixels(processor, *size, golden.get("output", "pixel_values_videos"))
            if found is not None:
                entries.append({"variant": number, "size": list(size), **found})
    golden["made_with"] = _made_with(golden["class"])
    golden["entries"] = entries
    file.write_text(_text(golden), encoding="utf-8")


def _pixels(
    processor: Any, width: int, height: int, frames: int, output: str
) -> dict[str, Any] | None:
    video = np.stack(moving_pattern(width, height, frames))
    try:
        found = processor(videos=[video], return_tensors="pt", input_data_format="channels_last")
    except (ValueError, ZeroDivisionError, RuntimeError) as error:
        sys.stderr.write(f"{width} × {height} × {frames}: the reference refuses: {error}\n")
        return None
    pixels = np.asarray(found[output])
    exact = pixels.astype(np.uint8)
    if not (exact == pixels).all():
        raise SystemExit(f"{width} × {height} × {frames}: the reference's pixels are no uint8")
    return {
        "shape": list(pixels.shape),
        "sha256": hashlib.sha256(np.ascontiguousarray(exact).tobytes()).hexdigest(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
