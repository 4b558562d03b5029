"""Who does the tasks: this process (`InPlace`) or worker processes (`Workers`).

Both take tasks and give outcomes under the number that `submit` returned, in any order. What comes
out of a task depends on the task alone, so which worker does it changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from manako.core.errors import InputError, ManakoError, NotInThisVersion, WorkerError
from manako.data.row_work import EncodeTask, Outcome, Task, Workbench
from manako.data.wire import Channel, anonymous_file

ALIVE_CHECK_SECONDS = 2.0
END_SECONDS = 2.0
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""A worker is one thread of work; libraries that start one per core would take training's."""


class TaskPool(Protocol):
    """Takes tasks, gives outcomes."""

    def submit(self, task: Task) -> int:
        """Queue a task; its number."""
        ...

    def collect(self, *, wait: bool) -> list[tuple[int, Outcome | ManakoError]]:
        """Outcomes that are there; with `wait`, at least one unless no task is under way."""
        ...

    def close(self) -> None: ...


class InPlace:
    """No processes: a task is done when somebody waits for an outcome."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._queue: deque[tuple[int, Task]] = deque()
        self._count = 0

    def submit(self, task: Task) -> int:
        self._count += 1
        self._queue.append((self._count, task))
        return self._count

    def collect(self, *, wait: bool) -> list[tuple[int, Outcome | ManakoError]]:
        if not wait or not self._queue:
            return []
        ticket, task = self._queue.popleft()
        return [(ticket, self._workbench.do(task))]

    def close(self) -> None:
        self._queue.clear()


@dataclass(eq=False)
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    channel: Channel
    tasks: dict[int, Task] = field(default_factory=dict)

    @property
    def load(self) -> int:
        return sum(task.weight for task in self.tasks.values())


class Workers:
    """`count` worker processes. Close it, or let it go: the processes end with it."""

    def __init__(self, workbench: Workbench, count: int) -> None:
        if not hasattr(socket, "send_fds") or os.name != "posix":
            raise NotInThisVersion(
                f"worker processes on {sys.platform} are not in this version",
                next_step="set dataloader_num_workers: 0",
            )
        self._workers: list[_Worker] = []
        self._count = 0
        self._finalizer = weakref.finalize(self, _end, self._workers, os.getpid())
        descriptor = anonymous_file([_pickled(workbench)])
        try:
            for number in range(count):
                self._workers.append(_start(number, descriptor))
        finally:
            os.close(descriptor)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.process.pid for worker in self._workers)

    def submit(self, task: Task) -> int:
        self._count += 1
        worker = min(self._workers, key=lambda worker: worker.load)
        worker.tasks[self._count] = task
        worker.channel.put((self._count, task))
        with contextlib.suppress(ConnectionError):  # `collect` finds out, and says who died
            worker.channel.flush()
        return self._count

    def collect(self, *, wait: bool) -> list[tuple[int, Outcome | ManakoError]]:
        """Raises `WorkerError` naming a worker that died."""
        outcomes = self._exchange(0.0)
        while wait and not outcomes and any(worker.tasks for worker in self._workers):
            outcomes = self._exchange(ALIVE_CHECK_SECONDS)
            if not outcomes:
                self._check_alive()
        return outcomes

    def _exchange(self, seconds: float) -> list[tuple[int, Outcome | ManakoError]]:
        writing = [worker.channel for worker in self._workers if worker.channel.has_unsent]
        poll = select.poll()
        for worker in self._workers:
            events = select.POLLIN | (select.POLLOUT if worker.channel in writing else 0)
            poll.register(worker.channel.fileno(), events)
        ready = dict(poll.poll(seconds * 1000))
        outcomes: list[tuple[int, Outcome | ManakoError]] = []
        for worker in self._workers:
            if worker.channel.fileno() in ready:
                outcomes += self._exchange_with(worker)
        return outcomes

    def _exchange_with(self, worker: _Worker) -> list[tuple[int, Outcome | ManakoError]]:
        with contextlib.suppress(ConnectionError):  # what it sent before it died is read first
            worker.channel.flush()
        try:
            received = worker.channel.receive()
        except EOFError:
            raise _death(worker) from None
        for ticket, outcome in received:
            if ticket < 0:
                raise outcome
            del worker.tasks[ticket]
        return received

    def _check_alive(self) -> None:
        """A process that a grandchild outlives keeps its socket open; its end is seen here."""
        for worker in self._workers:
            if worker.process.poll() is not None:
                raise _death(worker)

    def close(self) -> None:
        self._finalizer()


def _pickled(workbench: Workbench) -> bytes:
    try:
        return pickle.dumps(workbench, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InputError(
            f"the loader's sources or callables cannot be sent to a worker process: {error}",
            next_step="define them at the top of an importable module, or set "
            "dataloader_num_workers: 0",
        ) from error


def _start(number: int, workbench_descriptor: int) -> _Worker:
    ours, theirs = socket.socketpair()
    descriptors = (theirs.fileno(), workbench_descriptor)
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",  # the working folder is searched only where this process searches it
                "-m",
                "manako.data.worker",
                *(str(value) for value in (*descriptors, os.getpid())),
            ],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a library prints must not mix with the program's own output
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)},
            process_group=0,  # Ctrl-C reaches the loader's process alone, which ends its workers
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Worker(number, process, Channel(ours))


def _death(worker: _Worker) -> WorkerError:
    try:
        code = worker.process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        code = worker.process.wait()
    how, next_step = f"ended with exit code {code}", "its own message stands above"
    if code < 0:
        how = f"was killed by signal {-code} ({_signal_name(-code)})"
        next_step = "start the run again: it goes on from its last checkpoint"
    if code == -signal.SIGKILL:
        next_step = (
            "most often the system ran out of memory: set fewer dataloader_num_workers, a smaller "
            "global_batch_packs or max_pixels; then start again from the last checkpoint"
        )
    return WorkerError(
        f"worker {worker.number} of the loader (process {worker.process.pid}) {how}"
        f"{_work_of(worker)}",
        next_step=next_step,
    )


def _work_of(worker: _Worker) -> str:
    if not worker.tasks:
        return ""
    task = next(iter(worker.tasks.values()))
    verb = "encoding" if isinstance(task, EncodeTask) else "measuring"
    return f" while {verb} {len(task.rows)} rows"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _end(workers: list[_Worker], owner: int) -> None:
    """Close the sockets, at which workers end; kill those that have not after a moment."""
    if os.getpid() != owner:
        return  # a fork of the owner must not end what is not its own
    for worker in workers:
        worker.channel.close()
    deadline = time.monotonic() + END_SECONDS
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
    workers.clear()


def pool_of(workbench: Workbench, workers: int) -> TaskPool:
    """Worker processes, or this process where `workers` is 0."""
    return Workers(workbench, workers) if workers else InPlace(workbench)
