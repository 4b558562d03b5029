"""`manako cautions`: pick those that matter for what one is about to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from manako.catalogue.cautions import STATES, TOPICS, Caution, cautions, find_caution
from manako.catalogue.facts import without_recalled
from manako.catalogue.search import narrow, nearest
from manako.core.errors import InputError


def list_cautions(
    topics: Collection[str] = (), *, state: str = "", is_strict: bool = False
) -> list[Caution]:
    """Cautions on any of the topics and in the state, as they stand in the catalogue.

    Strict: without recalled evidence, and without cautions that have no other.
    Raises `InputError` for a topic or state that does not exist (naming the nearest), or where
    nothing is left (naming the condition that left nothing).
    """
    for topic in topics:
        _check(topic, TOPICS, "topic")
    if state:
        _check(state, STATES, "state")
    found = narrow(cautions(), list(_conditions(topics, state, is_strict)))
    return [without_recalled(caution) for caution in found] if is_strict else found


def one_caution(name: str, *, is_strict: bool = False) -> Caution:
    """The caution of an id. Raises `InputError` for one that there is not."""
    found = find_caution(name)
    return without_recalled(found) if is_strict else found


def _conditions(
    topics: Collection[str], state: str, is_strict: bool
) -> Iterator[tuple[str, Callable[[Caution], bool]]]:
    if topics:
        yield f"--for {' --for '.join(topics)}", lambda caution: bool({*topics} & {*caution.topics})
    if state:
        yield f"--state {state}", lambda caution: caution.state == state
    if is_strict:
        yield "--strict", lambda caution: not caution.is_recalled


def _check(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise InputError(
            f"no {what} {name!r}{nearest(name, known)}",
            next_step=f"there are {', '.join(known)}",
        )
