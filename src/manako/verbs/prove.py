"""Prove: the laws of every family, on a checkpoint of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manako.verbs.exits import Exit

if TYPE_CHECKING:
    from manako.core.verdict import Verdict


def verify(
    model: str | Path,
    *,
    only: Sequence[int] = (),
    listener: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Verdicts of the laws on whatever `load` opens; a run with adapters is refused, because laws
    are about whole checkpoints."""
    from manako.core.errors import NotInThisVersion
    from manako.infer.source import find_model
    from manako.verify.runner import verify_model

    named = find_model(model)
    if named.adapter is not None:
        raise NotInThisVersion(
            f"{model} is an adapter on {named.folder}; laws are tried on whole checkpoints",
            next_step=f"verify {named.folder}, or export the run and verify the export",
        )
    return verify_model(named.folder, only=only, listener=listener)


def exit_of_verdicts(verdicts: Sequence[Verdict]) -> Exit:
    """A law that fails ends with 1; else one that could not be tried ends with a code of its own,
    so that it never reads as holding."""
    states = {verdict.state for verdict in verdicts}
    if "fails" in states:
        return Exit.FAILED
    return Exit.NOT_RUN if "not run" in states else Exit.OK
