"""What is done to rows, in a worker process or in place: measure some, encode a pack of some.

A row that cannot be used is an ordinary outcome (`Refusal`), told alike by every process; any
other exception is a fault of the code that was handed in, and stops the run with the row's name.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from manako.core.conversation import Conversation, Text, Video
from manako.core.errors import (
    ImageError,
    InputError,
    ManakoError,
    NothingTrainedError,
    NotInThisVersion,
    RowError,
    TemplateError,
    TooLongError,
    WorkerError,
)
from manako.core.example import Example, Lengths
from manako.data.source import RowSource

Measure = Callable[[Conversation], Lengths]
Encode = Callable[[Conversation], Example]
ROW_FAULTS = (InputError, NotInThisVersion)
"""Errors that say something about one row; others (a missing shard, a bug) stop the run."""
SMALL_ROW_BYTES = 64 * 1024
"""Sources whose rows are no larger on average are read whole to be measured, and kept for `encode`
(half of the time that a small row takes is reading it). Of others the outline is measured, which
leaves the pictures on the disk. A property of the source, so every run of it measures alike."""
CACHE_BYTES = 64 * 10**6


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a row cannot be used. `reason` is a short stable word; `stops`: the run must end."""

    id: str
    reason: str
    message: str
    next_step: str = ""
    stops: bool = False

    @classmethod
    def of(cls, error: ManakoError, row_id: str) -> Refusal:
        return cls(
            id=row_id,
            reason=reason_of(error),
            message=error.message,
            next_step=error.next_step,
            stops=isinstance(error, TooLongError),
        )

    def error(self, context: str = "") -> RowError:
        """The error that stops a run for this row; its message names the row."""
        kind = TooLongError if self.stops else RowError
        named = self.message if self.id in self.message else f"row {self.id}: {self.message}"
        return kind(named + context, reason=self.reason, row_id=self.id, next_step=self.next_step)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def reason_of(error: ManakoError) -> str:
    """A short stable word for what an error says of a row."""
    if isinstance(error, NothingTrainedError):
        return "nothing_trained"
    if isinstance(error, TooLongError):
        return "too_long"
    if isinstance(error, RowError | ImageError):
        return error.reason
    if isinstance(error, TemplateError):
        return "template"
    return "not_in_this_version" if isinstance(error, NotInThisVersion) else "input"


