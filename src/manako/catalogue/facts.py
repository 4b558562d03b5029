"""Facts and where they come from: what every file of the catalogue is made of.

A fact names its source by a key of `sources/`; the source says how sure it is and when it was
taken. What is not known is absent.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from manako.core.errors import InputError
from manako.core.settings import build
from manako.core.words import Words as Words

FOLDER = Path(__file__).parent
How = Literal["published", "computed", "measured", "recalled"]
"""How sure a figure is: read from its source, computed from such, tried by running something, or
written down from memory and looked up by nobody since."""
Answer = Literal["yes", "no", "conditions", "unknown"]
T = TypeVar("T")
RECALLED_MARK = "†"
"""Stands behind every figure that is recalled; a footnote says so."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a figure comes from. `date`: when it was read, computed or measured."""

    key: str
    how: How
    title: str
    date: str
    url: str = ""


@runtime_checkable
class Fact(Protocol):
    """Anything that names its source by a key of `sources/`."""

    @property
    def by(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Figure(Generic[T]):
    """One value and its source."""

    value: T
    by: str


@dataclass(frozen=True, kw_only=True)
class Note:
    """A statement in both languages, with its source."""

    en: str
    ja: str
    by: str

    def in_(self, lang: str) -> str:
        return self.ja if lang == "ja" else self.en


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Terms under which weights or data may be used. `commercial`: whether in a business.

    A starting point, not legal advice: the licence's own text decides.
    """

    key: str
    name: str
    commercial: Answer
    allows: Words
    by: str
    url: str = ""


def read_toml(path: Path) -> dict[str, Any]:
    """A file of the catalogue. Raises `InputError` naming the file and the line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path.name} is no TOML: {error}") from error


def read_table(kind: type[T], path: Path) -> dict[str, T]:
    """A file of named tables, `[key]` each, as records that know their key."""
    tables = read_toml(path)
    return {
        key: build(kind, {"key": key, **values}, where=f"{path.name} {key}")
        for key, values in tables.items()
    }


@cache
def sources() -> Mapping[str, Source]:
    """All sources, by key. Raises `InputError` for a key that stands in two files."""
    found: dict[str, Source] = {}
    for file in sorted((FOLDER / "sources").glob("*.toml")):
        table = read_table(Source, file)
        if twice := set(table) & set(found):
            raise InputError(f"{file.name}: {', '.join(sorted(twice))} stands in another file too")
        found |= table
    return found


@cache
def licences() -> Mapping[str, Licence]:
    """All licences that a model or data set may have, by key."""
    return read_table(Licence, FOLDER / "licences.toml")


def source_of(fact: Fact) -> Source:
    """The source of a fact. Raises `InputError` for a key that is not in the list."""
    found = sources().get(fact.by)
    if found is None:
        raise InputError(f"source {fact.by!r} is in no file of catalogue/sources/")
    return found


def is_recalled(value: object) -> bool:
    """Whether a value is a fact that nobody has looked up."""
    return isinstance(value, Fact) and source_of(value).how == "recalled"


def mark_of(fact: object) -> str:
    """What stands behind the fact wherever it is shown."""
    return RECALLED_MARK if is_recalled(fact) else ""


def without_recalled(record: T) -> T:
    """The record as `--strict` shows it: no recalled fact, at no depth."""
    if not dataclasses.is_dataclass(record) or isinstance(record, type):
        return record
    kept = {f.name: _strict(getattr(record, f.name)) for f in dataclasses.fields(record)}
    return dataclasses.replace(record, **kept)


def _strict(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_strict(item) for item in value if not is_recalled(item))
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items() if not is_recalled(item)}
    return None if is_recalled(value) else without_recalled(value)


def with_sources(value: Any) -> Any:
    """Plain values for JSON; every fact carries `how`, `date`, `source` and `url`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {f.name: with_sources(getattr(value, f.name)) for f in dataclasses.fields(value)}
        key = found.pop("by", None)
        if key is None:
            return found
        source = source_of(value)  # type: ignore[arg-type]
        where = {"how": source.how, "date": source.date, "source": source.title, "url": source.url}
        return {**found, **where}
    if isinstance(value, Mapping):
        return {key: with_sources(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_sources(item) for item in value]
    return value


def commercial_use(keys: tuple[str, ...]) -> Answer:
    """Whether something under all these licences may be used in a business: the strictest says."""
    order: tuple[Answer, ...] = ("no", "unknown", "conditions", "yes")
    answers = {licences()[key].commercial for key in keys} or {"unknown"}
    return next(answer for answer in order if answer in answers)
