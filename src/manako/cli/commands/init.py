"""`manako init`: a project folder to start from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manako.cli.command import command
from manako.cli.screen import Screen

if TYPE_CHECKING:
    from manako.verbs.llms import CommandHelp


@command("init", key="init", examples=("manako init forms", "manako init forms --lang ja"))
@click.argument("dir", metavar="DIR", type=click.Path(path_type=Path))
def init(screen: Screen, dir: Path) -> None:
    """Make a project folder."""
    from manako.verbs.init import make_project

    project = make_project(dir, lang=screen.lang, commands=list(_commands()))
    screen.result(project.as_dict(), lambda console: None)
    screen.show("init.made", folder=dir, rows=project.rows, held_out=project.held_out_rows)
    screen.show("init.next")
    for step in (f"cd {shlex.quote(str(dir))}", *project.steps):
        screen.show("init.step", step=step)
    screen.show("init.llms")


def _commands() -> Iterator[CommandHelp]:
    """Every command with its help, in English: `llms.txt` is in one language."""
    from manako.cli.root import ROOT

    screen = Screen("en")
    ctx = click.Context(ROOT, info_name="manako", obj=screen)
    yield from _below(ROOT, ctx, screen)


def _below(group: click.Group, ctx: click.Context, screen: Screen) -> Iterator[CommandHelp]:
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        if found is None:
            continue
        inner = click.Context(found, info_name=name, parent=ctx, obj=screen)
        if isinstance(found, click.Group):
            yield from _below(found, inner, screen)
        else:
            yield _help(found, inner, screen)


def _help(found: click.Command, ctx: click.Context, screen: Screen) -> CommandHelp:
    from manako.verbs.llms import CommandHelp

    options = [p for p in found.params if isinstance(p, click.Option)]
    with ctx:
        records = [option.get_help_record(ctx) for option in options]
    shared = ("--json", "--lang", "--help")
    return CommandHelp(
        usage=f"{ctx.command_path} {' '.join(found.collect_usage_pieces(ctx))}",
        about=" ".join(screen.texts(found.key).split("\n")),  # type: ignore[attr-defined]
        options=tuple(
            (names, " ".join(words.split()))
            for names, words in (record for record in records if record)
            if not names.startswith(shared)
        ),
    )


COMMAND = init
