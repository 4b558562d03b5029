"""Narrow records down by named conditions; whoever asks for too much is told what was too much."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol, TypeVar

from manako.core.errors import InputError

T = TypeVar("T")
NEAR, SHOWN = 8, 3
"""Names that are taken into account, and those that are shown."""


class _Named(Protocol):
    @property
    def id(self) -> str: ...


N = TypeVar("N", bound=_Named)


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


def check_known(name: str, known: Collection[str], *, what: str) -> None:
    """Raises `InputError` with the nearest names for a value that no record has."""
    if name not in known:
        raise InputError(
            f"{what} {name!r} is nowhere in the catalogue" + nearest(name, sorted(known)),
            next_step=f"there are {', '.join(sorted(known))}",
        )


def find_named(
    name: str,
    records: Iterable[N],
    names_of: Callable[[N], Iterable[str]],
    *,
    what: str,
    command: str,
) -> N:
    """The record that goes by a name; case does not matter, and a whole id wins over a shorter name.

    command: lists all of them. Raises `InputError` for a name of several, or of none (the nearest).
    """
    by_name: dict[str, list[N]] = {}
    for record in records:
        if record.id.lower() == name.strip().lower():
            return record
        for known in {known.lower() for known in names_of(record)}:
            by_name.setdefault(known, []).append(record)
    found = by_name.get(name.strip().lower(), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{name!r} is the name of {len(found)} {what}s: {', '.join(one.id for one in found)}",
            next_step="give the whole id",
        )
    close = _close(name, by_name)
    ids = list(dict.fromkeys(one.id for known in close for one in by_name[known]))
    raise InputError(
        f"no {what} {name!r} in the catalogue{_near(ids)}",
        next_step=f"list them all with `{command}`",
    )


def nearest(wanted: str, known: Iterable[str]) -> str:
    """`; the nearest are …`: known names that hold the wanted one or are nearly it; else nothing."""
    return _near(_close(wanted, known))


def _close(wanted: str, known: Iterable[str]) -> list[str]:
    names, wanted = list(known), wanted.strip().lower()
    holding = [name for name in names if wanted and wanted in name.lower()]
    return [*holding, *difflib.get_close_matches(wanted, names, n=NEAR, cutoff=0.4)]


def _near(names: Iterable[str]) -> str:
    near = list(dict.fromkeys(names))[:SHOWN]
    return f"; the nearest are {', '.join(near)}" if near else ""
