"""Data sets: facts about training sets and benchmarks, one file per group in `datasets/`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from manako.catalogue.facts import (
    FOLDER,
    Answer,
    Figure,
    Note,
    Words,
    commercial_use,
    read_table,
    read_toml,
)
from manako.catalogue.search import find_named
from manako.core.errors import InputError
from manako.core.settings import build

DATASETS = FOLDER / "datasets"
LAYOUTS = FOLDER / "layouts.toml"
POOLS = FOLDER / "pools.toml"
Kind = Literal["training", "benchmark", "both"]
"""`both`: one id holds a part to train on and a part to measure with."""
Category = Literal[
    "mixture",
    "vqa",
    "caption",
    "pairs",
    "document",
    "chart",
    "table",
    "reasoning",
    "exam",
    "medical",
    "recognition",
    "several",
    "code",
    "chat",
    "interleaved",
    "text",
]
"""`pairs`: pictures with the words that stood beside them. `several`: two or more pictures a
question. `exam`: of schools and universities. `text`: no pictures at all."""
CATEGORIES: tuple[Category, ...] = get_args(Category)
Way = Literal["hub", "gated", "files", "addresses", "elsewhere", "build"]
"""`hub`: `load_dataset` gives rows with their pictures. `gated`: so, once access was asked for.
`files`: fetch files and join them. `addresses`: pictures have to be fetched one by one. `elsewhere`:
not on the Hub. `build`: a program makes it from other sources."""
Relation = Literal["leak", "same pictures", "contains"]
"""`leak`: training on one spoils a measurement with the other. `same pictures`: a split by rows parts
what belongs together. `contains`: rows of one lie in the other, and would count twice."""
Unit = Literal["rows", "questions", "answer_tokens"]
UNITS: tuple[Unit, ...] = get_args(Unit)
MIX_UNIT: Unit = "answer_tokens"
"""What the published shares of a mix are per cent of."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How rows of a source are laid out. reads: Manako's format for it; empty when it has none.

    traps: what goes wrong when it is read carelessly.
    """

    key: str
    title: str
    shape: str
    by: str
    reads: str = ""
    traps: Words | None = None


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A stock of pictures that several sets were made from."""

    key: str
    title: str
    why: Words
    by: str


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to get it."""

    way: Way
    by: str
    note: Words | None = None


@dataclass(frozen=True, kw_only=True)
class Test:
    """How a benchmark is measured.

    prompt: what is asked beside the question. max_new_tokens: as the named evaluator sets it.
    """

    __test__ = False  # not one of pytest's

    split: str
    metric: Words
    by: str
    fields: str = ""
    prompt: Words | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """A set that this one must not meet, stated at one of the two and true of both."""

    id: str
    relation: Relation
    why: Words
    by: str


@dataclass(frozen=True, kw_only=True)
class Met:
    """Two sets that must not meet, and why."""

    one: str
    other: str
    relation: Relation
    why: Words
    by: str


INSIDE = Words(
    en="One is a configuration of the other; its rows would count twice.",
    ja="一方がもう一方に含まれる構成（config）で、同じ行を二重に数えることになる。",
)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set, or one configuration of it. What is not known is absent.

    id: on the Hub, `id:config` for a configuration. part_of: the set whose configuration it is.
    aliases: other ids of the same rows.
    questions: question and answer pairs (turns). answer_tokens: as its publisher counted them.
    held_rows: rows that can be had, where the publisher's copy holds fewer than it counted.
    shares: published mix → per cent of that mix's answer tokens.
    layout: a key of `layouts.toml`. pictures: keys of `pools.toml`, where its pictures come from.
    """

    id: str
    title: str
    group: Words
    kind: Kind
    category: Category
    part_of: str = ""
    aliases: tuple[str, ...] = ()
    languages: Figure[tuple[str, ...]] | None = None
    images: Figure[int] | None = None
    rows: Figure[int] | None = None
    held_rows: Figure[int] | None = None
    questions: Figure[int] | None = None
    answer_tokens: Figure[int] | None = None
    bytes: Figure[int] | None = None
    licences: Figure[tuple[str, ...]] | None = None
    shares: Mapping[str, Figure[float]] = field(default_factory=dict)
    layout: str = ""
    pictures: Figure[tuple[str, ...]] | None = None
    access: Access | None = None
    test: Test | None = None
    must_not_meet: tuple[Meeting, ...] = ()
    about: Note | None = None
    pitfalls: tuple[Note, ...] = ()

    @property
    def name(self) -> str:
        """The id without its owner."""
        return self.id.rsplit("/", maxsplit=1)[-1]

    @property
    def config(self) -> str:
        """The name of the configuration alone."""
        return self.id.partition(":")[2]

    @property
    def reads(self) -> str:
        """The format of Manako that reads it; empty when there is none, or nobody knows."""
        return layouts()[self.layout].reads if self.layout else ""

    @property
    def commercial(self) -> Answer:
        """Whether it may be used in a business, by all licences that bind it."""
        return commercial_use(self.licences.value if self.licences else ())

    def size(self, unit: Unit) -> int | None:
        """How much of a unit it holds; None where nobody wrote it down."""
        found: Figure[int] | None = getattr(self, unit)
        return found.value if found else None