@dataclass(frozen=True, kw_only=True)
class MeasureTask:
    """Measure these rows of one source. keep: their encoding will be asked for soon."""

    source: int
    rows: tuple[int, ...]
    keep: bool = True

    @property
    def weight(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Per row of the task: tokens and trained tokens; refused rows stand in `refusals`."""

    task: MeasureTask
    tokens: tuple[int, ...]
    trained: tuple[int, ...]
    refusals: Mapping[int, Refusal]


@dataclass(frozen=True, kw_only=True)
class EncodeTask:
    """Encode the rows of one pack: (source, row, tokens as measured; below 0 if refused)."""

    rows: tuple[tuple[int, int, int], ...]

    @property
    def weight(self) -> int:
        return 4 * len(self.rows)  # decoding a picture costs several times what its header does


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The examples of a pack in order, without those that were refused."""

    examples: tuple[Example, ...]
    refusals: tuple[Refusal, ...]


Task = MeasureTask | EncodeTask
Outcome = Measured | Encoded


def raise_error(outcome: Outcome | ManakoError) -> Outcome:
    """The outcome, unless it is the error of a task that failed."""
    if isinstance(outcome, ManakoError):
        raise outcome
    return outcome


class Workbench:
    """Does tasks. Picklable where its sources and callables are; a copy starts with no cache."""

    def __init__(
        self,
        sources: tuple[tuple[str, RowSource], ...],
        measure: Measure,
        encode: Encode,
        *,
        pack_tokens: int,
    ) -> None:
        self._sources = sources
        self._measure = measure
        self._encode = encode
        self._pack_tokens = pack_tokens
        self._is_small = tuple(_is_small(source) for _, source in sources)
        self._cache = _Conversations(CACHE_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return _workbench, (self._sources, self._measure, self._encode, self._pack_tokens)

    def do(self, task: Task) -> Outcome:
        """Raises `WorkerError`, naming the row, for anything but a row that cannot be used."""
        return self._measured(task) if isinstance(task, MeasureTask) else self._encoded(task)

    def _measured(self, task: MeasureTask) -> Measured:
        found = [self._measure_row(task.source, row, keep=task.keep) for row in task.rows]
        return Measured(
            task=task,
            tokens=tuple(-1 if isinstance(each, Refusal) else each.tokens for each in found),
            trained=tuple(
                0 if isinstance(each, Refusal) else each.trained_tokens for each in found
            ),
            refusals={
                row: each
                for row, each in zip(task.rows, found, strict=True)
                if isinstance(each, Refusal)
            },
        )

    def _measure_row(self, source: int, row: int, *, keep: bool = False) -> Lengths | Refusal:
        row_id = self._called(source, row)
        is_small = self._is_small[source]
        try:
            conversation = self._read(source, row) if is_small else self._outline(source, row)
            row_id = conversation.id or row_id
            lengths = self._measure(conversation)
            self._check(lengths, row_id)
        except ROW_FAULTS as error:
            return Refusal.of(error, getattr(error, "row_id", "") or row_id)
        except Exception as error:
            raise _fault("measure", row_id, error) from error
        if keep and is_small:
            self._cache.keep((source, row), conversation)
        return lengths

    def _check(self, lengths: Lengths, row_id: str) -> None:
        if not lengths.trained_tokens:
            raise NothingTrainedError(
                f"row {row_id}: none of its {lengths.tokens} tokens would be trained",
                reason="nothing_trained",
                row_id=row_id,
            )
        if lengths.tokens > self._pack_tokens:
            raise TooLongError(
                f"row {row_id} has {lengths.tokens} tokens, above pack_tokens {self._pack_tokens}",
                reason="too_long",
                row_id=row_id,
                next_step="raise pack_tokens, or set too_long: drop | shrink_images | trim_text",
            )

    def _encoded(self, task: EncodeTask) -> Encoded:
        found = [self._encode_row(*each) for each in task.rows]
        return Encoded(
            examples=tuple(each for each in found if isinstance(each, Example)),
            refusals=tuple(each for each in found if isinstance(each, Refusal)),
        )

    def _encode_row(self, source: int, row: int, tokens: int) -> Example | Refusal:
        if tokens < 0:
            return self._refused_before(source, row)
        row_id = self._called(source, row)
        try:
            conversation = self._cache.take((source, row)) or self._read(source, row)
            row_id = conversation.id or row_id
            example = self._encode(conversation)
        except ROW_FAULTS as error:
            return Refusal.of(error, getattr(error, "row_id", "") or row_id)
        except Exception as error:
            raise _fault("encode", row_id, error) from error
        return _as_measured(example, tokens, row_id)

    def _refused_before(self, source: int, row: int) -> Refusal:
        again = self._measure_row(source, row)
        if isinstance(again, Refusal):
            return again
        raise WorkerError(
            f"row {self._called(source, row)} was refused once and measured well the second time",
            next_step="`measure` must give the same answer for the same row",
        )

    def _read(self, source: int, row: int) -> Conversation:
        return self._sources[source][1].conversation(row)

    def _outline(self, source: int, row: int) -> Conversation:
        return self._sources[source][1].outline(row)

    def _called(self, source: int, row: int) -> str:
        return f"{self._sources[source][0]}#{row}"


def _workbench(
    sources: tuple[tuple[str, RowSource], ...], measure: Measure, encode: Encode, pack_tokens: int
) -> Workbench:
    return Workbench(sources, measure, encode, pack_tokens=pack_tokens)


def _is_small(source: RowSource) -> bool:
    return sum(size for _, _, size in source.groups) <= SMALL_ROW_BYTES * source.rows


def _as_measured(example: Example, tokens: int, row_id: str) -> Example | Refusal:
    """A pack was filled by what `measure` said, so an example of another length has no place."""
    if example.tokens != tokens:
        return Refusal(
            id=row_id,
            reason="length_differs",
            message=f"row {row_id}: measured {tokens} tokens, encoded {example.tokens}",
        )
    if not example.trained.any():
        return Refusal(
            id=row_id,
            reason="nothing_trained",
            message=f"row {row_id}: none of its {tokens} tokens would be trained",
        )
    return example if example.id else dataclasses.replace(example, id=row_id)


def _fault(verb: str, row_id: str, error: Exception) -> WorkerError:
    return WorkerError(
        f"{verb} failed on row {row_id}: {type(error).__name__}: {error}",
        next_step="this is a fault of the program or of the disk, not of the row's content",
    )


class _Conversations:
    """Those seen last, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._kept: OrderedDict[tuple[int, int], Conversation] = OrderedDict()

    def keep(self, place: tuple[int, int], conversation: Conversation) -> None:
        size_bytes = _size_bytes(conversation)
        if place in self._kept or size_bytes > self._limit_bytes:
            return
        self._kept[place] = conversation
        self._size_bytes += size_bytes
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= _size_bytes(self._kept.popitem(last=False)[1])

    def take(self, place: tuple[int, int]) -> Conversation | None:
        conversation = self._kept.pop(place, None)
        if conversation is not None:
            self._size_bytes -= _size_bytes(conversation)
        return conversation


def _size_bytes(conversation: Conversation) -> int:
    parts = [part for message in conversation.messages for part in message.content]
    return sum(_part_bytes(part) for part in parts)


def _part_bytes(part: Any) -> int:
    if isinstance(part, Text):
        return 4 * len(part.text)
    if isinstance(part, Video):
        return sum(len(frame.data) for frame in part.frames)
    return len(part.data)
