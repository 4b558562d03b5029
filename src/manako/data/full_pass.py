"""Lengths of every row of every source: from files of an earlier run, or measured and then kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from manako.data.lengths import LengthBook
from manako.data.row_work import Measured, MeasureTask, raise_error
from manako.data.workers import TaskPool

CHUNK_ROWS = 256
TASKS_IN_WORK = 16
Progress = Callable[[int, int], None]


def measure_everything(
    book: LengthBook,
    files: Sequence[Path | None],
    pool: Callable[[], TaskPool],
    progress: Progress | None,
) -> None:
    """Fill the book. `files`: one per source, or None where nothing is kept. `pool` is called
    only when something is to be measured; `progress` is told (rows done, rows in all)."""
    missing = [
        source for source, file in enumerate(files) if file is None or not book.load(source, file)
    ]
    if missing:
        _measure(book, missing, pool(), progress)
    for source in missing:
        if file := files[source]:
            book.save(source, file)


def _measure(
    book: LengthBook, sources: Sequence[int], pool: TaskPool, progress: Progress | None
) -> None:
    tasks = deque(task for source in sources for task in _tasks(book, source))
    total = sum(len(task.rows) for task in tasks)
    done, in_work = 0, set[int]()
    while tasks or in_work:
        while tasks and len(in_work) < TASKS_IN_WORK:
            in_work.add(pool.submit(tasks.popleft()))
        for ticket, outcome in pool.collect(wait=True):
            measured = raise_error(outcome)
            if isinstance(measured, Measured):
                book.learn(measured)
                done += len(measured.task.rows)
            in_work.discard(ticket)
        if progress is not None:
            progress(done, total)


def _tasks(book: LengthBook, source: int) -> list[MeasureTask]:
    rows = book.unknown_rows(source).tolist()
    return [
        MeasureTask(source=source, rows=tuple(rows[at : at + CHUNK_ROWS]), keep=False)
        for at in range(0, len(rows), CHUNK_ROWS)
    ]
