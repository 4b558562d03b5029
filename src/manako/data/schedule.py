"""Which rows make up which pack: a pure function from one place in the order to the next.

A window is `window_rows` rows, each drawn from the source that lies furthest behind its share,
then packed by best fit. `Schedule.window(place, ...)` looks at nothing but the place and the
lengths of the rows it draws, so a run that stops needs to keep the place alone.

Exact: the same place gives the same packs, whoever asks, how often, and with how many workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from manako.core.errors import RowError
from manako.data.order import SourceOrder, key_of, largest_deficit, permutation
from manako.data.pack import Drawn, fill_packs

Packed = tuple[Drawn, ...]


class RowLengths(Protocol):
    """What is known of the lengths of rows."""

    def __call__(self, source: int, row: int) -> tuple[int, int]:
        """(tokens, trained tokens), or (`FAILED_TOKENS`, 0); may raise `Unmeasured`."""
        ...

    def why(self, source: int, row: int) -> str:
        """Why the row was refused, naming it."""
        ...


class Unmeasured(Exception):
    """A question, not an error: the lengths of this row are needed and not known yet."""

    def __init__(self, source: int, row: int) -> None:
        super().__init__(source, row)
        self.source = source
        self.row = row


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """Whole-number weights, one per source, in force until `end_pack` (None: to the end)."""

    weights: tuple[int, ...]
    end_pack: int | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a window starts.

    window, packs, draws: windows, packs and rows before it.
    stage, spent: the stage, and per source what was drawn in it (rows or answer tokens).
    cursors: per source (epoch, position) of the next row.
    returned: per source, rows that come before the cursor: drawn once, then given back.
    open: rows of the pack that stayed open.
    refused: per source, how many rows of the epoch it is in `measure` has refused.
    """

    window: int = 0
    packs: int = 0
    draws: int = 0
    stage: int = 0
    spent: tuple[int, ...]
    cursors: tuple[tuple[int, int], ...]
    returned: tuple[tuple[int, ...], ...]
    open: Packed = ()
    refused: tuple[int, ...]

    @classmethod
    def start(cls, sources: int) -> Place:
        zeros = (0,) * sources
        return cls(
            spent=zeros, cursors=((0, 0),) * sources, returned=((),) * sources, refused=zeros
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` gives an equal place."""
        return {
            "window": self.window,
            "packs": self.packs,
            "draws": self.draws,
            "stage": self.stage,
            "spent": list(self.spent),
            "cursors": [list(cursor) for cursor in self.cursors],
            "returned": [list(rows) for rows in self.returned],
            "open": [list(row) for row in self.open],
            "refused": list(self.refused),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Place:
        """Raises KeyError, TypeError or ValueError for what `as_dict` did not write."""
        return cls(
            window=int(values["window"]),
            packs=int(values["packs"]),
            draws=int(values["draws"]),
            stage=int(values["stage"]),
            spent=tuple(int(cost) for cost in values["spent"]),
            cursors=tuple((int(epoch), int(position)) for epoch, position in values["cursors"]),
            returned=tuple(tuple(int(row) for row in rows) for rows in values["returned"]),
            open=tuple(Drawn(int(s), int(row), int(tokens)) for s, row, tokens in values["open"]),
            refused=tuple(int(count) for count in values["refused"]),
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """The packs that a window closes, the rows it drew (in order), and where the next starts."""

    packs: tuple[Packed, ...]
    drawn: Packed
    next: Place


@dataclass
class _Hand:
    """A place while rows are being drawn."""

    spent: list[int]
    cursors: list[tuple[int, int]]
    returned: list[list[int]]
    refused: list[int]
    drawn: list[Drawn] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The whole order of a run. `draws`: rows after which it ends (None: never)."""

    orders: tuple[SourceOrder, ...]
    stages: tuple[StagePlan, ...]
    pack_tokens: int
    window_rows: int
    weight_in: Literal["rows", "answer_tokens"]
    seed: int
    draws: int | None = None

    def start(self) -> Place:
        return Place.start(len(self.orders))

    def window(self, place: Place, lengths: RowLengths) -> Window | None:
        """The window at `place`, or None where the order ends.

        A stage ends at a pack, a window somewhere behind it: rows that the window drew and that
        stand in no pack of the stage are returned to their source, in the order they were drawn,
        and are the first that it gives when it is drawn from again.

        Raises `Unmeasured` for a row whose lengths are not known yet, and `RowError` when every
        row of a source is refused.
        """
        place = self._in_stage(place)
        count = self.window_rows
        if self.draws is not None:
            count = min(count, self.draws - place.draws)
        if count <= 0:
            return None
        hand = self._draw(place, count, lengths)
        draws = place.draws + count
        filled = fill_packs(place.open, hand.drawn, self.pack_tokens, flush=draws == self.draws)
        packs = self._shuffled(filled.packs, place.window)
        after = replace(
            place,
            window=place.window + 1,
            packs=place.packs + len(packs),
            draws=draws,
            spent=tuple(hand.spent),
            cursors=tuple(hand.cursors),
            returned=tuple(tuple(rows) for rows in hand.returned),
            open=filled.open,
            refused=tuple(hand.refused),
        )
        window = Window(packs=packs, drawn=tuple(hand.drawn), next=after)
        end = self.stages[place.stage].end_pack
        return window if end is None or after.packs < end else self._cut(place, window, end)

    def upcoming(self, place: Place, source: int) -> Iterator[int]:
        """Rows in the order in which `source` gives them from `place` on, without end."""
        yield from place.returned[source]
        order, cursor = self.orders[source], place.cursors[source]
        while True:
            yield order.row(*cursor)
            cursor = order.after(*cursor)

    def shares(self, place: Place) -> list[float]:
        """Weight of each source where `place` stands, summing to 1."""
        weights = self.stages[self._in_stage(place).stage].weights
        return [weight / sum(weights) for weight in weights]

    def _in_stage(self, place: Place) -> Place:
        """The place in the stage that its pack belongs to; a new stage starts its shares anew."""
        stage = place.stage
        while (end := self.stages[stage].end_pack) is not None and end <= place.packs:
            stage += 1
        if stage == place.stage:
            return place
        return replace(place, stage=stage, spent=(0,) * len(self.orders))

    def _draw(self, place: Place, count: int, lengths: RowLengths) -> _Hand:
        weights = self.stages[place.stage].weights
        hand = _Hand(
            spent=list(place.spent),
            cursors=list(place.cursors),
            returned=[list(rows) for rows in place.returned],
            refused=list(place.refused),
        )
        for _ in range(count):
            source = largest_deficit(weights, hand.spent)
            is_again = bool(hand.returned[source])
            if not is_again and hand.cursors[source][1] == 0:
                hand.refused[source] = 0
            row = self._next_row(hand, source)
            tokens, trained = lengths(source, row)
            drawn = Drawn(source, row, tokens)
            hand.drawn.append(drawn)
            hand.spent[source] += 1 if self.weight_in == "rows" else trained
            hand.refused[source] += drawn.failed and not is_again
            if hand.refused[source] >= self.orders[source].rows:
                raise self._all_refused(source, lengths.why(source, row))
        return hand

    def _next_row(self, hand: _Hand, source: int) -> int:
        if hand.returned[source]:
            return hand.returned[source].pop(0)
        order, cursor = self.orders[source], hand.cursors[source]
        hand.cursors[source] = order.after(*cursor)
        return order.row(*cursor)

    def _all_refused(self, source: int, why: str) -> RowError:
        order = self.orders[source]
        return RowError(
            f"source {order.name}: all of its {order.rows} rows are refused; the last: {why}",
            reason="all_refused",
            next_step="look at its rows with `manako view` or `manako data census`",
        )

    def _shuffled(self, packs: Sequence[Packed], window: int) -> tuple[Packed, ...]:
        """Best fit closes packs by the length of their longest row; training shall not see that."""
        order = permutation(len(packs), key_of(self.seed, "packs", window))
        return tuple(packs[number] for number in order.tolist())

    def _cut(self, place: Place, window: Window, end_pack: int) -> Window:
        """The window up to the stage's last pack; what lies behind goes back to its sources."""
        kept = window.packs[: end_pack - place.packs]
        delivered = {id(row) for pack in kept for row in pack}
        returned = [list(rows) for rows in window.next.returned]
        for row in (*place.open, *window.drawn):
            if id(row) not in delivered:
                returned[row.source].append(row.row)
        after = replace(
            window.next,
            packs=end_pack,
            open=(),
            returned=tuple(tuple(rows) for rows in returned),
        )
        return replace(window, packs=kept, next=self._in_stage(after))
