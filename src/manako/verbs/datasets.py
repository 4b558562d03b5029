"""`manako datasets`: narrow the data sets down, look at one, and see what a mix really holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from manako.catalogue.datasets import (
    MIX_UNIT,
    UNITS,
    DataSet,
    Met,
    Unit,
    datasets,
    find_set,
    layouts,
    meetings,
    parts_of,
    warnings_of,
)
from manako.catalogue.facts import is_recalled, licences, with_sources, without_recalled
from manako.catalogue.search import check_known, narrow
from manako.core.errors import InputError
from manako.plan.mix import Ingredient, Mix, Portion, WeightUnit, mix

SORTS: Mapping[str, Callable[[DataSet], Any]] = {
    "name": lambda found: found.name.lower(),
    "images": lambda found: found.images.value if found.images else None,
    "rows": lambda found: found.size("rows"),
    "questions": lambda found: found.size("questions"),
    "answer_tokens": lambda found: found.size("answer_tokens"),
    "size": lambda found: found.bytes.value if found.bytes else None,
    "share": lambda found: max((share.value for share in found.shares.values()), default=None),
}
ALL = ":*"
"""Behind the id of a set: all its configurations, each with the same weight."""
DROWNS_SHARE, DROWNS_TIMES = 0.1, 5
"""A set is said to drown others from a tenth of the mix on, at five times what a published mix gives
it among the same sets."""


@dataclass(frozen=True, kw_only=True)
class WantedSets:
    """What a list is narrowed down to; what is empty does not narrow.

    text: stands in id, alias, title or group. languages: all of them.
    """

    text: str = ""
    kind: str = ""
    category: str = ""
    languages: tuple[str, ...] = ()
    licence: str = ""
    reads: str = ""
    is_commercial: bool = False
    is_strict: bool = False

    def conditions(self) -> Iterator[tuple[str, Callable[[DataSet], bool]]]:
        """Each condition by the option that asks for it."""
        if self.text:
            yield f"the text {self.text!r}", lambda found: _says(found, self.text)
        if self.kind:
            yield f"--kind {self.kind}", lambda found: found.kind in (self.kind, "both")
        if self.category:
            yield f"--category {self.category}", lambda found: found.category == self.category
        for name in self.languages:
            yield f"--language {name}", lambda found, name=name: name in languages_of(found)  # type: ignore[misc]
        if self.licence:
            yield f"--licence {self.licence}", lambda found: self.licence in licences_of(found)
        if self.is_commercial:
            yield "--commercial", lambda found: found.commercial in ("yes", "conditions")
        if self.reads:
            yield f"--reads {self.reads}", lambda found: found.reads == self.reads


def list_sets(wanted: WantedSets, *, sort: str = "name") -> list[DataSet]:
    """The sets that fulfil all conditions, sorted; what has no figure to sort by comes last.

    Raises `InputError` naming the condition that left none, or a value that no set has (with the
    nearest).
    """
    is_turned, name = sort.startswith("-"), sort.removeprefix("-")
    check_known(name, SORTS, what="--sort")
    for language in wanted.languages:
        check_known(language, _all(languages_of), what="--language")
    if wanted.licence:
        check_known(wanted.licence, licences(), what="--licence")
    if wanted.reads:
        check_known(wanted.reads, {one.reads for one in layouts().values()} - {""}, what="--reads")
    shown = [strictly(one) for one in datasets()] if wanted.is_strict else datasets()
    found = narrow(shown, list(wanted.conditions()))
    known = [one for one in found if SORTS[name](one) is not None]
    known.sort(key=SORTS[name], reverse=is_turned)
    return known + [one for one in found if SORTS[name](one) is None]


def one_set(name: str, *, is_strict: bool = False) -> DataSet:
    """The set of a name. Raises `InputError` with the nearest names for one that there is not."""
    found = find_set(name)
    return strictly(found) if is_strict else found


def strictly(found: DataSet) -> DataSet:
    """The set as `--strict` shows it: no recalled fact, nor a layout that is recalled."""
    is_known = found.layout and not is_recalled(layouts()[found.layout])
    return replace(without_recalled(found), layout=found.layout if is_known else "")


def as_json(found: DataSet, *, is_strict: bool = False) -> dict[str, Any]:
    """A set with the source of every figure, its layout, and all that it must not meet."""
    values: dict[str, Any] = with_sources(found)
    layout = layouts()[found.layout] if found.layout else None
    met = must_not_meet(found, is_strict=is_strict)
    return {
        **values,
        "layout": with_sources(layout),
        "reads": found.reads,
        "commercial": found.commercial,
        "must_not_meet": [with_sources(one) for one in met],
        "parts": [part.id for part in parts_of(found)],
    }


def must_not_meet(found: DataSet, *, is_strict: bool = False) -> list[Met]:
    """What the set must not meet, whoever of the two says so."""
    return [met for met in warnings_of(found) if not (is_strict and is_recalled(met))]


@dataclass(frozen=True, kw_only=True)
class Drowned:
    """A set that takes far more of a mix than a published one gives it.

    published: its share of that. among: its share there of what these sets have together.
    """

    id: str
    unit: Unit
    share: float
    mix: str
    published: float
    among: float


@dataclass(frozen=True, kw_only=True)
class MixReport:
    """A mix, what stands against it, and the sets whose sizes are recalled.

    unknown: unit → sets that nobody has counted in it.
    """

    mix: Mix
    sets: tuple[DataSet, ...]
    met: tuple[Met, ...]
    drowned: tuple[Drowned, ...]
    unknown: Mapping[Unit, tuple[str, ...]]


def mix_sets(
    weighted: Sequence[str],
    unit: WeightUnit | None = None,
    *,
    size: float | None = None,
    benchmarks: Sequence[str] = (),
    preset: str = "",
    is_strict: bool = False,
) -> MixReport:
    """What a mix really holds. weighted: `ID`, `ID=WEIGHT`, or `ID:*=WEIGHT` for all its parts.

    unit: of the weights; rows where nothing is said. preset: a published mix instead, whose shares
    are of answer tokens. benchmarks: what
    will be measured with, checked against every set.
    Raises `InputError` for names and weights that are none.
    """
    if preset:
        _check_preset(preset, weighted, unit)
        unit, pairs = MIX_UNIT, _published(preset)
    else:
        pairs = [pair for text in weighted for pair in _weighted(text)]
    sets = tuple(strictly(one) if is_strict else one for one, _ in pairs)
    parts = [
        Ingredient(id=one.id, weight=weight, sizes={name: one.size(name) for name in UNITS})
        for one, (_, weight) in zip(sets, pairs, strict=True)
    ]
    mixed = mix(parts, unit or "rows", size=size)
    against = [find_set(name) for name in benchmarks]
    return MixReport(
        mix=mixed,
        sets=sets,
        met=tuple(_met(sets, against, is_strict)),
        drowned=tuple(_drowned(mixed, sets)),
        unknown={name: tuple(one.id for one in sets if one.size(name) is None) for name in UNITS},
    )


def presets() -> tuple[str, ...]:
    """Published mixes whose shares the catalogue knows."""
    return tuple(sorted({name for one in datasets() for name in one.shares}))


def mix_as_json(report: MixReport) -> dict[str, Any]:
    """A mix for `--json`; shares are 0..1, and what is unknown is null."""
    found = report.mix
    return {
        "unit": found.unit,
        "size": found.size,
        "how": "computed",
        "sets": [
            {**with_sources(portion), "sizes": _sizes(one), "published": with_sources(one.shares)}
            for portion, one in zip(found.portions, report.sets, strict=True)
        ],
        "totals": dict(found.totals),
        "unknown": {unit: list(names) for unit, names in report.unknown.items()},
        "must_not_meet": [with_sources(met) for met in report.met],
        "drowns": [with_sources(one) for one in report.drowned],
    }


def languages_of(found: DataSet) -> tuple[str, ...]:
    """The languages of its text."""
    return found.languages.value if found.languages else ()


def licences_of(found: DataSet) -> tuple[str, ...]:
    """The licences that bind it, all at once."""
    return found.licences.value if found.licences else ()


def uses_recalled(found: DataSet) -> bool:
    """Whether a size that a mix is computed from is recalled."""
    return any(is_recalled(getattr(found, unit)) for unit in UNITS)


def _sizes(found: DataSet) -> dict[str, Any]:
    return {unit: with_sources(getattr(found, unit)) for unit in UNITS}


def _says(found: DataSet, text: str) -> bool:
    words = (found.id, found.title, found.group.en, found.group.ja, *found.aliases)
    return any(text.lower() in word.lower() for word in words)


def _all(values_of: Callable[[DataSet], Collection[str]]) -> set[str]:
    return {value for found in datasets() for value in values_of(found)}


def _weighted(text: str) -> Iterator[tuple[DataSet, float]]:
    """The sets and the weight of one argument; the weight is 1 where none is given."""
    name, given, number = text.partition("=")
    try:
        weight = float(number) if given else 1.0
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InputError(
            f"{text!r}: the weight {number!r} is not a number above 0",
            next_step="write ID=WEIGHT, for example the_cauldron:docvqa=2",
        )
    if not name.endswith(ALL):
        yield find_set(name), weight
        return
    whole = find_set(name.removesuffix(ALL))
    if not parts_of(whole):
        raise InputError(
            f"{whole.id} has no configurations in the catalogue",
            next_step=f"leave {ALL!r} out to take it as a whole",
        )
    yield from ((part, weight) for part in parts_of(whole))


def _check_preset(preset: str, weighted: Sequence[str], unit: WeightUnit | None) -> None:
    check_known(preset, presets(), what="--as")
    if unit not in (None, MIX_UNIT):
        raise InputError(
            f"--as {preset} beside --in {unit}: its shares are of {MIX_UNIT}",
            next_step="leave --in out",
        )
    if weighted:
        raise InputError(
            f"--as {preset} names its sets and weights itself, and {weighted[0]!r} stands beside it",
            next_step="leave one of the two out",
        )


def _published(preset: str) -> list[tuple[DataSet, float]]:
    return [(one, one.shares[preset].value) for one in datasets() if preset in one.shares]


def _met(sets: Sequence[DataSet], against: Sequence[DataSet], is_strict: bool) -> Iterator[Met]:
    pairs = [*combinations(sets, 2), *((one, other) for one in sets for other in against)]
    for one, other in pairs:
        if one.id == other.id:
            continue
        yield from (met for met in meetings(one, other) if not (is_strict and is_recalled(met)))


def _drowned(mixed: Mix, sets: Sequence[DataSet]) -> Iterator[Drowned]:
    """Sets that take a tenth of the mix in some unit, and far more than a published mix gives."""
    for name in presets():
        together = sum(one.shares[name].value for one in sets if name in one.shares)
        for portion, one in zip(mixed.portions, sets, strict=True):
            unit, share = _largest(portion)
            published = one.shares[name].value if name in one.shares else math.inf
            among = published / together if together else 0.0
            if share >= max(DROWNS_SHARE, DROWNS_TIMES * among):
                yield Drowned(
                    id=one.id,
                    unit=unit,
                    share=share,
                    mix=name,
                    published=published / 100,
                    among=among,
                )


def _largest(portion: Portion) -> tuple[Unit, float]:
    """The unit in which the set takes most of the mix, as far as that is known exactly."""
    known = [(unit, found) for unit in UNITS if (found := portion.shares[unit]) is not None]
    exact: list[tuple[Unit, float]] = [
        (unit, found.value) for unit, found in known if not found.is_at_most
    ]
    return max(exact, key=lambda pair: pair[1], default=("rows", 0.0))
