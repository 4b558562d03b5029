"""Law 6: pixels equal the family's named reference exactly, in size and order too.

The bug it catches: a resize through floats, another filter or another patch order, which a model
answers with slightly worse scores and no error.

A reference that resizes what it has normalised already has no bytes to compare. There, some hundred
values of each picture and the means of all are held against it. Tolerance: a bicubic value is a
float32 sum of sixteen products of numbers up to about 2, which kernels of other processors add in
another order: a few 1e-6. With the torch that made the file none differs in seven digits; a filter
with antialiasing differs by 5e-1.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from manako.core.files import read_json
from manako.verify._film import check_pixels
from manako.verify._subject import Law, NotApplicable, NotRun, Subject, demand
from manako.verify.golden.pictures import pattern, values_of

GOLDEN = Path(__file__).parent / "golden"
VALUE_TOLERANCE = 1e-5


def _check(subject: Subject) -> str:
    if not subject.family.takes_images:
        raise NotApplicable("the family takes no images")
    file = GOLDEN / f"{subject.family.name}.json"
    if not file.is_file():
        raise NotRun(f"no golden hashes of family {subject.family.name}")
    golden = read_json(file)
    gaps = [
        _compare(subject, entry, **_expected(golden["variants"][entry["variant"]]))
        for entry in golden["entries"]
    ]
    films = f", {check_pixels(subject)} videos too" if subject.family.takes_videos else ""
    how = f"within {max(gaps):.0e}" if golden.get("samples") else "bit for bit"
    return (
        f"{len(gaps)} pictures equal to {golden['made_with']['processor']} {how} "
        f"({subject.processor.pixel_rule.reference}){films}"
    )


def _expected(variant: dict[str, Any]) -> dict[str, Any]:
    return {"settings": variant["settings"], "pictures": variant.get("pictures", 1)}


def _compare(
    subject: Subject, entry: dict[str, Any], *, settings: dict[str, Any], pictures: int
) -> float:
    """The largest difference; pictures: how often the picture stands in its conversation."""
    width, height = entry["size"]
    original: Any = subject.processor
    processor = original.with_settings(**{name: _frozen(v) for name, v in settings.items()})
    cost = processor.costs([(width, height)] * pictures)[0]
    pixels = processor.prepare(pattern(width, height), cost)
    if copies := processor.pixel_rule.temporal_copies:
        pixels = np.repeat(pixels[:, :, None], copies, axis=2)
    named = f"{width} × {height}, settings {settings}, {pictures} in one conversation"
    demand(
        pixels.size == math.prod(entry["shape"]),
        f"{named}: {pixels.shape}, the reference has {entry['shape']}",
    )
    if expected := entry.get("values"):
        return _gap(pixels, expected, entry["means"], named)
    found = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    demand(found == entry["sha256"], f"{named}: pixels differ from the reference")
    return 0.0


def _gap(pixels: Any, values: list[float], means: list[float], named: str) -> float:
    """The largest difference of float pixels."""
    found = values_of(pixels, len(values))
    pairs = zip([*found["values"], *found["means"]], [*values, *means], strict=True)
    gap = max(abs(a - b) for a, b in pairs)
    demand(gap <= VALUE_TOLERANCE, f"{named}: pixels differ from the reference by {gap:.1e}")
    return gap


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that settings hold."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


LAW = Law(number=6, title="pixels equal the reference bit for bit", check=_check)
