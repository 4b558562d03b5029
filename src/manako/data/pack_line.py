"""Packs on their way from the schedule to training: planned, encoded ahead, taken in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from manako.core.errors import ManakoError
from manako.data.lengths import LengthBook
from manako.data.row_work import (
    Encoded,
    EncodeTask,
    Measured,
    MeasureTask,
    Outcome,
    raise_error,
)
from manako.data.schedule import Packed, Place, Schedule, Unmeasured, Window
from manako.data.workers import TaskPool

LEAST_CHUNK_ROWS = 32
CHUNKS_PER_WINDOW = 8
"""Rows are measured in this many tasks a window: some for each worker."""


@dataclass(eq=False)
class PlannedPack:
    """A pack on its way. When it has been taken, the line stands at pack `taken` of the window at
    `place`."""

    rows: Packed
    place: Place
    taken: int
    is_ours: bool = True
    ticket: int = 0
    encoded: Encoded | None = None


class PackLine:
    """The packs from (`place`, `skip` packs of its window left out) on, `left_packs` at most.

    At most `ahead_packs` are planned and in work beyond those taken. `measures_ahead`: lengths of
    the next window are asked for before it is planned, which pays where somebody else measures.
    `is_ours` is asked for each pack, counted from where the line starts: others are planned and
    taken like it, but not encoded.
    """

    def __init__(
        self,
        schedule: Schedule,
        book: LengthBook,
        pool: TaskPool,
        *,
        place: Place,
        skip: int,
        left_packs: int,
        ahead_packs: int,
        measures_ahead: bool,
        is_ours: Callable[[int], bool] = lambda number: True,
    ) -> None:
        self._schedule = schedule
        self._book = book
        self._pool = pool
        self._place = place
        self._skip = skip
        self._left_packs = left_packs
        self._ahead_packs = ahead_packs
        self._measures_ahead = measures_ahead
        self._is_ours = is_ours
        self._planned_ever = 0
        self._chunk_rows = max(LEAST_CHUNK_ROWS, schedule.window_rows // CHUNKS_PER_WINDOW)
        self._missing: tuple[int, int] | None = None
        self._measured_at: Place | None = None
        self._measuring: set[tuple[int, int]] = set()
        self._planned: deque[PlannedPack] = deque()
        self._in_work: dict[int, PlannedPack] = {}
        self._has_ended = False
        self._trouble: ManakoError | None = None

    def take(self, count: int) -> list[PlannedPack]:
        """The next `count` packs, ours encoded; fewer only where the order ends."""
        ready = self.wait_for(count)
        for _ in ready:
            self._planned.popleft()
        self._left_packs -= count
        return ready

    def wait_for(self, count: int) -> list[PlannedPack]:
        """Like `take`, and leave them in the line."""
        wanted = min(count, self._left_packs)
        self.move(wait=False)
        while not self._has_ready(wanted):
            if self._trouble is not None and len(self._planned) < wanted:
                raise self._trouble
            self.move(wait=True)
        return list(islice(self._planned, wanted))

    def move(self, *, wait: bool) -> None:
        """Take in what is done, plan on, hand out work; with `wait`, until something is done."""
        for ticket, outcome in self._pool.collect(wait=wait):
            self._take_in(ticket, raise_error(outcome))
        self._plan()
        self._hand_out()

    def window(self, place: Place) -> Window | None:
        """The window at `place`, with what it takes to measure it."""
        while True:
            try:
                return self._schedule.window(place, self._book)
            except Unmeasured as missing:
                self._measure_for(missing.source, place)
            self.move(wait=True)

    def _has_ready(self, wanted: int) -> bool:
        if len(self._planned) < wanted and not self._has_ended:
            return False
        ahead = islice(self._planned, wanted)
        return all(pack.encoded is not None for pack in ahead if pack.is_ours)

    def _take_in(self, ticket: int, outcome: Outcome) -> None:
        if isinstance(outcome, Measured):
            self._measuring -= {(outcome.task.source, row) for row in outcome.task.rows}
            self._book.learn(outcome)
        elif planned := self._in_work.pop(ticket, None):
            planned.encoded = outcome

    def _plan(self) -> None:
        wanted = min(self._ahead_packs, self._left_packs)
        while len(self._planned) < wanted and not self._has_ended and self._trouble is None:
            if self._missing and not self._book.knows(*self._missing):
                return
            try:
                window = self._schedule.window(self._place, self._book)
            except Unmeasured as missing:
                self._missing = (missing.source, missing.row)
                self._measure_for(missing.source, self._place)
                return
            except ManakoError as error:
                # Told when the step that needs this window is asked for. Without its frames,
                # which hold this line, and so the workers, in a cycle.
                self._trouble = error.with_traceback(None)
                return
            if window is None:
                self._has_ended = True
            else:
                self._put(window)

    def _put(self, window: Window) -> None:
        for taken, rows in enumerate(window.packs[self._skip :], start=self._skip + 1):
            is_last = taken == len(window.packs)
            self._planned.append(
                PlannedPack(
                    rows=rows,
                    place=window.next if is_last else self._place,
                    taken=0 if is_last else taken,
                    is_ours=self._is_ours(self._planned_ever),
                )
            )
            self._planned_ever += 1
        self._skip = 0
        self._place = window.next

    def _hand_out(self) -> None:
        """Encoding first, in order; then the lengths that the next window will ask for."""
        for planned in islice(self._planned, min(self._ahead_packs, self._left_packs)):
            if planned.is_ours and not planned.ticket:
                planned.ticket = self._pool.submit(EncodeTask(rows=planned.rows))
                self._in_work[planned.ticket] = planned
        if self._measures_ahead and self._measured_at is not self._place:
            self._measured_at = self._place
            for source, share in enumerate(self._schedule.shares(self._place)):
                if share and len(self._planned) < self._left_packs:
                    count = int(share * self._schedule.window_rows) + self._chunk_rows
                    self._ask_for(source, self._next_rows(self._place, source, count))

    def _measure_for(self, source: int, place: Place) -> None:
        """The row that a window waits for is among the next rows of its source: ask for those
        next that are neither known nor asked for, unless one of them is already being measured."""
        count = int(self._schedule.shares(place)[source] * self._schedule.window_rows) + 1
        while True:
            rows = self._next_rows(place, source, count)
            if self._ask_for(source, rows) or any((source, row) in self._measuring for row in rows):
                return
            count *= 2

    def _next_rows(self, place: Place, source: int, count: int) -> list[int]:
        return list(islice(self._schedule.upcoming(place, source), count))

    def _ask_for(self, source: int, rows: Iterable[int]) -> bool:
        """Have those rows measured of which nothing is known; whether there were any."""
        unknown = [
            row
            for row in dict.fromkeys(rows)
            if not self._book.knows(source, row) and (source, row) not in self._measuring
        ]
        for start in range(0, len(unknown), self._chunk_rows):
            chunk = tuple(unknown[start : start + self._chunk_rows])
            self._pool.submit(MeasureTask(source=source, rows=chunk))
            self._measuring |= {(source, row) for row in chunk}
        return bool(unknown)
