"""Makes the golden values of Sarashina-Vision, whose pictures are made by the code beside its weights.

What its processor does, by its preprocessor_config.json and model card (MIT), is done here once
more from other people's pieces and with nothing of `families`: rescaled and normalised in float32
by the formula, the target size by `smart_resize` and the order by `patchify` of transformers'
Qwen2-VL (Apache-2.0), and between them torch's own bicubic resize of floats. Run in Manako's own
environment:

    PYTHONPATH=src python -m manako.verify.golden.make_sarashina2_vision

Each variant has the `arguments` of `reference` below and the `settings` of our processor that mean
the same; the second is sarashina2.2-ocr.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy as np

from manako.verify.golden.make import SIZES, _text, _written
from manako.verify.golden.pictures import pattern

FILE = Path(__file__).with_name("sarashina2_vision.json")
SAMPLES = 120
PATCH, MERGE, FRAMES = 14, 2, 2
PUBLISHED = ((1190, 665), (1008, 1008), (1920, 1080))


def reference(pixels_HWC: np.ndarray[Any, Any], **limits: int) -> np.ndarray[Any, Any]:
    """float32 [patches, C, frames, p, p], before patches are made flat."""
    import torch
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as qwen

    rows, columns = pixels_HWC.shape[:2]
    height, width = qwen.smart_resize(rows, columns, factor=PATCH * MERGE, **limits)
    values_HWC = (
        pixels_HWC.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)
    ) / np.float32(0.5)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(values_HWC).permute(2, 0, 1)[None],
        size=(height, width),
        mode="bicubic",
        align_corners=False,
        antialias=False,
    )
    processor: Any = qwen.Qwen2VLImageProcessorPil()
    patches, _, _ = processor.patchify(
        resized[0].numpy(), patch_size=PATCH, merge_size=MERGE, temporal_patch_size=FRAMES
    )
    return np.asarray(patches).reshape(-1, 3, FRAMES, PATCH, PATCH)


def main() -> None:
    """Run the reference over all variants and sizes, and write what it gave."""
    variants = [
        {"arguments": limits, "settings": {"patch": PATCH, "merge": MERGE, **limits}}
        for limits in (
            {"min_pixels": 3136, "max_pixels": 1016064},
            {"min_pixels": 3136, "max_pixels": 2458624},
        )
    ]
    entries = []
    for number, variant in enumerate(variants):
        for size in (*SIZES, *PUBLISHED) if number == 0 else ((1240, 1754), (1920, 1080)):
            try:
                pixels = reference(pattern(*size), **variant["arguments"])
            except ValueError as error:
                sys.stderr.write(f"{size[0]} × {size[1]}: the reference refuses: {error}\n")
                continue
            entries.append(
                {"variant": number, "size": list(size), **_written(pixels, size, SAMPLES)}
            )
    names = ("transformers", "torch")
    made_with = {
        "processor": "the authors' processor (normalise, then torch's bicubic resize)",
        **{name: importlib.metadata.version(name).split("+")[0] for name in names},
    }
    golden = {"samples": SAMPLES, "variants": variants, "made_with": made_with, "entries": entries}
    FILE.write_text(_text(golden), encoding="utf-8")


if __name__ == "__main__":
    main()
