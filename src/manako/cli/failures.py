"""What a command says when it fails: message and next step, no traceback, one exit code."""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path
from typing import Any

import click

from manako.cli.screen import Screen
from manako.core.errors import ManakoError
from manako.verbs.exits import Exit, exit_of

DEBUG = "MANAKO_DEBUG"


class Ended(Exception):
    """A command that did its work and ends with a code other than 0."""

    def __init__(self, code: Exit) -> None:
        super().__init__(code)
        self.code = code


def report(error: BaseException, screen: Screen) -> Exit:
    """Print what went wrong; the exit code."""
    if isinstance(error, Ended):
        return error.code
    if isinstance(error, click.ClickException):
        return _report_click(error, screen)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        screen.note("error.interrupted")
        return Exit.STOPPED
    if not isinstance(error, ManakoError):
        return _report_unexpected(error, screen)
    say_failure(screen, type(error).__name__, error.message, error.next_step, exit_of(error))
    if os.environ.get(DEBUG):
        screen.err.print("".join(traceback.format_exception(error)), soft_wrap=True)
    return exit_of(error)


def say_failure(screen: Screen, kind: str, message: str, next_step: str, code: Exit) -> None:
    """Message and next step on stderr, and as JSON on stdout where JSON was asked for."""
    from rich.text import Text

    head = Text(f"{screen.texts('error.head')}: ", style="bold red")
    screen.err.print(head.append(Text(message, style="default not bold")), soft_wrap=True)
    if next_step:
        screen.err.print(Text(f"  → {next_step}"), soft_wrap=True)
    if screen.is_json:
        screen.print_json({"error": _described(kind, message, next_step, code)})


def _described(kind: str, message: str, next_step: str, code: Exit) -> dict[str, Any]:
    return {"kind": kind, "message": message, "next_step": next_step, "exit_code": int(code)}


def _report_click(error: click.ClickException, screen: Screen) -> Exit:
    """A call that does not parse: what is wrong, and where the help is."""
    ctx = getattr(error, "ctx", None)
    if ctx is not None and "--json" in screen.args:
        screen.is_json = True
    path = ctx.command_path if ctx is not None else "manako"
    next_step = screen.texts("error.see_help", command=f"{path} --help")
    say_failure(screen, "UsageError", error.format_message(), next_step, Exit.WRONG_CALL)
    return Exit.WRONG_CALL


def _report_unexpected(error: BaseException, screen: Screen) -> Exit:
    """An error that nobody foresaw: short on the screen, whole in a file."""
    whole = "".join(traceback.format_exception(error))
    next_step = ""
    if os.environ.get(DEBUG):
        screen.err.print(whole, soft_wrap=True)
    else:
        next_step = screen.texts("error.traceback", path=_keep(whole), variable=f"{DEBUG}=1")
    found = f"{type(error).__name__}: {error}"
    message = screen.texts("error.unexpected", error=found)
    say_failure(screen, type(error).__name__, message, next_step, Exit.FAILED)
    return Exit.FAILED


def _keep(text: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="manako-error-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return Path(name)
