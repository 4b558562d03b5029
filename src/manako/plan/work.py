"""What a training step holds, in numbers that decide its operations: tokens, patches, and the pairs of
them that see each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
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
    the sliding window. image_tokens: vectors that the projector makes; latent_pairs: of those of a
    resampler with what they look at. vision_tokens: patches and class tokens. patch_pairs: pairs of
    these inside one picture or tile; window_pairs: inside one window.
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
    latent_pairs: int = 0

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
    wide = [(crops, patches + patching.class_tokens) for crops, patches in fields]
    ahead = sum(_pairs_ahead(dims, p) for p in seen) if dims.rule == "image_blocks" else 0
    return Work(
        tokens=sum(lengths),
        trained_tokens=trained_tokens,
        token_pairs=ahead + sum(length * (length + 1) // 2 for length in lengths),
        near_pairs=ahead + sum(near_pairs(length, dims.attention.window) for length in lengths),
        image_tokens=sum(vectors_of(dims, p) for p in seen),
        patches=sum(crops * patches for crops, patches in fields),
        vision_tokens=sum(crops * tokens for crops, tokens in wide),
        patch_pairs=sum(crops * tokens**2 for crops, tokens in wide),
        window_pairs=sum(p.crops * window_pairs(p, patching.window) for p in seen),
        latent_pairs=sum(_latent_pairs(dims, p) for p in seen),
    )


def vectors_of(dims: Dims, picture: Picture) -> int:
    """Vectors that the projector makes of a picture."""
    if dims.projector.fills_places:
        return picture.tokens
    if dims.projector.latents:
        return picture.crops * dims.projector.latents
    if (joins := dims.projector.joins) > 1:
        return picture.crops * ceil(picture.rows / joins) * ceil(picture.columns / joins)
    return round(picture.crops * picture.rows * picture.columns / dims.patches_per_token)


def _pairs_ahead(dims: Dims, picture: Picture) -> int:
    """Pairs of image tokens with those behind them; crops are blocks of their own."""
    block = vectors_of(dims, picture) // picture.crops
    return picture.crops * (block * (block - 1) // 2)


def _latent_pairs(dims: Dims, picture: Picture) -> int:
    latents, patches = dims.projector.latents, picture.rows * picture.columns
    return picture.crops * latents * (patches + latents)


def work_of_pack(dims: Dims, pack: Pack) -> Work:
    """Work of a pack as the loader gives it."""
    pictures = [part for image in pack.images for part in pictures_of(dims, image)]
    return work_of(dims, pack.segments.tolist(), pack.trained_tokens, pictures)


def pictures_of(dims: Dims, image: ImageInput) -> Iterator[Picture]:
    """A picture's patches, padding left out: cut already, pixels are [patches, ...] on the grid
    (…, rows, columns); else they are [crops, channels, height, width]."""
    count, *shape = image.pixels.shape
    side, grid = dims.patch_attention.side, dims.patch_attention.grid
    if len(shape) != 3 or shape[-1] == side:
        rows, columns = image.grid[-2:]
        crops = count // (rows * columns)
        yield Picture(rows=rows, columns=columns, tokens=image.tokens, crops=crops)
    elif grid == "pieces":
        for width, height in zip(image.grid[::2], image.grid[1::2], strict=True):
            tokens = image.tokens // count
            yield Picture(rows=height // side, columns=width // side, tokens=tokens)
    elif grid == "sheet":
        yield from _sheet(image, shape[-1] // side)
    else:
        _, height, width = shape
        rows, columns = height // side, width // side
        yield Picture(rows=rows, columns=columns, tokens=image.tokens, crops=count)


def _sheet(image: ImageInput, along: int) -> Iterator[Picture]:
    """The whole view, and what the crops of the sheet hold; `along` patches on a side of each."""
    yield Picture(rows=along, columns=along, tokens=image.tokens)
    held_rows, held_columns = image.grid[2:4]
    for rows, across in ((along, held_rows // along), (held_rows % along, 1)):
        for columns, down in ((along, held_columns // along), (held_columns % along, 1)):
            if crops := across * down * bool(rows and columns):
                yield Picture(rows=rows, columns=columns, tokens=0, crops=crops)


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
