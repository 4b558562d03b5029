"""Stop requests: SIGTERM and Ctrl-C end a run at the next step, after it has saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOPPING = ("SIGTERM", "SIGINT")
IGNORED = ("SIGHUP",)
"""A run outlives the terminal it was started from."""


class StopNow(BaseException):
    """Asked to stop while there is nothing to save."""


class StopRequest:
    """Inside `with`, SIGTERM and Ctrl-C set `requested` instead of ending the process.

    A second Ctrl-C ends at once. Signals belong to the main thread; elsewhere nothing is caught.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """While inside, a request raises `StopNow`: what is done here takes long and loses nothing."""
        self._at_once = True
        try:
            if self.requested:
                raise StopNow
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in STOPPING:
                self._handle(name, self._on_signal)
            for name in IGNORED:
                self._handle(name, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, name: str, handler: Any) -> None:
        number = getattr(signal, name, None)
        if number is not None:
            self._before[number] = signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        if self._at_once:
            raise StopNow
