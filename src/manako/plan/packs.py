"""How rows fall into packs, from the lengths of a sample: by the very packing that training uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import fmean
from typing import TYPE_CHECKING

from manako.core.errors import InputError
from manako.data.pack import Drawn, fill_packs

if TYPE_CHECKING:
    from manako.core.example import Lengths

MIN_PACKS = 8
"""Packs that a short sample is repeated for, so that they fill as they would in a long run."""
MAX_ROWS = 50_000
"""Rows at most that packs are filled with: arithmetic must stay a matter of a moment."""


@dataclass(frozen=True, kw_only=True)
class PackCost:
    """What one pack holds."""

    rows: int
    tokens: int
    trained_tokens: int
    vision_patches: int


@dataclass(frozen=True, kw_only=True)
class PackStatistics:
    """A sample of packs.

    worst: the most of each kind that any pack holds; what memory must allow for.
    fill: share of the packs' room that tokens take.
    """

    sampled_rows: int
    rows_per_pack: float
    tokens_per_pack: float
    trained_per_pack: float
    fill: float
    worst: PackCost


def pack_sample(
    lengths: Sequence[Lengths], *, pack_tokens: int, window_rows: int
) -> PackStatistics:
    """Fill packs with a sample of rows, window by window, as the loader does.

    Raises `InputError` where there is no row, or one is longer than a pack.
    """
    longest = max((each.tokens for each in lengths), default=0)
    if not lengths or longest > pack_tokens:
        found = f"a row of {longest} tokens" if lengths else "no row"
        raise InputError(
            f"packs of {pack_tokens} tokens cannot be filled with {found}",
            next_step="raise pack_tokens, or set too_long: drop | shrink_images | trim_text",
        )
    packs = _fill(lengths, pack_tokens, window_rows)
    return PackStatistics(
        sampled_rows=len(lengths),
        rows_per_pack=fmean(pack.rows for pack in packs),
        tokens_per_pack=fmean(pack.tokens for pack in packs),
        trained_per_pack=fmean(pack.trained_tokens for pack in packs),
        fill=fmean(pack.tokens for pack in packs) / pack_tokens,
        worst=_worst(packs),
    )


def _fill(rows: Sequence[Lengths], pack_tokens: int, window_rows: int) -> list[PackCost]:
    rows_per_pack = pack_tokens / fmean(row.tokens for row in rows)
    count = min(max(len(rows), int(MIN_PACKS * rows_per_pack) + 1), MAX_ROWS)
    # Many short rows fill a pack whatever the window is; a small one would only take long here.
    window = max(window_rows, int(rows_per_pack))
    drawn = [Drawn(0, at, row.tokens) for at, row in enumerate(islice(cycle(rows), count))]
    packs: list[tuple[Drawn, ...]] = []
    held: tuple[Drawn, ...] = ()
    for start in range(0, count, window):
        filled = fill_packs(held, drawn[start : start + window], pack_tokens)
        packs += filled.packs
        held = filled.open
    closed = packs or [held]
    return [_cost([rows[row.row % len(rows)] for row in pack]) for pack in closed]


def _cost(rows: Sequence[Lengths]) -> PackCost:
    return PackCost(
        rows=len(rows),
        tokens=sum(row.tokens for row in rows),
        trained_tokens=sum(row.trained_tokens for row in rows),
        vision_patches=sum(row.vision_patches for row in rows),
    )


def _worst(packs: Sequence[PackCost]) -> PackCost:
    return PackCost(
        rows=max(pack.rows for pack in packs),
        tokens=max(pack.tokens for pack in packs),
        trained_tokens=max(pack.trained_tokens for pack in packs),
        vision_patches=max(pack.vision_patches for pack in packs),
    )
