"""Makes the golden hashes of a family with transformers' own picture processor.

Run once, in an environment that has a torchvision matching its torch (Manako's has none):

    PYTHONPATH=src python -m manako.verify.golden.make src/manako/verify/golden/gemma3.json

The file says what is to be made and takes the result: `class`, the processor's name in
`transformers` (one ending in `Pil` for families whose reference is Pillow); `variants`, each with
the `arguments` of that class and the `settings` of our own processor that mean the same, and where
each picture stands several times in one conversation, how often (`pictures`); and, where they are
not `pixel_values` of the sizes below, `output` and `sizes`. Written for each variant and
size: shape, and the sha256 of the uint8 pixels before rescaling and normalising. A size that the
reference refuses is left out and named.

Where the reference resizes what it has normalised already, nothing is uint8: the file then says how
many `samples` to keep of each picture's values, and the arguments leave both steps on. Written are
those values, and the mean of all and of their squares.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from manako.verify.golden.pictures import pattern, values_of

SIZES = (
    (1, 1), (1, 2), (27, 28), (28, 28), (29, 27), (56, 28), (112, 28), (13, 200), (200, 13),
    (1, 200), (200, 1), (41, 4000), (4000, 41), (640, 480), (481, 641), (1000, 1000), (1240, 1754),
    (333, 1000), (1024, 768),
)  # fmt: skip


def main(file: Path) -> None:
    """Run the reference over all variants and sizes, and write what it gave."""
    import transformers

    golden: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    output = golden.get("output", "pixel_values")
    entries = []
    for number, variant in enumerate(golden["variants"]):
        arguments = {"do_rescale": False, "do_normalize": False, **variant["arguments"]}
        processor = getattr(transformers, golden["class"])(**arguments)
        for width, height in golden.get("sizes", SIZES):
            pixels = _pixels(processor, width, height, output, variant.get("pictures", 1))
            if pixels is not None:
                found = _written(pixels, (width, height), golden.get("samples", 0))
                entries.append({"variant": number, "size": [width, height], **found})
    golden["made_with"] = _made_with(golden["class"])
    golden["entries"] = entries
    file.write_text(_text(golden), encoding="utf-8")


def _pixels(
    processor: Any, width: int, height: int, output: str, pictures: int
) -> np.ndarray[Any, Any] | None:
    from PIL import Image

    picture = Image.fromarray(pattern(width, height))
    images: list[Any] = [picture] if pictures == 1 else [[picture] * pictures]
    try:
        pixels = np.asarray(processor(images=images, return_tensors="pt")[output])
    except (ValueError, ZeroDivisionError, RuntimeError) as error:
        sys.stderr.write(f"{width} × {height}: the reference refuses: {error}\n")
        return None
    return pixels[: None if pictures == 1 else 1]


def _written(pixels: np.ndarray[Any, Any], size: tuple[int, int], samples: int) -> dict[str, Any]:
    """What is kept of one picture."""
    if samples:
        return {"shape": list(pixels.shape), **values_of(pixels, samples)}
    exact = pixels.astype(np.uint8)
    if not (exact == pixels).all():
        raise SystemExit(f"{size[0]} × {size[1]}: the reference's pixels are no uint8")
    return {
        "shape": list(pixels.shape),
        "sha256": hashlib.sha256(np.ascontiguousarray(exact).tobytes()).hexdigest(),
    }


def _made_with(name: str) -> dict[str, str]:
    import importlib.metadata

    backend = "Pillow" if name.endswith("Pil") else "torchvision"
    names = ("transformers", "torchvision", "torch", "pillow")
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in names}
    return {"processor": f"transformers {name} ({backend} backend)", **versions}


def _text(golden: dict[str, Any]) -> str:
    """JSON with one line per variant and entry."""
    lines = []
    for key, value in golden.items():
        rows = ",\n  ".join(json.dumps(row) for row in value) if key in LISTS else ""
        lines.append(f"{json.dumps(key)}: " + (f"[\n  {rows}\n ]" if rows else json.dumps(value)))
    return "{" + ",\n ".join(lines) + "}\n"


LISTS = ("variants", "entries")

if __name__ == "__main__":
    main(Path(sys.argv[1]))
