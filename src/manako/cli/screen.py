"""Where a command speaks: results on stdout, everything else on stderr, JSON alone with `--json`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from manako.cli.texts import Texts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.text import Text

    from manako.cli.language import Lang

QUIET_SECONDS = 1.0
"""Work that is done sooner shows no progress at all."""
PLAIN_SECONDS = 10.0
"""How often progress is printed where no terminal can redraw it."""
PLAIN_COLUMNS = 120


class Screen:
    """What a command prints to, and in which language. `is_json` is set by `--json`.

    args: the call as it was typed.
    """

    def __init__(self, lang: Lang, args: Sequence[str] = ()) -> None:
        self.lang = lang
        self.args = tuple(args)
        self.texts = Texts(lang)
        self.is_json = False

    @cached_property
    def out(self) -> Console:
        return _console(is_error=False)

    @cached_property
    def err(self) -> Console:
        return _console(is_error=True)

    @property
    def people(self) -> Console:
        """Where words for people go: stdout, or stderr where stdout is for JSON."""
        return self.err if self.is_json else self.out

    def show(self, key: str, /, **values: object) -> None:
        """A line of the result, for people; nothing with `--json`."""
        if not self.is_json:
            self.out.print(self.texts(key, **values), soft_wrap=True)

    def note(self, key: str, /, **values: object) -> None:
        """A line beside the result, on stderr."""
        self.err.print(self.texts(key, **values), style="dim", soft_wrap=True)

    def result(self, value: Any, draw: Callable[[Console], None]) -> None:
        """The result: `value` as JSON, or what `draw` makes of it for people."""
        if self.is_json:
            self.print_json(value)
        else:
            draw(self.out)

    def print_json(self, value: Any) -> None:
        """One JSON document on stdout, UTF-8 as it is."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))

    def print_json_line(self, value: Any) -> None:
        """One of several JSON documents, each a line of its own."""
        click.echo(json.dumps(value, ensure_ascii=False, default=str))

    @contextlib.contextmanager
    def working(self, key: str, /, **values: object) -> Iterator[None]:
        """Say what is going on, once it takes longer than a moment."""
        words, lock = self.texts(key, **values), threading.Lock()
        shown: list[Any] = []

        def show() -> None:
            with lock:
                if shown:
                    return
                if self.err.is_terminal:
                    status = self.err.status(_unmarked(words))
                    status.start()
                    shown.append(status.stop)
                else:
                    self.err.print(words, soft_wrap=True)

        timer = threading.Timer(QUIET_SECONDS, show)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with lock:
                for stop in shown or ():
                    stop()
                shown.append(lambda: None)

    @contextlib.contextmanager
    def bar(self, key: str, /, **values: object) -> Iterator[Bar]:
        """Progress of work whose end is known; call it with (done, total)."""
        bar = self.new_bar(self.texts(key, **values))
        try:
            yield bar
        finally:
            bar.close()

    def new_bar(self, words: str) -> Bar:
        """A bar that its owner closes."""
        return Bar(self.err, words)


class Bar:
    """Shows (done, total): a bar on a terminal, elsewhere a line now and then. A total of 0 is
    work whose end is not known yet."""

    def __init__(self, console: Console, words: str) -> None:
        self._console, self._words = console, words
        self._started = self._printed = time.monotonic()
        self._drawn: tuple[Progress, TaskID] | None = None

    def __call__(self, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._started < QUIET_SECONDS:
            return
        if self._console.is_terminal:
            progress, task = self._drawn or self._draw()
            progress.update(task, completed=done, total=total or None)
        elif now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            share = f" {100 * done / total:.0f}%" if total else ""
            self._console.print(f"{self._words}{share}", soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._drawn is not None:
            self._drawn[0].stop()
            self._drawn = None

    def _draw(self) -> tuple[Progress, TaskID]:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        progress.start()
        self._drawn = (progress, progress.add_task(self._words, total=None))
        return self._drawn


def _unmarked(words: str) -> Text:
    """Words in which [brackets] are brackets."""
    from rich.text import Text

    return Text(words)


def current_screen(ctx: click.Context) -> Screen:
    """The screen of a call. Made by `cli/root.py` before anything is parsed."""
    screen = ctx.find_object(Screen)
    return screen if screen is not None else Screen("en")


def speak_utf8() -> None:
    """Text is UTF-8 on every stream, whatever the locale says; half characters are escaped."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            errors = "strict" if stream is sys.stdin else "backslashreplace"
            reconfigure(encoding="utf-8", errors=errors)


def _console(*, is_error: bool) -> Console:
    from rich.console import Console

    class PipeConsole(Console):
        """Says that a pipe was closed, for `cli/root.py`; rich alone would leave with code 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if is_error else sys.stdout
    has_width = stream.isatty() or "COLUMNS" in os.environ
    return PipeConsole(
        file=stream,
        width=None if has_width else PLAIN_COLUMNS,
        markup=False,
        highlight=False,
        emoji=False,
    )
