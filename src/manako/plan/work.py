"""What a training step holds, in numbers that decide its operations: tokens, patches, and the pairs of
them that see each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from manako.plan.dims import Dims

if TYPE_CHECKING:
    from manako.core.example import ImageInput, Pack


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`crops` fields of rows × columns patches that do not see each other, and the places that the
    picture's vectors take among the tokens."""

    rows: int
    columns: int
    tokens: int
    crops: int = 1


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step holds.

    token_pairs: pairs that attend to each other, inside one conversation: a token with itself and
    those before it, with all of its own picture where the family says so; near_pairs: those within
    the sliding window. image_tokens: vectors that the projector makes. vision_tokens: patches and
    class tokens. patch_pairs: pairs of these inside one picture; window_pairs: inside one window.
    """

    tokens: int
    trained_tokens: int
    token_pairs: int
    near_pairs: int = 0
    image_tokens: int = 0
    patches: int = 0
    vision_tokens: int = 0
    patch_pairs: int = 0
    window_pairs: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(**{name: value + vars(other)[name] for name, value in vars(self).items()})


NOTHING = Work(tokens=0, trained_tokens=0, token_pairs=0)


def work_of(
    dims: Dims, segments: Sequence[int], trained_tokens: int, pictures: Iterable[Picture]
) -> Work:
    """Work of one pack; segments: boundaries of its conversations."""
    seen, patching = list(pictures), dims.patch_attention
    lengths = [end - start for start, end in pairwise(segments)]
    fields = [(p.crops, p.rows * p.columns) for p in seen]
    ahead = 0
    if dims.rule == "image_blocks":
        ahead = sum(p.tokens * (p.tokens - 1) // 2 for p in seen)
    wide = [(crops, patches + patching.class_tokens) for crops, patches in fields]
    patches = sum(crops * patches for crops, patches in fields)
    return Work(
        tokens=sum(lengths),
        trained_tokens=trained_tokens,
        token_pairs=ahead + sum(length * (length + 1) // 2 for length in lengths),
        near_pairs=ahead + sum(near_pairs(length, dims.attention.window) for length in lengths),
        image_tokens=round(patches / dims.patches_per_token),
        patches=patches,
        vision_tokens=sum(crops * tokens for crops, tokens in wide),
        patch_pairs=sum(crops * tokens**2 for crops, tokens in wide),
        window_pairs=sum(p.crops * window_pairs(p, patching.window) for p in seen),
    )


def work_of_pack(dims: Dims, pack: Pack) -> Work:
    """Work of a pack as the loader gives it."""
    pictures = [picture_of(dims, image) for image in pack.images]
    return work_of(dims, pack.segments.tolist(), pack.trained_tokens, pictures)


def picture_of(dims: Dims, image: ImageInput) -> Picture:
    """A picture's patches: cut already, pixels are [patches, ...] on the grid (…, rows, columns);
    else they are [crops, channels, height, width]."""
    count, *shape = image.pixels.shape
    side = dims.patch_attention.side
    if len(shape) == 3 and shape[-1] != side:
        _, height, width = shape
        rows, columns = height // side, width // side
        return Picture(rows=rows, columns=columns, tokens=image.tokens, crops=count)
    rows, columns = image.grid[-2:]
    return Picture(rows=rows, columns=columns, tokens=image.tokens, crops=count // (rows * columns))


def near_pairs(tokens: int, window: int) -> int:
    """Pairs of a token with itself and the `window − 1` before it; 0 where there is no window."""
    short = min(tokens, window)
    return short * (short + 1) // 2 + (tokens - short) * window


def window_pairs(picture: Picture, window: int) -> int:
    """Pairs inside windows that tile the picture from its first corner; 0 where there are none."""
    return _squares(picture.rows, window) * _squares(picture.columns, window) if window else 0


def _squares(length: int, window: int) -> int:
    """Sum of the squares of the pieces, `window` long but for the last."""
    return length // window * window**2 + (length % window) ** 2
