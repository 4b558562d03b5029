"""Worker processes: what they send, how they end, and what is said when one dies."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loader_fakes import FakeProcessor, FakeSource, make_loader

from manako.core.errors import InputError, WorkerError
from manako.data.loader import Loader
from manako.data.wire import INLINE_BYTES, Channel, receive_blocking, send
from manako.data.workers import Workers

HERE = Path(__file__).parent
ONE: dict[str, Any] = {"weights": {"a": 1.0}, "max_steps": 400}


def pids_of(loader: Loader) -> tuple[int, ...]:
    pool = loader._open_pool()
    assert isinstance(pool, Workers)
    return pool.pids


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pids: tuple[int, ...] | list[int], seconds: float = 20.0) -> list[int]:
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


# Messages


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["uint8", "int32", "float32", "bool"]),
            st.integers(0, 3 * INLINE_BYTES),
        ),
        max_size=5,
    )
)
def test_arrays_come_out_as_they_went_in(arrays: list[tuple[str, int]]) -> None:
    values = [(np.arange(count) % 200).astype(kind).reshape(-1, 1) for kind, count in arrays]
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    try:
        send(theirs, {"values": values, "text": "字"})
        received = channel.receive()
    finally:
        channel.close()
        theirs.close()
    assert len(received) == 1
    assert received[0]["text"] == "字"
    for found, value in zip(received[0]["values"], values, strict=True):
        assert found.dtype == value.dtype
        assert found.flags.writeable or not found.size
        np.testing.assert_array_equal(found, value)


def test_a_message_may_arrive_in_pieces_and_be_larger_than_the_socket_holds() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    for number in range(3):
        channel.put((number, "x" * 10**6))
    theirs.settimeout(20)
    received = [_receive_while_flushing(channel, theirs) for _ in range(3)]
    channel.close()
    theirs.close()
    assert [number for number, _ in received] == [0, 1, 2]


def _receive_while_flushing(channel: Channel, theirs: socket.socket) -> Any:
    """One process plays both ends, so it writes whenever the reader would wait."""

    class Flushing:
        def recv_into(self, view: memoryview) -> int:
            while not select.select([theirs], [], [], 0)[0]:
                channel.flush()
            return theirs.recv_into(view)

    return receive_blocking(Flushing())  # type: ignore[arg-type]


def test_packs_that_are_kept_hold_no_file_open() -> None:
    """Tests and evaluations keep thousands of packs; a process may have 256 files open."""
    medium = FakeProcessor(pixel_bytes=30_000)
    with make_loader(
        {**ONE, "max_steps": 40, "global_batch_packs": 1}, processor=medium, workers=1
    ) as loader:
        kept = [next(loader)]
        before = open_files()
        kept += list(loader)
        assert len(kept) == 40
        assert open_files() <= before + 1


# Endings


def test_closing_ends_the_workers_and_the_loader_can_go_on() -> None:
    with make_loader(ONE, workers=2) as loader:
        next(loader)
        pids = pids_of(loader)
        loader.close()
        assert wait_until_gone(pids) == []
        assert next(loader).number == 2


def test_a_loader_that_is_let_go_ends_its_workers() -> None:
    loader = make_loader(ONE, workers=1)
    next(loader)
    pids = pids_of(loader)
    del loader
    assert wait_until_gone(pids) == []


def test_the_end_of_the_run_ends_the_workers() -> None:
    loader = make_loader({**ONE, "max_steps": 2}, workers=1)
    next(loader)
    pids = pids_of(loader)
    assert len(list(loader)) == 1
    assert wait_until_gone(pids) == []


def test_workers_load_no_framework() -> None:
    """They share two cores and little memory with training."""
    code = (
        "import sys, manako.data.worker, manako.data.row_work, manako.data.store\n"
        "print([name for name in ('torch', 'transformers', 'pyarrow') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_named_and_none_is_left(workers: int) -> None:
    sources = {"a": FakeSource("a", 50, faults={20: "killed"})}
    loader = make_loader({**ONE, "max_steps": 40}, sources=sources, workers=workers)
    next(loader, None)
    with pytest.raises(WorkerError, match=r"worker \d .*killed by signal 9 \(SIGKILL\).*encoding"):
        list(loader)
    state = loader.state()
    assert state["step"] == loader.step < 40
    assert loader._pool is None


def test_a_worker_killed_from_outside_is_named() -> None:
    with make_loader(ONE, workers=2) as loader:
        next(loader)
        pids = pids_of(loader)
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(WorkerError, match=rf"worker 1 .*process {pids[1]}.*SIGKILL"):
            list(loader)
        assert wait_until_gone(pids) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_what_is_handed_in_stops_the_run_with_the_row(workers: int) -> None:
    sources = {"a": FakeSource("a", 50, faults={20: "bug"})}
    with (
        make_loader({**ONE, "max_steps": 40}, sources=sources, workers=workers) as loader,
        pytest.raises(WorkerError, match="encode failed on row a-20: ZeroDivisionError: a bug"),
    ):
        list(loader)


def test_what_cannot_be_sent_to_a_worker_is_refused() -> None:
    source = FakeSource("a", 50)
    loader = Loader(
        make_loader(ONE).settings,
        {"a": source},
        measure=lambda conversation: FakeProcessor().measure(conversation),
        encode=FakeProcessor().encode,
        fingerprint={},
        workers=1,
    )
    with pytest.raises(InputError, match="cannot be sent to a worker"):
        next(loader)


def test_what_a_worker_cannot_open_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of the user's own script are not found in a worker, whose script is another."""
    script = sys.modules["__main__"]
    made = type("Made", (FakeProcessor,), {"__module__": "__main__", "__qualname__": "Made"})
    monkeypatch.setattr(script, "Made", made, raising=False)
    with (
        make_loader(ONE, processor=made(), workers=1) as loader,
        pytest.raises(WorkerError, match=r"failed opening what it was handed.*Made"),
    ):
        next(loader)


# The process around it

PROGRAM = """
import sys, time
sys.path.append({here!r})
from loader_fakes import make_loader
loader = make_loader({{"weights": {{"a": 1.0}}, "max_steps": 100000}}, workers=2)
next(loader)
print(*loader._open_pool().pids, flush=True)
for step in loader:
    time.sleep(0.01)
"""


def start_program() -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(here=str(HERE))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


def end_program(process: subprocess.Popen[str]) -> str:
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    return errors


def test_ctrl_c_leaves_no_worker_and_no_noise_from_them() -> None:
    process, pids = start_program()
    assert len(pids) == 2
    os.killpg(process.pid, signal.SIGINT)
    errors = end_program(process)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert wait_until_gone(pids) == []


@pytest.mark.kill
def test_workers_end_by_themselves_when_their_parent_is_killed() -> None:
    process, pids = start_program()
    assert len(pids) == 2
    process.kill()
    end_program(process)
    assert wait_until_gone(pids) == []
