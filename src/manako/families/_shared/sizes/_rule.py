"""What an image-token rule is, and the arithmetic that several of them share."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from manako.core.errors import ImageError

Grid = tuple[int, int]
"""(columns, rows) of tiles."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How many tokens a picture costs.

    count: (width, height, **settings) → tokens; sizes in pixels. Raises `ImageError` for a size
    that the reference refuses. flags: the settings that are 0 or 1; all others are at least 1.
    """

    name: str
    count: Callable[..., int]
    flags: frozenset[str] = frozenset()

    @property
    def settings(self) -> Mapping[str, int]:
        """Each setting's published value."""
        return _defaults(self.count)

    @property
    def about(self) -> str:
        """What the rule does, in one line."""
        return (inspect.getdoc(self.count) or "").partition("\n")[0]


@cache
def _defaults(count: Callable[..., int]) -> Mapping[str, int]:
    found = inspect.signature(count).parameters.values()
    return MappingProxyType({p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY})


def refused(width: int, height: int, why: str) -> ImageError:
    """The error for a picture that the model's own code cannot take."""
    return ImageError(
        f"a picture of {width} × {height} pixels {why}, which this model cannot take",
        reason="size",
        next_step="cut the picture into pieces",
    )


def closest_grid(grids: Iterable[Grid], width: int, height: int, *, tile: int) -> Grid:
    """The grid whose shape is nearest the picture's.

    Of two that are equally near, the later, if the picture covers more than half of it.
    """
    ratio, area = width / height, width * height
    best, least = (1, 1), float("inf")
    for grid in grids:
        columns, rows = grid
        distance = abs(ratio - columns / rows)
        is_tie = distance == least and area > 0.5 * tile * tile * columns * rows
        if distance < least or is_tie:
            best, least = grid, distance
    return best


@cache
def grids_by_size(least: int, most: int) -> tuple[Grid, ...]:
    """All grids of `least` to `most` tiles: by tiles, then by columns."""
    sides = range(1, most + 1)
    grids = [(c, r) for c in sides for r in sides if least <= c * r <= most]
    return tuple(sorted(grids, key=_tiles))


@cache
def grids_by_set(least: int, most: int) -> tuple[Grid, ...]:
    """The same grids; those of equally many tiles in the order in which a Python set holds them.

    References that build a set decide ties by that order, so it is built here just as there.
    """
    grids = {
        (c, r)
        for n in range(least, most + 1)
        for c in range(1, n + 1)
        for r in range(1, n + 1)
        if least <= c * r <= most
    }
    return tuple(sorted(grids, key=_tiles))


def _tiles(grid: Grid) -> int:
    return grid[0] * grid[1]


def single(value: float) -> float:
    """The nearest single-precision number: what float32 arithmetic keeps of a quotient."""
    return float(struct.unpack("f", struct.pack("f", value))[0])
