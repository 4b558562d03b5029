"""What the code of a family relies on and a checkpoint's files contradict: refused by name, or, where
a recipe or call says so, taken as it is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from manako.core.errors import CheckpointError

_accepted: ContextVar[frozenset[str]] = ContextVar("accepted_facts", default=frozenset())


@contextmanager
def accepting(names: Iterable[str]) -> Iterator[None]:
    """Inside, these facts hold whatever a checkpoint's files say."""
    token = _accepted.set(_accepted.get() | frozenset(names))
    try:
        yield
    finally:
        _accepted.reset(token)


def check_facts(place: str, *facts: tuple[str, object, object]) -> None:
    """Raise `CheckpointError` where a file says something else than what the family's code is known
    to be right for, unless the fact is accepted.

    place: the file. facts: (name, found, expected).
    """
    for name, found, expected in facts:
        if found != expected and name not in _accepted.get():
            raise CheckpointError(
                f"{place} says {name} {found!r}; what is known of this family holds for {expected!r}",
                next_step="take the file from the model's own repository; to go by what is known "
                f"whatever the file says: accept_facts: [{name}] in the recipe, or "
                f"accept_facts=({name!r},) of manako.load",
            )
