"""`manako chat`: turn by turn; pictures stand in the line where they belong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from manako.cli.asking import as_dict, asking_options, open_model
from manako.cli.command import command
from manako.cli.failures import say_failure
from manako.cli.parts import parts_of_line, picture
from manako.cli.screen import Screen
from manako.core.conversation import Video
from manako.core.errors import ManakoError
from manako.verbs.exits import exit_of

if TYPE_CHECKING:
    from manako.core.conversation import Part
    from manako.infer.chat import Chat

PROMPT = "> "


@command(
    "chat", key="chat", examples=("manako chat mini", "manako chat runs/forms --temperature 0.7")
)
@click.argument("model", metavar="MODEL")
@asking_options
def chat(
    screen: Screen,
    model: str,
    revision: str | None,
    adapter: str | None,
    system: str | None,
    **settings: Any,
) -> None:
    """Talk until the input ends or says /quit. With `--json`, one object per answer."""
    opened = open_model(screen, model, adapter, revision)
    screen.note("chat.hello", model=model)
    Talk(screen, opened.start_chat(system=system), settings).run()


class Talk:
    """A conversation in the terminal."""

    def __init__(self, screen: Screen, chat: Chat, settings: dict[str, Any]) -> None:
        self._screen, self._chat, self._settings = screen, chat, settings
        self._waiting: list[Part] = []

    def run(self) -> None:
        """Answer line after line. A line that cannot be used is said to be so, and forgotten."""
        for line in _lines(self._screen):
            try:
                if not self._take(line):
                    return
            except ManakoError as error:
                kind = type(error).__name__
                say_failure(self._screen, kind, error.message, error.next_step, exit_of(error))

    def _take(self, line: str) -> bool:
        """Do what a line says; False when it ends the conversation."""
        word, _, rest = line.strip().partition(" ")
        if not word.startswith("/"):
            self._answer(line)
        elif word == "/quit":
            return False
        elif word == "/image":
            self._add_picture(rest.strip().strip('"'))
        elif word == "/reset":
            self._chat.reset()
            self._waiting.clear()
            self._screen.note("chat.forgotten")
        else:
            self._screen.note("chat.unknown", command=word)
        return True

    def _add_picture(self, path: str) -> None:
        medium = picture(path)
        self._waiting.append(medium)
        if isinstance(medium, Video):
            self._screen.note("chat.video", path=path, frames=len(medium.frames))
        else:
            self._screen.note("chat.image", path=path, width=medium.width, height=medium.height)

    def _answer(self, line: str) -> None:
        parts = [*self._waiting, *parts_of_line(line)]
        if not parts:
            return
        try:
            self._stream(parts)
        except KeyboardInterrupt:
            self._screen.note("chat.interrupted")
            return
        self._waiting.clear()

    def _stream(self, parts: list[Part]) -> None:
        if self._screen.is_json:
            with self._screen.working("generate.working"):
                reply = self._chat.send(parts, **self._settings)
            self._screen.print_json_line(as_dict(reply))
            return
        for piece in self._chat.stream(parts, **self._settings):
            click.echo(piece, nl=False)
        click.echo()


def _lines(screen: Screen) -> Iterator[str]:
    """Lines of input until it ends. Bytes that are no UTF-8 are refused line by line."""
    is_typed = sys.stdin.isatty()
    if is_typed:
        _edit_lines()
    while True:
        try:
            line = input(PROMPT) if is_typed else _piped_line()
        except EOFError:
            return
        except KeyboardInterrupt:
            if is_typed:
                click.echo(err=True)
            return
        except UnicodeDecodeError:
            screen.note("chat.not_utf8")
            continue
        yield line


def _piped_line() -> str:
    buffer = getattr(sys.stdin, "buffer", None)
    line = sys.stdin.readline() if buffer is None else buffer.readline().decode("utf-8")
    if not line:
        raise EOFError
    return str(line).rstrip("\r\n")


def _edit_lines() -> None:
    """Arrow keys and history while typing, where the system has them."""
    try:
        import readline
    except ImportError:
        return
    readline.set_auto_history(True)


COMMAND = chat