@cache
def layouts() -> Mapping[str, Layout]:
    """All layouts, by key."""
    return read_table(Layout, LAYOUTS)


@cache
def pools() -> Mapping[str, Pool]:
    """All stocks of pictures, by key."""
    return read_table(Pool, POOLS)


@cache
def datasets() -> tuple[DataSet, ...]:
    """All data sets, by file and then as they stand in it. Raises `InputError` naming file and key."""
    return tuple(found for file in sorted(DATASETS.glob("*.toml")) for found in read_sets(file))


def read_sets(file: Path) -> Iterator[DataSet]:
    """The sets of one file; its `[shared]` facts hold for each set that does not say otherwise.

    What one trips over stands behind what all of them do.
    """
    values = read_toml(file)
    if unknown := set(values) - {"group", "shared", "set"}:
        raise InputError(f"{file.name}: unknown {', '.join(sorted(unknown))}")
    if missing := {"group", "set"} - set(values):
        raise InputError(f"{file.name}: missing {', '.join(sorted(missing))}")
    shared = values.get("shared", {})
    for one in values["set"]:
        pitfalls = [*shared.get("pitfalls", []), *one.get("pitfalls", [])]
        joined = {"group": values["group"], **shared, **one, "pitfalls": pitfalls}
        yield build(DataSet, joined, where=f"{file.name} {one.get('id', '?')}")


def find_set(name: str) -> DataSet:
    """The set of an id, an alias, a name without its owner, or a configuration's name alone.

    Case does not matter. Raises `InputError` with the nearest names for one that has no record.
    """
    return find_named(name, datasets(), names_of, what="data set", command="manako datasets list")


def names_of(found: DataSet) -> Iterator[str]:
    """What a set may be called, the most certain first."""
    for known in (found.id, *found.aliases):
        yield known
        yield known.rsplit("/", maxsplit=1)[-1]
    if found.config:
        yield found.config


def parts_of(whole: DataSet) -> tuple[DataSet, ...]:
    """The configurations of a set that have a record of their own."""
    return _parts().get(whole.id, ())


@cache
def _parts() -> Mapping[str, tuple[DataSet, ...]]:
    found: dict[str, tuple[DataSet, ...]] = {}
    for part in datasets():
        if part.part_of:
            found[part.part_of] = (*found.get(part.part_of, ()), part)
    return found


def meetings(first: DataSet, second: DataSet) -> tuple[Met, ...]:
    """Why the two must not meet, whoever of them says so; what binds a part binds its whole."""
    found: dict[tuple[frozenset[str], Relation], Met] = {}
    for one in (first, *parts_of(first)):
        for other in (second, *parts_of(second)):
            for met in _all_met(one, other):
                found.setdefault((frozenset((met.one, met.other)), met.relation), met)
    return tuple(found.values())


