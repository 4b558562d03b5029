"""Narrow records down by named conditions; whoever asks for too much is told what was too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from manako.core.errors import InputError

T = TypeVar("T")


def narrow(records: Sequence[T], conditions: Sequence[tuple[str, Callable[[T], bool]]]) -> list[T]:
    """The records that fulfil every condition, in their order.

    Raises `InputError` naming the condition that removed the last one, and those before it.
    """
    kept = list(records)
    before: list[str] = []
    for name, holds in conditions:
        left = [record for record in kept if holds(record)]
        if not left and kept:
            behind = f", after {', '.join(before)}" if before else ""
            raise InputError(
                f"{name} removes the last {len(kept)} of {len(records)}{behind}",
                next_step="leave that condition out, or relax it",
            )
        kept = left
        before.append(name)
    return kept
