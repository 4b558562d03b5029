"""Cards: facts about published checkpoints, one file per model family in `models/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from manako.catalogue.facts import FOLDER, Answer, Figure, Note, commercial_use, read_toml
from manako.catalogue.search import find_named
from manako.core.errors import InputError
from manako.core.settings import build

MODELS = FOLDER / "models"
HALF_BYTES = 2
Input = Literal["text", "image", "images", "video", "audio"]
"""What a model takes: one picture, or several in one conversation; `video` as files or frames."""
INPUTS: tuple[Input, ...] = get_args(Input)
RuntimeName = Literal["transformers", "gguf", "ollama", "mlx", "vllm"]
RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)
RuntimeState = Literal[
    "yes", "no", "remote code", "unfaithful", "text only", "community", "unknown"
]
"""`remote code`: only by running code from the checkpoint, which Manako never does. `unfaithful`:
it loads, and computes something else. `community`: made by others than the runtime's makers."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters per part; tensors that two modules share count once.

    active: those that one token passes through, of a mixture of experts.
    """

    total: int
    by: str
    vision: int | None = None
    projector: int | None = None
    language: int | None = None
    audio: int | None = None
    active: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageRule:
    """How many tokens a picture costs: a rule of `families/_shared/sizes.py`, and its settings."""

    rule: str
    by: str
    settings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Whether a program runs the checkpoint.

    since: version or date from which on. detail: class, projector type, folder or tag by which the
    program knows it.
    """

    state: RuntimeState
    by: str
    since: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file or tag in which the model can be had in another form."""

    name: str
    form: str
    by: str
    bytes: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Results in one table of `scores.toml`, by column. They compare within that table alone."""

    table: str
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The fields of config.json that decide sizes. TOML has no null: a card writes "null"."""

    by: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One published checkpoint. What is not known is absent.

    id: on the Hub (or `ollama:TAG`). aliases: other ids of the same model, converted or renamed.
    series: the name people call the family by. family: Manako's name of the architecture, also of
    one that it does not know yet; the laws' Record is kept by it.
    takes: its inputs. base: the checkpoint it was tuned from. only_for: the tasks it was made for,
    where it is of no use for others.
    """

    id: str
    series: str
    family: str
    takes: Figure[tuple[Input, ...]] | None
    parameters: Parameters | None = None
    aliases: tuple[str, ...] = ()
    survey: Literal["", "popular", "watch"] = ""
    base: str = ""
    released: Figure[str] | None = None
    licences: Figure[tuple[str, ...]] | None = None
    gated: Figure[bool] | None = None
    context: Figure[int] | None = None
    languages: Figure[tuple[str, ...]] | None = None
    only_for: Figure[tuple[str, ...]] | None = None
    weight_bytes: Figure[int] | None = None
    model_type: Figure[str] | None = None
    image_rule: ImageRule | None = None
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    downloads: tuple[Download, ...] = ()
    scores: tuple[Scores, ...] = ()
    about: Note | None = None
    pitfalls: tuple[Note, ...] = ()
    config: Config | None = None

    @property
    def name(self) -> str:
        """The id without its owner."""
        return self.id.rsplit("/", maxsplit=1)[-1]

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the published weights; where nobody wrote them down, two a parameter."""
        if self.weight_bytes is not None:
            return self.weight_bytes.value
        return self.parameters.total * HALF_BYTES if self.parameters else None

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.takes.value if self.takes else ()

    @property
    def takes_pictures(self) -> bool:
        return "image" in self.inputs

    @property
    def commercial(self) -> Answer:
        """Whether it may be used in a business, by all licences that bind it."""
        return commercial_use(self.licences.value if self.licences else ())

    def runtime(self, name: str) -> RuntimeState:
        found = self.runtimes.get(name)
        return found.state if found else "unknown"


@cache
def cards() -> tuple[Card, ...]:
    """All cards, by file and then as they stand in it. Raises `InputError` naming file and key."""
    return tuple(card for file in sorted(MODELS.glob("*.toml")) for card in read_cards(file))


def cards_of(family: str) -> list[Card]:
    """The cards of one family."""
    return [card for card in cards() if card.family == family]


def find_card(name: str) -> Card:
    """The card of an id, an alias, or a name without its owner; case does not matter.

    Raises `InputError` with the nearest names for one that has no card.
    """
    return find_named(name, cards(), _names_of, what="model", command="manako models list")


def _names_of(card: Card) -> Iterator[str]:
    for known in (card.id, *card.aliases):
        yield from (known, known.rsplit("/", maxsplit=1)[-1])


def read_cards(file: Path) -> Iterator[Card]:
    """The cards of one file; its `[shared]` facts hold for each model that does not say otherwise.

    Runtimes are shared one by one; what a model trips over stands behind what all of them do.
    """
    values = read_toml(file)
    if unknown := set(values) - {"series", "family", "shared", "model"}:
        raise InputError(f"{file.name}: unknown {', '.join(sorted(unknown))}")
    shared = values.get("shared", {})
    common = {"series": values["series"], "family": values["family"], **shared}
    for model in values["model"]:
        joined = {
            "runtimes": {**shared.get("runtimes", {}), **model.get("runtimes", {})},
            "pitfalls": [*shared.get("pitfalls", []), *model.get("pitfalls", [])],
        }
        if fields := model.get("config", {}).get("fields"):
            joined["config"] = {**model["config"], "fields": _with_nulls(fields)}
        where = f"{file.name} {model.get('id', '?')}"
        yield build(Card, {**common, **model, **joined}, where=where)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nulls(inner) for key, inner in value.items()}
    return None if value == "null" else value
