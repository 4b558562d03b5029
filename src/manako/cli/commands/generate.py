"""`manako generate`: one prompt, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from manako.cli.asking import as_dict, asking_options, open_model
from manako.cli.command import command
from manako.cli.parts import parts_of_arguments
from manako.cli.screen import Screen

if TYPE_CHECKING:
    from manako.core.conversation import Part
    from manako.infer.open import Model
    from manako.infer.reply import Reply


@command(
    "generate",
    key="generate",
    examples=(
        "manako generate mini @form.png 左から順に全部の数字を読んでください。",
        'manako generate MODEL @a.jpg これは日本です @b.jpg "Where is this?"',
    ),
)
@click.argument("model", metavar="MODEL")
@click.argument("parts", metavar="PART...", nargs=-1, required=True)
@asking_options
def generate(
    screen: Screen,
    model: str,
    parts: tuple[str, ...],
    revision: str | None,
    adapter: str | None,
    system: str | None,
    **settings: Any,
) -> None:
    """Ask a model once; the answer appears as it is written."""
    prompt = parts_of_arguments(parts)
    opened = open_model(screen, model, adapter, revision)
    reply = _ask(screen, opened, prompt, system, settings)
    if screen.is_json:
        screen.print_json(as_dict(reply))
    elif reply.finish_reason == "length":
        screen.note("generate.length", tokens=reply.usage.completion_tokens)


def _ask(
    screen: Screen,
    model: Model,
    prompt: tuple[Part, ...],
    system: str | None,
    settings: dict[str, Any],
) -> Reply:
    from manako.verbs.run import generate

    if screen.is_json:
        with screen.working("generate.working"):
            return generate(model, prompt, system=system, **settings)
    reply = generate(
        model, prompt, system=system, say=lambda piece: click.echo(piece, nl=False), **settings
    )
    click.echo()
    return reply


COMMAND = generate
