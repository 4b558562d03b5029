"""`manako`: finds its commands by their files, sets the language, and turns errors into codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from manako import __version__
from manako.cli.command import FolderGroup, Option
from manako.cli.failures import report
from manako.cli.language import language_of
from manako.cli.screen import Screen, speak_utf8
from manako.core.errors import InputError
from manako.verbs.exits import Exit

PATH = (
    "quickstart",
    "init",
    "doctor",
    "models",
    "datasets",
    "cautions",
    "data",
    "view",
    "plan",
    "train",
    "runs",
    "generate",
    "chat",
    "export",
)
"""Commands in the order of the path; what is not named here follows by name."""


class Root(FolderGroup):
    """The top of the command line."""

    def main(self, args: Sequence[str] | None = None, **settings: Any) -> NoReturn:  # type: ignore[override]
        """Run a call and exit with its code; nothing a user may cause ends in a traceback."""
        speak_utf8()
        given = list(sys.argv[1:] if args is None else args)
        sys.exit(self._run(given, settings.get("prog_name") or "manako"))

    def _run(self, args: list[str], name: str) -> int:
        screen = Screen("en", args)
        try:
            screen = Screen(language_of(args), args)
            _check_utf8(args)
            with self.make_context(name, args, obj=screen) as ctx:
                self.invoke(ctx)
            sys.stdout.flush()
        except click.exceptions.Exit as done:
            return done.exit_code
        except BrokenPipeError:
            return _leave_pipe()
        # The last place that can turn an error into words.
        except BaseException as error:  # noqa: BLE001
            return int(report(error, screen))
        return int(Exit.OK)


def _check_utf8(args: Sequence[str]) -> None:
    for arg in args:
        try:
            arg.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the argument {arg!a} is not UTF-8 text",
                next_step="set the terminal to UTF-8 (for example LANG=ja_JP.UTF-8)",
            ) from error


def _leave_pipe() -> int:
    """Whoever read the output has seen enough (`manako … | head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(Exit.OK)


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"manako {__version__}")
        ctx.exit()


def _root() -> Root:
    version = Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_show_version,
        key="option.version",
    )
    root = Root(
        "manako",
        key="manako",
        examples=("manako quickstart",),
        package="manako.cli.commands",
        order=PATH,
    )
    root.params.insert(0, version)
    return root


ROOT = _root()
