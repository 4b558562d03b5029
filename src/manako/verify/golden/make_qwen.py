"""Makes qwen2_vl.json and qwen2_5_vl.json with transformers' own torchvision-backed processor.

Run once, in an environment that has a torchvision matching its torch (Manako's has none):

    PYTHONPATH=src python -m manako.verify.golden.make_qwen qwen2_5_vl src/manako/verify/golden

Which processor a model type has is asked of transformers. For each size: grid (t, h, w) and the sha256 of the uint8 patches before rescaling and
normalising, as [patches, channel · time · row · column].
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from manako.verify.golden.pictures import pattern

LIMITS = ((3136, 12_845_056), (3136, 1_003_520), (784, 200_704))
SIZES = (
    (1, 1), (1, 2), (27, 28), (28, 28), (29, 27), (56, 28), (112, 28), (13, 200), (200, 13),
    (1, 200), (200, 1), (41, 4000), (4000, 41), (640, 480), (481, 641), (1000, 1000), (1240, 1754),
    (333, 1000), (1024, 768),
)  # fmt: skip


def main(model_type: str, folder: Path) -> None:
    """Run the reference over all sizes and limits, and write what it gave."""
    import torch
    import torchvision  # type: ignore[import-not-found, unused-ignore]
    import transformers
    from transformers.models.auto.auto_mappings import IMAGE_PROCESSOR_MAPPING_NAMES

    name = IMAGE_PROCESSOR_MAPPING_NAMES[model_type]["torchvision"]
    entries = []
    for smallest, largest in LIMITS:
        processor = getattr(transformers, name)(
            size={"shortest_edge": smallest, "longest_edge": largest},
            do_rescale=False,
            do_normalize=False,
        )
        for width, height in SIZES:
            picture = torch.from_numpy(pattern(width, height)).permute(2, 0, 1)
            result = processor(images=[picture], return_tensors="pt")
            patches = result["pixel_values"].numpy()
            exact = patches.astype(np.uint8)
            if not (exact == patches).all():
                raise SystemExit(f"{width} × {height}: the reference's patches are no uint8")
            entries.append(
                {
                    "size": [width, height],
                    "limits": [smallest, largest],
                    "grid": result["image_grid_thw"][0].tolist(),
                    "sha256": hashlib.sha256(exact.tobytes()).hexdigest(),
                }
            )
    made_with = {
        "processor": f"transformers {name} (torchvision backend)",
        "transformers": transformers.__version__,
        "torchvision": torchvision.__version__,
        "torch": torch.__version__.split("+")[0],
    }
    rows = ",\n  ".join(json.dumps(entry) for entry in entries)
    text = f'{{"made_with": {json.dumps(made_with)},\n "entries": [\n  {rows}\n]}}\n'
    (folder / f"{model_type}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
