"""The loader: global steps, each a fixed list of packs, made ahead by worker processes.

A step is a function of (seed, position, fingerprint). Neither the number of workers nor how far
they run ahead changes a bit of it. What is kept and what is left out:

- a row that `measure` or `encode` refuses leaves its place empty and stands in `Pack.failed` of
  the pack it belongs to; it never shifts a pack. Exact: a row is refused every time or never;
- `TooLongError` is no refusal: it stops the run at the step whose window drew the row;
- at a stage's end, rows that were drawn and stand in no pack are returned to their source;
- with `num_train_epochs` and no stages every drawn row is delivered, and the last step is filled
  up with empty packs; with `max_steps` the run just ends.

The loader knows no model: `measure` and `encode` come from outside, and must be picklable where
there are workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manako.core.errors import RecipeError, ResumeError
from manako.core.example import Pack
from manako.data.full_pass import Progress, measure_everything
from manako.data.lengths import LengthBook, lengths_file
from manako.data.order import SourceOrder
from manako.data.pack_line import PackLine, PlannedPack
from manako.data.row_work import Encode, Measure, Refusal, Workbench
from manako.data.run_order import schedule_of
from manako.data.schedule import Place, Schedule
from manako.data.settings import LoaderSettings, differences, fingerprint_of
from manako.data.source import RowSource
from manako.data.step import ALL_OF_IT, Share, Step
from manako.data.workers import TaskPool, pool_of

STATE_VERSION = 1
FEWEST_AHEAD_PACKS = 4
STOPPING_REASONS = frozenset({"nothing_trained", "no_image_token", "length_differs"})
"""Faults of a data set or a family rather than of one row: `check_first` stops for them."""


@dataclass(frozen=True, kw_only=True)
class _Position:
    """Where a run stands: `taken` packs of the window at `place` have been delivered."""

    place: Place
    taken: int = 0
    step: int = 0
    rows: int = 0


class Loader(Iterator[Step]):
    """Iterate over it for the steps, ask `state()` between them; use `with`, or close it.

    sources: by name, as in `settings.weights`. fingerprint: named hashes of what decides tokens
    and pixels (`Processor.fingerprint`). workers: processes besides this one. prefetch_packs: how
    many packs are made ready beyond the step delivered last (default: one step, at least four).
    lengths_folder: where `num_train_epochs` keeps the lengths of all rows. progress: told (rows
    done, rows in all) while they are measured. share: which packs of each step are encoded here;
    the others stand in it empty, so that order, state and length are those of one process.
    """

    def __init__(
        self,
        settings: LoaderSettings,
        sources: Mapping[str, RowSource],
        *,
        measure: Measure,
        encode: Encode,
        fingerprint: Mapping[str, str],
        workers: int = 1,
        prefetch_packs: int = 0,
        lengths_folder: Path | None = None,
        progress: Progress | None = None,
        share: Share = ALL_OF_IT,
    ) -> None:
        self.settings = settings
        self._share = share
        self._sources = _chosen(settings, sources)
        self._orders = tuple(
            SourceOrder(name, source.groups, source.rows, seed=settings.seed)
            for name, source in self._sources
        )
        self._processor = dict(fingerprint)
        self._workbench = Workbench(
            self._sources, measure, encode, pack_tokens=settings.pack_tokens
        )
        self._workers = workers
        self._prefetch_packs = prefetch_packs
        self._lengths_folder = lengths_folder
        self._progress = progress
        self._book = LengthBook([order.rows for order in self._orders])
        self._pool: TaskPool | None = None
        self._line: PackLine | None = None
        self._prepared: tuple[Schedule, int] | None = None
        self._position = _Position(place=Place.start(len(self._orders)))

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that decides the order; a state resumes only where this is equal."""
        manifests = {name: source.manifest_sha256 for name, source in self._sources}
        return fingerprint_of(self.settings, manifests, self._processor)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run. With `num_train_epochs` every row is measured first, once."""
        return self._prepare()[1]

    @property
    def total_rows(self) -> int:
        """Rows of all sources together: what one epoch draws."""
        return sum(order.rows for order in self._orders)

    @property
    def step(self) -> int:
        """Steps delivered, those before a resume included."""
        return self._position.step

    @property
    def epoch(self) -> float:
        """Rows delivered, in rows of all sources together."""
        return self._position.rows / self.total_rows

    @property
    def positions(self) -> dict[str, tuple[int, int, int]]:
        """Per source (epoch, row within it, rows): from where the current window is drawn."""
        cursors = self._position.place.cursors
        return {
            order.name: (*cursor, order.rows)
            for order, cursor in zip(self._orders, cursors, strict=True)
        }

    def check_first(self) -> None:
        """Stop before the first step for what would spoil the run: a row without a trained token,
        with pictures but no image token, or encoded to another length than measured.

        Looks at the lengths of the first window (with `num_train_epochs`: of all rows) and at the
        encoded rows of the first step, which is needed next anyway. Raises `RowError` for the
        first such row, naming it, and where every row looked at is refused, whatever for. Later
        ones are recorded in `Pack.failed`. Does nothing once a step has been delivered.
        """
        if self._position.step:
            return
        with _Closing(self):
            self._prepare()
            refusals, rows = self._first_refusals()
            _stop_for(refusals)
            if refusals and len(refusals) == rows:
                raise refusals[0].error(f" (and so are all {rows} rows looked at: refused)")
            ready = self._open_line().wait_for(self.settings.global_batch_packs)
            _stop_for([r for pack in ready if pack.encoded for r in pack.encoded.refusals])

    def __iter__(self) -> Loader:
        return self

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Step:
        """The next step. Raises `WorkerError` when a worker died or its code failed,
        `TooLongError` for a row that must not be passed over, `RowError` when a source has no
        row that is not refused."""
        with _Closing(self):
            if self._position.step >= self.total_steps:
                raise StopIteration
            line = self._open_line()
            taken = line.take(self.settings.global_batch_packs)
            step, position = self._step_of(taken)
            line.move(wait=False)
        self._position = position  # last, so that an interrupt above loses no step
        return step

    def close(self) -> None:
        """End the workers. State and position stay; `next` would start them again."""
        self._line = None
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.close()

    def state(self) -> dict[str, Any]:
        """JSON values: the position after the step delivered last, and the fingerprint."""
        position = self._position
        return {
            "version": STATE_VERSION,
            "step": position.step,
            "rows": position.rows,
            "taken": position.taken,
            "place": position.place.as_dict(),
            "fingerprint": self.fingerprint,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken. One window is measured again, nothing is encoded twice.

        Raises `ResumeError` when the fingerprint differs (naming each field, what was found and
        what was expected), when `state` is none, or when nothing remains to be done.
        """
        position = self._position_of(state)
        if position.step >= self.total_steps:
            raise ResumeError(
                f"nothing remains: step {position.step} of {self.total_steps} is done",
                next_step="raise max_steps (a run without stages goes on), or start a new run",
            )
        self._line = None
        self._position = position

    def _position_of(self, state: Mapping[str, Any]) -> _Position:
        try:
            found, version = state["fingerprint"], state["version"]
            position = _Position(
                place=Place.from_dict(state["place"]),
                taken=int(state["taken"]),
                step=int(state["step"]),
                rows=int(state["rows"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ResumeError(f"this is no loader state: {error!r}") from error
        if version != STATE_VERSION:
            raise ResumeError(f"the loader state has version {version}, expected {STATE_VERSION}")
        if lines := differences(found, self.fingerprint):
            raise ResumeError(
                "the run was started with other data or settings: " + "; ".join(lines),
                next_step="go on with the settings of the run's recipe.yaml, or start a new run",
            )
        return position

    def _prepare(self) -> tuple[Schedule, int]:
        """The schedule and its number of steps; with `num_train_epochs`, all lengths first."""
        if self._prepared is None:
            if not self.settings.max_steps:
                self._measure_everything()
            self._prepared = schedule_of(self.settings, self._orders, self._book)
        return self._prepared

    def _measure_everything(self) -> None:
        files = [self._lengths_file(source) for _, source in self._sources]
        with _Closing(self):
            measure_everything(self._book, files, self._open_pool, self._progress)
            _stop_for([refusal for refusal in self._book.all_refusals() if refusal.stops])

    def _lengths_file(self, source: RowSource) -> Path | None:
        if self._lengths_folder is None:
            return None
        decides = {
            "manifest": source.manifest_sha256,
            "processor": self._processor,
            "pack_tokens": self.settings.pack_tokens,
            "too_long": self.settings.too_long,
        }
        return lengths_file(self._lengths_folder, decides)

    def _first_refusals(self) -> tuple[list[Refusal], int]:
        """The refused among the rows whose lengths are known first, and how many those are."""
        if not self.settings.max_steps:
            return self._book.all_refusals(), self.total_rows
        window = self._open_line().window(self._position.place)
        drawn = window.drawn if window else ()
        found = [self._book.refusal(row.source, row.row) for row in drawn]
        return [refusal for refusal in found if refusal is not None], len(drawn)

    def _open_pool(self) -> TaskPool:
        if self._pool is None:
            self._pool = pool_of(self._workbench, self._workers)
        return self._pool

    def _open_line(self) -> PackLine:
        if self._line is None:
            schedule, steps = self._prepare()
            count, share = self.settings.global_batch_packs, self._share
            least = max(FEWEST_AHEAD_PACKS, 2 * self._workers) if self._workers else 0
            least *= share.ranks  # of those ahead only our share is encoded here
            self._line = PackLine(
                schedule,
                self._book,
                self._open_pool(),
                place=self._position.place,
                skip=self._position.taken,
                left_packs=(steps - self._position.step) * count,
                ahead_packs=max(count, self._prefetch_packs or least),
                measures_ahead=self._workers > 0,
                is_ours=lambda number: share.has(number % count),  # not self: that would be a cycle
            )
        return self._line

    def _step_of(self, taken: Sequence[PlannedPack]) -> tuple[Step, _Position]:
        before, count = self._position, self.settings.global_batch_packs
        first = before.step * count
        packs = [self._pack(first + at, planned) for at, planned in enumerate(taken)]
        packs += [self._empty_pack(first + at) for at in range(len(packs), count)]
        position = _Position(
            place=taken[-1].place,
            taken=taken[-1].taken,
            step=before.step + 1,
            rows=before.rows + sum(len(planned.rows) for planned in taken),
        )
        return Step(number=position.step, packs=tuple(packs)), position

    def _pack(self, number: int, planned: PlannedPack) -> Pack:
        encoded = planned.encoded
        if encoded is None:
            return self._empty_pack(number)
        for refusal in encoded.refusals:
            if refusal.stops:
                raise refusal.error()
        return Pack(
            examples=encoded.examples,
            pack_tokens=self.settings.pack_tokens,
            number=number,
            failed=tuple((each.id, f"{each.reason}: {each.message}") for each in encoded.refusals),
        )

    def _empty_pack(self, number: int) -> Pack:
        return Pack(examples=(), pack_tokens=self.settings.pack_tokens, number=number)


class _Closing:
    """Whatever ends the block early ends the workers too: no error leaves processes behind."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._loader.close()


def _chosen(
    settings: LoaderSettings, sources: Mapping[str, RowSource]
) -> tuple[tuple[str, RowSource], ...]:
    if missing := [name for name in settings.names if name not in sources]:
        raise RecipeError(
            f"the loader was handed no source named {', '.join(missing)}; "
            f"it has {', '.join(sources) or 'none'}"
        )
    return tuple((name, sources[name]) for name in settings.names)


def _stop_for(refusals: Sequence[Refusal]) -> None:
    """Raise for the first refusal that stops a run, and say how many there are."""
    stopping = [each for each in refusals if each.stops or each.reason in STOPPING_REASONS]
    if stopping:
        others = len(stopping) - 1
        raise stopping[0].error(f" ({others} more such rows)" if others else "")