def warnings_of(found: DataSet) -> tuple[Met, ...]:
    """What the set and its parts must not meet; where a whole is named, its parts are not."""
    mine = {found.id, *(part.id for part in parts_of(found))}
    met = [
        one
        for other in datasets()
        if other.id not in mine
        for one in meetings(found, other)
        if not {one.one, one.other} <= mine
    ]
    others = {(side, one.relation) for one in met for side in (one.one, one.other)}
    return tuple(
        one
        for one in met
        if not any(
            (_whole_of(side), one.relation) in others
            for side in (one.one, one.other)
            if side not in mine
        )
    )


@cache
def _wholes() -> Mapping[str, str]:
    return {found.id: found.part_of for found in datasets()}


def _whole_of(name: str) -> str:
    return _wholes().get(name, "")


def _all_met(one: DataSet, other: DataSet) -> Iterator[Met]:
    yield from _said(one, other)
    yield from _said(other, one)
    yield from _inside(one, other)
    yield from _drawn_alike(one, other)


def _drawn_alike(one: DataSet, other: DataSet) -> Iterator[Met]:
    """Two sets with pictures of one stock; two benchmarks do each other no harm."""
    if one.kind == other.kind == "benchmark" or not (one.pictures and other.pictures):
        return
    is_training = one.kind == other.kind == "training"
    for key in {*one.pictures.value} & {*other.pictures.value}:
        yield Met(
            one=one.id,
            other=other.id,
            relation="same pictures" if is_training else "leak",
            why=pools()[key].why,
            by=pools()[key].by,
        )


def _said(one: DataSet, other: DataSet) -> Iterator[Met]:
    for meeting in one.must_not_meet:
        is_inside = meeting.relation == "contains" and meeting.id == other.part_of
        if meeting.id == other.id or is_inside:
            yield Met(
                one=one.id,
                other=other.id,
                relation=meeting.relation,
                why=meeting.why,
                by=meeting.by,
            )


def _inside(one: DataSet, other: DataSet) -> Iterator[Met]:
    """A set beside its own configuration."""
    for whole, part in ((one, other), (other, one)):
        if part.part_of == whole.id:
            yield Met(one=whole.id, other=part.id, relation="contains", why=INSIDE, by="manako")


def problems_among(found: Sequence[DataSet], formats: frozenset[str]) -> Iterator[str]:
    """What is wrong between records: ids that nobody has, or two have, layouts and formats."""
    known = {one.id for one in found}
    names = Counter(name.lower() for one in found for name in (one.id, *one.aliases))
    for one in found:
        for name in (one.id, *one.aliases):
            if names[name.lower()] > 1:
                yield f"{one.id}: the name {name!r} stands twice"
        yield from _wrong_keys(one, known)
        if one.kind == "training" and one.test is not None:
            yield f"{one.id}.test: the set is for training alone"
    for layout in layouts().values():
        if layout.reads and layout.reads not in formats:
            yield f"layouts.toml {layout.key}.reads: Manako has no format {layout.reads!r}"


def _wrong_keys(one: DataSet, known: Collection[str]) -> Iterator[str]:
    """Keys of a record that lead nowhere."""
    if one.part_of and one.part_of not in known:
        yield f"{one.id}.part_of: no data set {one.part_of!r}"
    if one.layout and one.layout not in layouts():
        yield f"{one.id}.layout: {one.layout!r} is not in layouts.toml"
    for key in one.pictures.value if one.pictures else ():
        if key not in pools():
            yield f"{one.id}.pictures: {key!r} is not in pools.toml"
    for meeting in one.must_not_meet:
        if meeting.id not in known or meeting.id == one.id:
            yield f"{one.id}.must_not_meet: no other data set {meeting.id!r}"
