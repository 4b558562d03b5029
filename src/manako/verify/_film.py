"""What laws 5 and 6 ask of a family that takes videos."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import ImageError
from manako.core.files import read_json
from manako.verify._subject import NotRun, Subject, demand, film
from manako.verify.golden.pictures import moving_pattern

if TYPE_CHECKING:
    from manako.core.example import Example

GOLDEN = Path(__file__).parent / "golden"
SIZES = (
    (1, 1, 1), (1, 1, 2), (28, 28, 1), (28, 28, 3), (56, 28, 2), (57, 111, 5), (13, 200, 4),
    (200, 13, 7), (123, 321, 2), (300, 200, 3), (64, 48, 16), (999, 7, 2),
)  # fmt: skip
"""(width, height, frames)."""


def examples_of_sizes(subject: Subject) -> tuple[list[Example], list[str]]:
    """One example of each size of video, predicted as it is; and what the reference refuses."""
    examples, refused = [], []
    for width, height, frames in SIZES:
        named = f"{width}×{height}×{frames}"
        asked = Message("user", (film(width, height, frames), Text("?")))
        conversation = Conversation((asked, Message("assistant", (Text("!"),))), id=named)
        try:
            predicted = subject.processor.measure(conversation)
        except ImageError:
            refused.append(named)
            continue
        example = subject.processor.encode(conversation)
        demand(
            example.lengths == predicted,
            f"video {named}: predicted {predicted}, actual {example.lengths}",
        )
        examples.append(example)
    return examples, refused


def check_pixels(subject: Subject) -> int:
    """How many videos equal the golden hashes. Raises `LawBroken` where one differs."""
    file = GOLDEN / f"{subject.family.name}_video.json"
    if not file.is_file():
        raise NotRun(f"no golden hashes of videos of family {subject.family.name}")
    golden = read_json(file)
    for entry in golden["entries"]:
        _compare(subject, entry, golden["variants"][entry["variant"]]["settings"])
    return len(golden["entries"])


def _compare(subject: Subject, entry: dict[str, Any], settings: dict[str, Any]) -> None:
    width, height, frames = entry["size"]
    original: Any = subject.processor
    processor = original.with_settings(**settings)
    cost = processor.video_cost([(width, height)] * frames, [0.5 * n for n in range(frames)])
    pixels = processor.prepare_video(moving_pattern(width, height, frames), cost)
    if processor.pixel_rule.temporal_copies:
        pixels = pixels.swapaxes(1, 2)  # as `nn/batch.py` flattens them: channels first
    named = f"video {width} × {height}, {frames} frames, settings {settings}"
    demand(
        pixels.size == math.prod(entry["shape"]),
        f"{named}: {pixels.shape}, the reference has {entry['shape']}",
    )
    found = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    demand(found == entry["sha256"], f"{named}: pixels differ from the reference")
