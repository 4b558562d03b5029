"""`manako verify`: the laws on a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from manako.cli.command import command, option
from manako.cli.failures import Ended
from manako.cli.screen import Screen
from manako.verbs.exits import Exit

if TYPE_CHECKING:
    from manako.core.verdict import Verdict


@command("verify", key="verify", examples=("manako verify mini", "manako verify MODEL --law 7"))
@click.argument("model", metavar="MODEL")
@option("--law", "only", type=int, multiple=True, metavar="N", key="option.verify.law")
def verify(screen: Screen, model: str, only: tuple[int, ...]) -> None:
    """Try the laws; the exit code says the worst of them."""
    from manako.report.tables import laws_table
    from manako.verbs.prove import exit_of_verdicts, verify
    from manako.verify.runner import LAW_COUNT

    with screen.bar("verify.bar") as bar:
        done: list[Verdict] = []

        def listen(verdict: Verdict) -> None:
            done.append(verdict)
            bar(len(done), len(only) or LAW_COUNT)

        verdicts = verify(model, only=only, listener=listen)
    screen.result(
        [verdict.as_dict() for verdict in verdicts],
        lambda console: console.print(laws_table(verdicts, lang=screen.lang).rich()),
    )
    if (code := exit_of_verdicts(verdicts)) is not Exit.OK:
        raise Ended(code)


COMMAND = verify
