"""A tiny checkpoint and small data sets for the tests of training."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.families.qwen2_vl import FAMILY

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210)}


def make_model(folder: Path, **changes: Any) -> Path:
    """A tiny checkpoint with small pictures: 56 × 28 pixels are two tokens."""
    FAMILY.make_tiny(folder, min_pixels=784, max_pixels=784 * 8, initializer_range=0.05, **changes)
    return folder


def picture(colour: str, *, width: int = 56, height: int = 28) -> Image:
    buffer = io.BytesIO()
    Pillow.new("RGB", (width, height), COLOURS[colour]).save(buffer, format="PNG")
    return Image(buffer.getvalue())


def make_conversation(number: int) -> Conversation:
    """One or two turns about a one-coloured picture; every fifth row has no picture."""
    choice = random.Random(number)
    colour = choice.choice(sorted(COLOURS))
    if number % 5 == 4:
        turns = [Message("user", (Text("say it"),)), Message("assistant", (Text(colour),))]
    else:
        turns = [
            Message("user", (picture(colour, width=28 * choice.randint(1, 3)), Text("colour?"))),
            Message("assistant", (Text(colour),)),
        ]
    if number % 3 == 0:
        turns += [Message("user", (Text("why?"),)), Message("assistant", (Text("I see it"),))]
    return Conversation(tuple(turns), id=f"row-{number}", source="test")


def make_store(folder: Path, rows: int, *, first: int = 0) -> Path:
    with write_store(folder) as writer:
        for number in range(first, first + rows):
            writer.add(row_of(make_conversation(number)))
    return folder


def make_recipe(model: Path, data: Path, output_dir: Path, **changes: Any) -> Recipe:
    """A run of six steps; no worker processes, so that a test starts at once."""
    fields: dict[str, Any] = {
        "train": {"language": "3e-3", "projector": "3e-3", "vision": "3e-3"},
        "pack_tokens": 128,
        "global_batch_packs": 2,
        "pack_window_rows": 16,
        "max_steps": 6,
        "save_steps": 100,
        "dataloader_num_workers": 0,
    }
    return Recipe(
        model=str(model),
        data=(Source(path=str(data)),),
        output_dir=str(output_dir),
        **{**fields, **changes},
    )
