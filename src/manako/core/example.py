"""What a processor makes of a conversation: numpy, ready to be packed; nothing heavy.

Legend: T tokens of one conversation, N vision patches of one image, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What a conversation costs, from its text and its image headers alone."""

    text_tokens: int
    image_tokens: int
    trained_tokens: int
    vision_patches: int

    @property
    def tokens(self) -> int:
        return self.text_tokens + self.image_tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageInput:
    """One picture, or one video, as the model wants it.

    pixels: uint8 [N, C, ...] already cut (float32 only where the reference normalises before it
        resizes); mean and std are applied on the device. Of a video in a family whose patches
        reach over k frames: [N, k, C, p, p].
    grid: the family's own grid of the picture, e.g. (t, h, w) in patches.
    start, tokens: where its image tokens stand in `input_ids`; text or marks between them belong
        to the span.
    size: (width, height) in pixels of what the model sees.
    patches: what the vision tower works on; None: one per entry of `pixels`.
    times: seconds from a video's start to each of its frames; empty for a picture.
    """

    pixels: NDArray[Any]
    grid: tuple[int, ...]
    start: int
    tokens: int
    size: tuple[int, int]
    patches: int | None = None
    times: tuple[float, ...] = ()

    @property
    def is_video(self) -> bool:
        return bool(self.times)

    @property
    def vision_patches(self) -> int:
        """Patches that the vision tower works on."""
        return len(self.pixels) if self.patches is None else self.patches


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One conversation as tokens.

    input_ids: int32 [T]; trained: bool [T], True where the loss reads the token.
    notes: what the template left out or changed, by name (`thinking left out`, ...).
    """

    input_ids: IntArray
    trained: BoolArray
    images: tuple[ImageInput, ...] = ()
    id: str = ""
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> Lengths:
        image_tokens = sum(image.tokens for image in self.images)
        return Lengths(
            text_tokens=self.tokens - image_tokens,
            image_tokens=image_tokens,
            trained_tokens=int(self.trained.sum()),
            vision_patches=sum(image.vision_patches for image in self.images),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """Several conversations for one row of the model, none of which sees another.

    `pack_tokens` is the size it was filled towards; `number` its place in the order.
    """

    examples: tuple[Example, ...]
    pack_tokens: int
    number: int = 0
    failed: tuple[tuple[str, str], ...] = field(default=())
    """(row id, reason) of rows that `measure` or `encode` refused: their place stays empty."""

    @cached_property
    def input_ids(self) -> IntArray:
        """int32 [T]: all conversations, one after another."""
        return _joined([example.input_ids for example in self.examples], np.int32)

    @cached_property
    def trained(self) -> BoolArray:
        """bool [T]; the first token of a conversation has no predecessor and is never trained."""
        return _joined([example.trained for example in self.examples], np.bool_)

    @cached_property
    def segments(self) -> IntArray:
        """int32 [conversations + 1]: boundaries of the conversations, starting with 0."""
        lengths = [example.tokens for example in self.examples]
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int32)]).astype(np.int32)

    @property
    def images(self) -> tuple[ImageInput, ...]:
        return tuple(image for example in self.examples for image in example.images)

    @property
    def tokens(self) -> int:
        return int(self.segments[-1])

    @cached_property
    def trained_tokens(self) -> int:
        return int(self.trained.sum())

    @property
    def fill(self) -> float:
        """Share of `pack_tokens` that real tokens take."""
        return self.tokens / self.pack_tokens


def _joined(arrays: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)
