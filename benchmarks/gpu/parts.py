"""Parts of a benchmark, one after another, within a time that ends without asking.

What is known is written after every part, so that nothing is lost when the machine is taken away. A
part that fails or takes too long is noted, and the next one begins.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

GRACE_SECONDS = 45.0
"""A part that hangs where no signal reaches it ends with the whole process, so long after its time."""
Found = TypeVar("Found")


class OutOfTime(BaseException):
    """The time of a part is over; no `Exception`, so that nothing on the way takes it for a failure."""


class Parts:
    """Runs parts until `minutes` are over. write: is handed all fields after each part."""

    def __init__(
        self, *, minutes: float, part_minutes: float, write: Callable[[dict[str, Any]], None]
    ) -> None:
        self.fields: dict[str, Any] = {"is_complete": False, "notes": []}
        self.failed: set[str] = set()
        self._begun = time.monotonic()
        self._seconds, self._part_seconds = minutes * 60, part_minutes * 60
        self._write = write

    @property
    def left_seconds(self) -> float:
        return self._seconds - (time.monotonic() - self._begun)

    def run(self, name: str, work: Callable[[], Found], *, takes: float = 0.0) -> Found | None:
        """What `work` gives; None where it failed or time is short. takes: seconds it took before."""
        limit = min(self._part_seconds, self.left_seconds)
        if limit < max(takes, 1.0):
            self.note(f"{name}: left out, {max(limit, 0):.0f} s were left")
            return None
        self.say(f"{name} …")
        try:
            with _alarm(limit):
                return work()
        except OutOfTime:
            self._fail(name, f"not done within {limit:.0f} s")
        except Exception as error:  # noqa: BLE001 - noted in the result; the other parts go on
            traceback.print_exc()
            words = str(error).strip().split("\n", maxsplit=1)[0]
            self._fail(name, f"{type(error).__name__}: {words[:200]}")
        finally:
            self.write()
        return None

    def _fail(self, name: str, why: str) -> None:
        self.failed.add(name)
        self.note(f"{name}: {why}")

    def note(self, words: str) -> None:
        """Say it, and put it into the result."""
        self.fields["notes"].append(words)
        self.say(words)

    def say(self, words: str) -> None:
        """A line with the seconds since the beginning."""
        seconds = time.monotonic() - self._begun
        sys.stderr.write(f"[{seconds:4.0f} s] {words}\n")
        sys.stderr.flush()

    def write(self) -> None:
        """Write what is known now."""
        self._write(self.fields)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
