"""Scores of an evaluation, from the plain dict of `result.json`, ready for table and chart.

What is read (shares between 0 and 1; whatever is missing is left out of the page):

    accuracy, accuracy_low, accuracy_high, test_questions
    by_kind    {kind: {n, accuracy, low, high, majority?, blank?, shuffled?}}
    by_language  the same by the language of the question
    controls   {blank | shuffled: share, or {accuracy, by_kind: {kind: share or {accuracy}}}}
    majority   share, or {accuracy, by_kind: {kind: share}}, or {kind: share}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_CONTROL_LEAD = 0.05
"""How far a control may stand above the most frequent answer before a page warns."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Questions of one kind (or all): accuracy with its interval, and what controls reach."""

    name: str
    accuracy: float
    n: int | None = None
    low: float | None = None
    high: float | None = None
    blank: float | None = None
    shuffled: float | None = None
    majority: float | None = None

    @property
    def is_control_high(self) -> bool:
        """A control answers better than the most frequent answer explains."""
        if self.majority is None:
            return False
        limit = self.majority + MAX_CONTROL_LEAD
        return any(c is not None and c > limit for c in (self.blank, self.shuffled))


@dataclass(frozen=True)
class Scores:
    """All questions together, by kind, and by language where there are several."""

    overall: Group
    groups: tuple[Group, ...]
    languages: tuple[Group, ...] = ()

    @property
    def rows(self) -> tuple[Group, ...]:
        """Kinds, then languages, then all questions."""
        return (*self.groups, *self.languages, self.overall)

    def has(self, field: str) -> bool:
        return any(getattr(group, field) is not None for group in self.rows)


def read_scores(result: Mapping[str, Any]) -> Scores | None:
    """The scores in `result`; None when it holds no accuracy."""
    accuracy = share(result.get("accuracy"))
    if accuracy is None:
        return None
    overall = Group(
        name="",
        accuracy=accuracy,
        n=whole(result.get("test_questions")),
        low=share(result.get("accuracy_low")),
        high=share(result.get("accuracy_high")),
        blank=_beside(result, "blank", ""),
        shuffled=_beside(result, "shuffled", ""),
        majority=_beside(result, "majority", ""),
    )
    languages = _groups(result, "by_language")
    return Scores(overall, _groups(result, "by_kind"), languages if len(languages) > 1 else ())


def _groups(result: Mapping[str, Any], field: str) -> tuple[Group, ...]:
    found = result.get(field)
    names = list(found) if isinstance(found, Mapping) else []
    groups = (_group(result, field, str(name)) for name in names)
    return tuple(group for group in groups if group)


def _group(result: Mapping[str, Any], field: str, name: str) -> Group | None:
    found = result[field][name]
    values = found if isinstance(found, Mapping) else {"accuracy": found}
    accuracy = share(values.get("accuracy"))
    if accuracy is None:
        return None
    return Group(
        name=name,
        accuracy=accuracy,
        n=whole(values.get("n")),
        low=share(values.get("low", values.get("accuracy_low"))),
        high=share(values.get("high", values.get("accuracy_high"))),
        blank=_first(values.get("blank"), _beside(result, "blank", name)),
        shuffled=_first(values.get("shuffled"), _beside(result, "shuffled", name)),
        majority=_first(values.get("majority"), _beside(result, "majority", name)),
    )


def _beside(result: Mapping[str, Any], what: str, kind: str) -> float | None:
    """What control or majority `what` reaches on `kind`; on all questions for an empty kind."""
    controls = result.get("controls")
    found = result.get(what)
    if found is None and isinstance(controls, Mapping):
        found = controls.get(what)
    if not isinstance(found, Mapping):
        return None if kind else share(found)
    if not kind:
        return share(found.get("accuracy", found.get("all")))
    inner = found.get("by_kind", found)
    return share(inner.get(kind)) if isinstance(inner, Mapping) else None


def share(value: Any) -> float | None:
    """A share from a number, or from the `accuracy` of a mapping; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("accuracy")
    number = finite(value)
    return number if number is not None and -1e-9 <= number <= 1 + 1e-9 else None


def finite(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def whole(value: Any) -> int | None:
    """A whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _first(value: Any, other: float | None) -> float | None:
    found = share(value)
    return other if found is None else found
