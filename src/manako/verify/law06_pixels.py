"""Law 6: pixels equal the family's named reference exactly, in size and order too.

The bug it catches: a resize through floats, another filter or another patch order, which a model
answers with slightly worse scores and no error.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from manako.core.files import read_json
from manako.verify._subject import Law, NotApplicable, NotRun, Subject, demand
from manako.verify.golden.pictures import pattern

GOLDEN = Path(__file__).parent / "golden"


def _check(subject: Subject) -> str:
    if not subject.family.takes_images:
        raise NotApplicable("the family takes no images")
    file = GOLDEN / f"{subject.family.name}.json"
    if not file.is_file():
        raise NotRun(f"no golden hashes of family {subject.family.name}")
    golden = read_json(file)
    for entry in golden["entries"]:
        _compare(subject, entry)
    made_with = golden["made_with"]
    return (
        f"{len(golden['entries'])} pictures equal to {made_with['processor']} bit for bit "
        f"({subject.processor.pixel_rule.reference})"
    )


def _compare(subject: Subject, entry: dict[str, Any]) -> None:
    smallest, largest = entry["limits"]
    width, height = entry["size"]
    processor: Any = subject.processor.with_pixel_limits(min_pixels=smallest, max_pixels=largest)
    cost = processor.cost(width, height)
    demand(
        list(cost.grid) == entry["grid"],
        f"{width} × {height}: grid {cost.grid}, the reference has {entry['grid']}",
    )
    pixels = processor.cut(processor.resize(pattern(width, height), cost), cost)
    if copies := processor.pixel_rule.temporal_copies:
        pixels = np.repeat(pixels[:, :, None], copies, axis=2)
    found = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    demand(
        found == entry["sha256"],
        f"{width} × {height}, limits {entry['limits']}: pixels differ from the reference",
    )


LAW = Law(number=6, title="pixels equal the reference bit for bit", check=_check)
