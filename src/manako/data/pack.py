"""Best-fit packing: drawn rows into packs that are never over-full; no row is ever cut.

Longest row first, each into the fullest pack that still takes it (best fit decreasing; Johnson
et al., SIAM J. Computing 3, 1974). What a window leaves in its emptiest pack stays open and is
filled by the next window, so the loss at a window's end is paid once per run.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

FAILED_TOKENS = -1
"""Stands for the length of a row that `measure` refused."""


class Drawn(NamedTuple):
    """A row as drawn: number of its source, row, and its tokens (`FAILED_TOKENS` if refused)."""

    source: int
    row: int
    tokens: int

    @property
    def failed(self) -> bool:
        return self.tokens == FAILED_TOKENS

    @property
    def room(self) -> int:
        """Tokens that it takes up."""
        return max(self.tokens, 0)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Closed packs, each a tuple of rows as drawn, and the rows of the one that stays open."""

    packs: tuple[tuple[Drawn, ...], ...]
    open: tuple[Drawn, ...]


@dataclass
class _Bin:
    left_tokens: int
    places: list[int] = field(default_factory=list)
    was_open: bool = False


def fill_packs(
    open_rows: Sequence[Drawn], drawn: Sequence[Drawn], pack_tokens: int, *, flush: bool = False
) -> Filled:
    """Packs of at most `pack_tokens` tokens from the rows that stayed open and those newly drawn.

    Every row stands in exactly one closed pack or stays open. The emptiest pack stays open unless
    it is full, or `flush`; one that was open before is closed as soon as there is another, so no
    row waits for ever. Rows that `measure` refused ride along with the first closed pack.
    """
    rows = [*open_rows, *drawn]
    refused = [place for place, row in enumerate(rows) if row.failed]
    bins = _best_fit(rows, len(open_rows), pack_tokens)
    kept = None if flush else _left_open(bins)
    closed = [bin.places for bin in bins if bin is not kept]
    kept_places = kept.places if kept else []
    if flush and refused and not closed:
        closed.append([])
    (closed[0] if closed else kept_places).extend(refused)
    if not closed and not kept:
        kept_places = refused
    return Filled(
        packs=tuple(_in_order(rows, places) for places in closed),
        open=_in_order(rows, kept_places),
    )


def _best_fit(rows: Sequence[Drawn], opened: int, pack_tokens: int) -> list[_Bin]:
    bins: list[_Bin] = []
    if held := [place for place in range(opened) if not rows[place].failed]:
        left = pack_tokens - sum(rows[place].tokens for place in held)
        bins.append(_Bin(left, held, was_open=True))
    new = [place for place in range(opened, len(rows)) if not rows[place].failed]
    new.sort(key=lambda place: (-rows[place].tokens, place))
    free = [(bin.left_tokens, number) for number, bin in enumerate(bins)]
    for place in new:
        tokens = rows[place].tokens
        found = bisect_left(free, (tokens, -1))
        if found < len(free):
            number = free.pop(found)[1]
        else:
            number = len(bins)
            bins.append(_Bin(pack_tokens))
        bins[number].left_tokens -= tokens
        bins[number].places.append(place)
        insort(free, (bins[number].left_tokens, number))
    return bins


def _left_open(bins: Sequence[_Bin]) -> _Bin | None:
    candidates = bins if len(bins) == 1 else [bin for bin in bins if not bin.was_open]
    emptiest = max(candidates, key=lambda bin: bin.left_tokens, default=None)
    return emptiest if emptiest and emptiest.left_tokens else None


def _in_order(rows: Sequence[Drawn], places: Iterable[int]) -> tuple[Drawn, ...]:
    return tuple(rows[place] for place in sorted(places))


def fill_of(packs: Sequence[Sequence[Drawn]], pack_tokens: int) -> float:
    """Share of the packs' room that tokens take; 1.0 for no packs."""
    room = len(packs) * pack_tokens
    return sum(row.room for pack in packs for row in pack) / room if room else 1.0
