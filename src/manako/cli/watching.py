"""Watching a run: it is a process of its own, and what is seen here only reads its files."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from manako.cli.failures import Ended, say_failure
from manako.cli.screen import Screen
from manako.core.record import read_record
from manako.core.units import show_count
from manako.verbs.exits import Exit
from manako.verbs.runs import (
    LOG,
    RECORD,
    START,
    Failure,
    Run,
    ask_to_stop,
    is_held,
    log_tail,
    read_run,
    state_now,
    wait_for_end,
)

POLL_SECONDS = 0.2


def watch(screen: Screen, folder: Path) -> Run:
    """Follow a run until no process has it; where it then stands."""
    from manako.report.live import follow

    _wait_for_first_step(screen, folder)
    has_begun = is_held(folder) or read_run(folder).failure is None
    if has_begun and (folder / RECORD).is_file():
        _say_what_is_trained(screen, folder)
        follow(folder / RECORD, screen.people, lang=screen.lang, is_running=lambda: is_held(folder))
    return wait_for_end(folder)


def watch_and_stop(screen: Screen, folder: Path) -> Run:
    """Follow a run for the call that trains: Ctrl-C and SIGTERM ask it to save and stop, and wait
    for that; a second one leaves without waiting. SIGHUP, a closed terminal, ends only the watching.
    """
    with _term_as_interrupt():
        try:
            return watch(screen, folder)
        except KeyboardInterrupt:
            return stop(screen, folder)


@contextlib.contextmanager
def _term_as_interrupt() -> Iterator[None]:
    """Whoever ends a container or a job says SIGTERM, and means the run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(screen: Screen, folder: Path) -> Run:
    """Ask a run to save and stop, and wait until it has."""
    screen.note("train.saving")
    try:
        while is_held(folder) and not ask_to_stop(folder):
            time.sleep(POLL_SECONDS)  # the process has not yet said which one it is
        with screen.working("runs.stopping", name=folder.name):
            return wait_for_end(folder)
    except KeyboardInterrupt:
        screen.note("train.left", folder=folder)
        raise Ended(Exit.STOPPED) from None


def finish(screen: Screen, run: Run, *, command: str) -> None:
    """Say how a run ended and how to go on; raises `Ended` unless it has finished."""
    if run.failure is not None and run.exit_code not in (Exit.OK, Exit.STOPPED):
        _say_failed(screen, run, run.failure)
    if screen.is_json:
        screen.print_json(run.as_dict())
    if run.state == "finished":
        where = run.folder / (run.checkpoint or "")
        say_speed(screen, run)
        screen.show("train.finished", step=run.step, checkpoint=where, folder=run.folder)
    elif run.state == "stopped":
        key = "train.stopped" if run.checkpoint else "train.stopped_early"
        screen.show(key, step=run.step, total=run.total_steps, command=command)
        raise Ended(Exit.STOPPED)
    else:
        screen.note("train.killed", command=command)
        screen.err.print(log_tail(run.folder), soft_wrap=True)
        raise Ended(Exit.FAILED)


def say_speed(screen: Screen, run: Run) -> None:
    """How fast the last steps were; of operations only what is known."""
    if run.tokens_per_second is None:
        return
    known = {"speed": run.tokens_per_second}
    key = "train.speed"
    if run.tflops is not None:
        key, known["tflops"] = "train.speed.tflops", run.tflops
    if run.mfu is not None:
        key, known["share"] = "train.speed.mfu", 100 * run.mfu
    screen.show(key, **known)


def _say_failed(screen: Screen, run: Run, failure: Failure) -> NoReturn:
    code = Exit(run.exit_code) if run.exit_code is not None else Exit.FAILED
    next_step = failure.next_step
    if code is Exit.FAILED and not next_step:
        next_step = screen.texts("train.log", path=run.folder / LOG)
    say_failure(screen, failure.kind, failure.message, next_step, code)
    raise Ended(code)


def _wait_for_first_step(screen: Screen, folder: Path) -> None:
    """Until training has opened model and data: where it resumes, and rows measured so far."""
    from manako.report.live import RecordTail

    tail, measured = RecordTail(folder / START), (0, 0)
    with screen.bar("train.preparing") as bar:
        while state_now(folder) == "starting":
            for event in tail.read()[0]:
                say_start_event(screen, event)
                if event["kind"] == "measure":
                    measured = (event["done"], event["total"])
            bar(*measured)
            time.sleep(POLL_SECONDS)
    for event in tail.read()[0]:
        say_start_event(screen, event)


def say_start_event(screen: Screen, event: Mapping[str, Any]) -> None:
    """Where a run resumes; other events are not for words."""
    if event["kind"] != "resume":
        return
    positions = ", ".join(
        screen.texts("train.position", name=name, epoch=epoch + 1, row=row, rows=rows)
        for name, (epoch, row, rows) in event["positions"].items()
    )
    words = screen.texts(
        "train.resuming",
        step=event["step"],
        total=event["total_steps"],
        epoch=event["epoch"],
        positions=positions,
    )
    screen.people.print(words, soft_wrap=True)


def _say_what_is_trained(screen: Screen, folder: Path) -> None:
    record = read_record(folder / RECORD)
    for kind in ("setup", "resumed"):
        if found := record.of_kind(kind):
            say_setup_event(screen, found[-1])


def say_setup_event(screen: Screen, event: Mapping[str, Any]) -> None:
    """What is trained (`setup`), or what differs from before (`resumed`)."""
    if event["kind"] == "resumed":
        if differing := event.get("not_bit_for_bit"):
            screen.note("train.other_setting", differences="; ".join(differing))
        return
    parts = event["parts"]
    trained = [(name, part) for name, part in parts.items() if part["trained"]]
    screen.people.print(
        screen.texts(
            "train.trains",
            parts=", ".join(_part(screen, name, part) for name, part in trained),
            trained=show_count(sum(part["trained"] for part in parts.values())),
            parameters=show_count(sum(part["parameters"] for part in parts.values())),
        ),
        soft_wrap=True,
    )


def _part(screen: Screen, name: str, part: Mapping[str, Any]) -> str:
    return screen.texts(
        "train.part",
        part=screen.texts(f"part.{name}"),
        how=screen.texts(f"how.{part['how']}"),
        rate=part["learning_rate"],
    )
