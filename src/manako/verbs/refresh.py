"""`manako models refresh`: a card beside what the Hub or a folder really holds. Nothing is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from manako.catalogue.cards import Card, cards, find_card
from manako.catalogue.facts import Figure, with_sources
from manako.core.errors import CheckpointError, HubError, InputError, ManakoError, MissingFileError
from manako.core.family import PARTS, families
from manako.core.files import read_json
from manako.hub.client import Hub
from manako.hub.files import fetch
from manako.hub.headers import SafetensorsHeaders, read_headers
from manako.hub.repo import Repo, resolve

State = Literal["same", "differs", "contradicts", "new", "not_found"]
STATES: tuple[State, ...] = get_args(State)
"""`contradicts`: what was found does not agree with itself, whatever the card says. `new`: the card
does not have it. `not_found`: neither the Hub nor the folder says it."""
CONFIG, PIXELS, NESTED_PIXELS = "config.json", "preprocessor_config.json", "processor_config.json"
TEXT_CONFIGS = ("", "text_config.", "language_config.", "llm_config.")
"""Where a config.json keeps the sizes of its language model."""
EMBEDDING, LAYER = "embed_tokens.weight", re.compile(r"layers\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A value and where it stands: a file and its key, the weights, or the repository's page."""

    value: Any
    origin: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One field of a card. by: the source of the card's value."""

    field: str
    card: Any = None
    by: str = ""
    found: tuple[Found, ...] = ()

    @property
    def state(self) -> State:
        values = [found.value for found in self.found]
        if not values:
            return "not_found"
        if any(value != values[0] for value in values):
            return "contradicts"
        if self.card is None:
            return "new"
        return "same" if values[0] == self.card else "differs"

    @property
    def figure(self) -> Figure[Any] | None:
        """The card's value with its source."""
        return None if self.card is None else Figure(value=self.card, by=self.by)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What could be read. problems: what could not, each as the error that says why."""

    config: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=dict)
    headers: SafetensorsHeaders | None = None
    repo: Repo | None = None
    problems: tuple[ManakoError, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A card beside what was found. source: id and commit, or the folder."""

    id: str
    card: Card | None
    source: str
    rows: tuple[Row, ...]
    problems: tuple[ManakoError, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the Hub gave all that it was asked for."""
        return not any(isinstance(problem, HubError) for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "source": self.source,
            "has_card": self.card is not None,
            "rows": [
                {
                    "field": row.field,
                    "card": with_sources(row.figure) if row.figure else None,
                    "found": [{"value": f.value, "origin": f.origin} for f in row.found],
                    "state": row.state,
                }
                for row in self.rows
            ],
            "problems": [
                {"message": problem.message, "next_step": problem.next_step}
                for problem in self.problems
            ],
        }


def refresh(
    name: str,
    *,
    folder: Path | None = None,
    revision: str | None = None,
    hub: Hub | None = None,
) -> Comparison:
    """Compare the card of a model with the Hub, or with a checkpoint folder.

    Raises `InputError` for a name that is neither on a card nor an id, and the `HubError` that says
    what was tried when the Hub gives nothing at all; what it refuses in part is in `problems`.
    """
    card, model_id = target_of(name)
    if folder is not None:
        if revision is not None:
            raise InputError(
                "--revision is about the Hub, --folder about a folder", next_step="give one of them"
            )
        evidence, source = _look_into(folder), str(folder)
    else:
        if model_id.startswith("ollama:"):
            raise InputError(
                f"{model_id} is a tag of Ollama, which is not on the Hub",
                next_step="give --folder with its checkpoint, or ask `ollama show`",
            )
        repo = resolve(model_id, revision, hub=hub)
        evidence, source = _ask(repo), f"{repo.page} {repo.commit}"
    rows = tuple(_rows(card, evidence))
    return Comparison(id=model_id, card=card, source=source, rows=rows, problems=evidence.problems)


def target_of(name: str) -> tuple[Card | None, str]:
    """The card that a name means, and the id to ask for: an alias is a repository of its own."""
    wanted = name.strip().lower()
    for card in cards():
        if wanted in (alias.lower() for alias in card.aliases if "/" in alias):
            return card, name.strip()
    try:
        card = find_card(name)
    except InputError:
        if "/" not in name:
            raise
        return None, name.strip()
    return card, card.id


def _ask(repo: Repo) -> Evidence:
    problems: list[ManakoError] = []
    names = [name for name in (CONFIG, PIXELS, NESTED_PIXELS) if name in repo.files]
    folder: Path | None = None
    headers: SafetensorsHeaders | None = None
    try:
        folder = fetch(repo, names) if names else None
        headers = read_headers(repo)
    except (HubError, CheckpointError) as error:
        problems.append(error)
    config = _mapping(folder, CONFIG, problems)
    pixels = _pixels(folder, problems)
    return Evidence(
        config=config, pixels=pixels, headers=headers, repo=repo, problems=tuple(problems)
    )


def _look_into(folder: Path) -> Evidence:
    if not folder.is_dir():
        raise MissingFileError(f"no such checkpoint folder: {folder}")
    problems: list[ManakoError] = []
    headers: SafetensorsHeaders | None = None
    try:
        headers = read_headers(folder)
    except CheckpointError as error:
        problems.append(error)
    config, pixels = _mapping(folder, CONFIG, problems), _pixels(folder, problems)
    if headers is None and not config:
        raise CheckpointError(
            f"{folder} is no checkpoint: neither a readable {CONFIG} nor weights in it",
            next_step=f"give the folder that holds {CONFIG} and *.safetensors",
        )
    return Evidence(config=config, pixels=pixels, headers=headers, problems=tuple(problems))


def _mapping(folder: Path | None, name: str, problems: list[ManakoError]) -> Mapping[str, Any]:
    """A JSON object of a folder; an empty one where there is none, or where it is broken."""
    if folder is None or not (folder / name).is_file():
        return {}
    try:
        found = read_json(folder / name)
    except InputError as error:
        problems.append(error)
        return {}
    if isinstance(found, dict):
        return found
    problems.append(CheckpointError(f"{folder / name} holds no JSON object"))
    return {}


def _pixels(folder: Path | None, problems: list[ManakoError]) -> Mapping[str, Any]:
    """The settings of the picture processor, with the file that holds them under ``file``."""
    if found := _mapping(folder, PIXELS, problems):
        return {**found, "file": PIXELS}
    nested = _mapping(folder, NESTED_PIXELS, problems).get("image_processor")
    return {**nested, "file": NESTED_PIXELS} if isinstance(nested, dict) else {}


def _rows(card: Card | None, evidence: Evidence) -> Iterator[Row]:
    """All fields that a card and the evidence have in common, in the order of a card."""
    yield from _page_rows(card, evidence)
    yield from _parameter_rows(card, evidence)
    yield from _size_rows(card, evidence)
    yield from _config_rows(card, evidence)
    yield from _pixel_rows(card, evidence)


def _row(name: str, fact: Any, *found: Found | None) -> Row:
    """A row of a `Figure` of the card, which may be absent, and of the values that were found."""
    values = tuple(one for one in found if one is not None and one.value is not None)
    if fact is None:
        return Row(field=name, found=values)
    shown = list(fact.value) if isinstance(fact.value, tuple) else fact.value
    return Row(field=name, card=shown, by=fact.by, found=values)


def _page_rows(card: Card | None, evidence: Evidence) -> Iterator[Row]:
    """What the repository's page says: licence, access, languages."""
    repo = evidence.repo
    if repo is None:
        return
    if repo.id.lower() != repo.asked_id.lower():
        yield Row(field="id", card=None, found=(Found(value=repo.id, origin="renamed"),))
    yield _row("licences", card and card.licences, _said(repo, "license", _licences(repo.card)))
    is_gated = None if repo.gated is None else bool(repo.gated)
    yield _row("gated", card and card.gated, Found(value=is_gated, origin=repo.page))
    languages = _listed(repo.card.get("language"))
    if languages or (card and card.languages):
        yield _row("languages", card and card.languages, _said(repo, "language", languages))


def _said(repo: Repo, key: str, value: Any) -> Found | None:
    return Found(value=value, origin=f"README.md {key}") if value else None


def _listed(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value] if value else []
    return [str(one) for one in values]


def _licences(page: Mapping[str, Any]) -> list[str]:
    """Licence keys; where the page says `other`, the name that it gives."""
    other = page.get("license_name")
    return [
        str(other).lower() if key == "other" and other else key.lower()
        for key in _listed(page.get("license"))
    ]


def _parameter_rows(card: Card | None, evidence: Evidence) -> Iterator[Row]:
    """Parameters in all and by part, counted in the headers of the weights."""
    headers, known = evidence.headers, card.parameters if card else None
    counts = parts_of(headers, str(evidence.config.get("model_type", ""))) if headers else {}
    found = {"total": headers.parameters if headers else None, **counts}
    for part in ("total", *PARTS):
        value = getattr(known, part) if known else None
        if value is None and found.get(part) is None:
            continue
        fact = Figure(value=value, by=known.by) if known and value is not None else None
        origin = f"weights, {len(headers.file_bytes)} files" if headers else ""
        yield _row(f"parameters.{part}", fact, Found(value=found.get(part), origin=origin))


def parts_of(headers: SafetensorsHeaders, model_type: str) -> dict[str, int]:
    """Parameters by part, where Manako has a family that knows every tensor; else nothing."""
    family = next((f for f in families().items.values() if model_type in f.model_types), None)
    counts: dict[str, int] = dict.fromkeys(PARTS, 0)
    try:
        for tensor in headers.tensors.values():
            if family is not None and tensor.is_float:
                counts[_part_of(family, tensor.name)] += tensor.count
    except CheckpointError:
        return {}
    return counts if family is not None else {}


def _part_of(family: Any, name: str) -> str:
    """The part of a published tensor: published names lack prefixes that the model's own have."""
    inner = name.removeprefix("model.")
    for candidate in (name, f"model.{name}", f"model.language_model.{inner}"):
        try:
            return str(family.part_of(candidate))
        except CheckpointError:
            continue
    raise CheckpointError(f"{name} belongs to no part of family {family.name}")


def _size_rows(card: Card | None, evidence: Evidence) -> Iterator[Row]:
    if evidence.headers is not None or (card and card.weight_bytes):
        size = evidence.headers.weight_bytes if evidence.headers else None
        yield _row("weight_bytes", card and card.weight_bytes, Found(value=size, origin="weights"))
    if evidence.headers is not None:
        types = ", ".join(f"{name} {count:,}" for name, count in evidence.headers.dtypes.items())
        yield Row(field="dtypes", found=(Found(value=types, origin="weights"),))


def _config_rows(card: Card | None, evidence: Evidence) -> Iterator[Row]:
    """The fields of config.json that a card carries; sizes also as the weights have them."""
    kind = evidence.config.get("model_type")
    yield _row("model_type", card and card.model_type, Found(value=kind, origin=CONFIG))
    yield _row(
        "context", card and card.context, _of_config(evidence.config, "max_position_embeddings")
    )
    weights = _sizes_in(evidence.headers) if evidence.headers else {}
    fields = dict(_flat(card.config.fields)) if card and card.config else {}
    by = card.config.by if card and card.config else ""
    for name, value in fields.items():
        found = _of_config(evidence.config, name)
        last = name.rpartition(".")[2]
        is_text = f"{name.rpartition('.')[0]}." in (*TEXT_CONFIGS, ".")
        also = weights.pop(last, None) if is_text else None
        yield _row(f"config.{name}", Figure(value=value, by=by), found, also)
    for last, also in weights.items():
        yield _row(f"config.{last}", None, _of_config(evidence.config, last), also)


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _of_config(config: Mapping[str, Any], name: str) -> Found | None:
    """A field of config.json; sizes of the language model may lie a level deeper or higher."""
    flat = dict(_flat(config))
    last = name.removeprefix(next((t for t in TEXT_CONFIGS[1:] if name.startswith(t)), ""))
    for path in (name, *(f"{text}{last}" for text in TEXT_CONFIGS)):
        if path in flat:
            return Found(value=flat[path], origin=CONFIG if path == name else f"{CONFIG} {path}")
    return None


def _sizes_in(headers: SafetensorsHeaders) -> dict[str, Found]:
    """Sizes of the language model as its tensors have them."""
    names = [n for n, t in headers.tensors.items() if n.endswith(EMBEDDING) and len(t.shape) == 2]
    if len(names) != 1:
        return {}
    prefix, (rows, width) = names[0].removesuffix(EMBEDDING), headers.tensors[names[0]].shape
    found = {"vocab_size": rows, "hidden_size": width}
    layers = [LAYER.match(n.removeprefix(prefix)) for n in headers.tensors if n.startswith(prefix)]
    numbers = {int(match[1]) for match in layers if match}
    if numbers:
        found["num_hidden_layers"] = max(numbers) + 1
    return {
        key: Found(value=value, origin=f"weights {prefix.rstrip('.')}")
        for key, value in found.items()
    }


def _pixel_rows(card: Card | None, evidence: Evidence) -> Iterator[Row]:
    """The picture limits that a card's rule takes from the processor's file."""
    rule = card.image_rule if card else None
    pixels = evidence.pixels
    found = pixel_settings(pixels)
    origin = str(pixels.get("file", ""))
    for name, value in found.items():
        known = rule.settings.get(name) if rule else None
        if rule is not None and known is None:
            continue  # the rule has no such setting
        fact = Figure(value=known, by=rule.by) if rule and known is not None else None
        yield _row(f"image_rule.{name}", fact, Found(value=value, origin=origin))


def pixel_settings(pixels: Mapping[str, Any]) -> dict[str, int]:
    """Limits in pixels and the side of a token, as a processor's file gives them.

    Newer files write the limits as `size.shortest_edge` and `longest_edge`, which are areas there.
    """
    size = pixels.get("size")
    edges = size if isinstance(size, Mapping) else {}
    found = {
        "min_pixels": pixels.get("min_pixels", edges.get("shortest_edge")),
        "max_pixels": pixels.get("max_pixels", edges.get("longest_edge")),
    }
    patch, merge = pixels.get("patch_size"), pixels.get("merge_size")
    if isinstance(patch, int) and isinstance(merge, int):
        found["factor"] = patch * merge
    return {name: value for name, value in found.items() if isinstance(value, int)}
