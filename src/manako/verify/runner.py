"""Runs the laws over a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from manako.core.discovery import discover
from manako.core.errors import InputError, ManakoError
from manako.core.verdict import Verdict
from manako.verify._subject import Law, Subject

LAW_COUNT = 13


def laws() -> list[Law]:
    """All laws in order. Raises `ManakoError` when a law's file is broken: a law that silently
    is not there would read as holding."""
    found = discover("manako.verify", "LAW")
    broken = {name: why for name, why in found.broken.items() if name.startswith("law")}
    ordered = sorted(found.items.values(), key=lambda law: law.number)
    if broken or [law.number for law in ordered] != list(range(1, LAW_COUNT + 1)):
        raise ManakoError(
            f"the laws are not complete: {[law.number for law in ordered]}; broken: {broken}"
        )
    return ordered


def verify_model(
    folder: Path,
    *,
    only: Sequence[int] = (),
    listener: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Verdicts of all laws (or of `only` these numbers) on a checkpoint folder."""
    if unknown := set(only) - set(range(1, LAW_COUNT + 1)):
        raise InputError(f"no law has the number {sorted(unknown)}; they are 1 to {LAW_COUNT}")
    subject = Subject(folder)
    verdicts = []
    for law in laws():
        if only and law.number not in only:
            continue
        verdicts.append(subject.verdict(law))
        listener(verdicts[-1])
    return verdicts
