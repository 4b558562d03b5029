"""Sources and processors without any model, importable by worker processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import ImageError, RecipeError, RowError, TooLongError
from manako.core.example import Example, ImageInput, Lengths
from manako.data.loader import Loader
from manako.data.order import key_of
from manako.data.settings import LoaderSettings


@dataclass(frozen=True)
class FakeSource:
    """Rows of `least` … `most` tokens. faults: row → what `FakeProcessor` does with it."""

    name: str
    rows: int
    least: int = 5
    most: int = 40
    group_rows: int = 7
    row_bytes: int = 1000
    faults: Mapping[int, str] = field(default_factory=dict)

    @property
    def groups(self) -> Sequence[tuple[int, int, int]]:
        starts = range(0, self.rows, self.group_rows)
        counts = [min(self.group_rows, self.rows - start) for start in starts]
        return [
            (start, count, count * self.row_bytes)
            for start, count in zip(starts, counts, strict=True)
        ]

    @property
    def manifest_sha256(self) -> str:
        return f"manifest of {self.name}, {self.rows} rows"

    def conversation(self, index: int) -> Conversation:
        fault = self.faults.get(index, "")
        if fault == "unreadable":
            raise RowError(f"row {self.name}-{index} contradicts itself", reason="image_count")
        tokens = self.least + key_of(self.name, index) % (self.most - self.least + 1)
        trained = 0 if fault == "untrained" else 1 + tokens // 3
        return Conversation(
            (Message("user", (Text("q"),)), Message("assistant", (Text("a"),))),
            id=f"{self.name}-{index}",
            meta={"tokens": tokens, "trained": trained, "fault": fault},
        )

    def outline(self, index: int) -> Conversation:
        return self.conversation(index)


@dataclass(frozen=True)
class FakeProcessor:
    """Tokens and pixels that depend on the row alone. pixel_bytes: of each example's picture."""

    pixel_bytes: int = 48

    def measure(self, conversation: Conversation) -> Lengths:
        meta = conversation.meta
        if meta["fault"] == "measure":
            raise ImageError(f"row {conversation.id}: no picture")
        if meta["fault"] == "too_long":
            raise TooLongError("it is endless", reason="too_long", row_id=conversation.id)
        return Lengths(
            text_tokens=meta["tokens"],
            image_tokens=0,
            trained_tokens=meta["trained"],
            vision_patches=0,
        )

    def encode(self, conversation: Conversation) -> Example:
        meta: Mapping[str, Any] = conversation.meta
        tokens = meta["tokens"] + (meta["fault"] == "longer")
        if meta["fault"] == "encode":
            raise ImageError(f"row {conversation.id}: cut short")
        if meta["fault"] == "bug":
            raise ZeroDivisionError("a bug")
        if meta["fault"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        key = key_of(conversation.id)
        values = (np.arange(self.pixel_bytes, dtype=np.uint64) * 31 + key % 251) % 256
        picture = ImageInput(
            pixels=values.astype(np.uint8).reshape(-1, 3),
            grid=(1, self.pixel_bytes // 3, 1),
            start=0,
            tokens=1,
            size=(self.pixel_bytes // 3, 1),
        )
        trained = np.zeros(tokens, np.bool_)
        trained[tokens - meta["trained"] :] = True
        ids = np.arange(tokens, dtype=np.int32) + key % 1000
        return Example(
            input_ids=ids.astype(np.int32),
            trained=trained,
            images=(picture,),
            id=conversation.id,
        )


@dataclass(frozen=True)
class NeverMeasures(FakeProcessor):
    def measure(self, conversation: Conversation) -> Lengths:
        raise ZeroDivisionError("nothing was to be measured")


SOURCES = {"a": FakeSource("a", 50), "b": FakeSource("b", 23, least=10, most=64)}


def settings(**changes: Any) -> LoaderSettings:
    values: dict[str, Any] = {
        "weights": {"a": 1.0, "b": 1.0},
        "pack_tokens": 64,
        "global_batch_packs": 3,
        "pack_window_rows": 16,
        "max_steps": 12,
    }
    return LoaderSettings(**{**values, **changes})


def make_loader(
    changes: Mapping[str, Any] | None = None,
    *,
    sources: Mapping[str, FakeSource] | None = None,
    processor: FakeProcessor | None = None,
    workers: int = 0,
    **options: Any,
) -> Loader:
    made = processor or FakeProcessor()
    return Loader(
        settings(**(changes or {})),
        sources or SOURCES,
        measure=made.measure,
        encode=made.encode,
        fingerprint={"tokenizer": "t", "template": "u", "images": "v"},
        workers=workers,
        **options,
    )


@dataclass(frozen=True)
class FakeImages:
    """A processor for `too_long`: a token per character, and one per 100 pixels of a picture as
    limited, `least_pixels` at least."""

    max_pixels: int = 10**9
    least_pixels: int = 400
    fingerprint: Mapping[str, str] = field(default_factory=dict)

    def measure(self, conversation: Conversation) -> Lengths:
        text = sum(len(message.text) for message in conversation.messages)
        trained = sum(len(m.text) for m in conversation.messages if m.is_trained)
        areas = [image.width * image.height for image in conversation.images]
        pictures = sum(max(min(area, self.max_pixels), self.least_pixels) // 100 for area in areas)
        return Lengths(
            text_tokens=text, image_tokens=pictures, trained_tokens=trained, vision_patches=0
        )

    def encode(self, conversation: Conversation) -> Example:
        lengths = self.measure(conversation)
        trained = np.zeros(lengths.tokens, np.bool_)
        trained[lengths.tokens - lengths.trained_tokens :] = True
        return Example(
            input_ids=np.zeros(lengths.tokens, np.int32), trained=trained, id=conversation.id
        )

    def with_pixel_limits(self, *, min_pixels: int | None, max_pixels: int | None) -> FakeImages:
        if max_pixels is not None and max_pixels < self.least_pixels:
            raise RecipeError(f"max_pixels {max_pixels} is below {self.least_pixels}")
        return FakeImages(max_pixels=max_pixels or self.max_pixels, least_pixels=self.least_pixels)
