"""Hard conditions: why a model is no candidate at all. Each exclusion has one reason, the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from manako.catalogue.cards import Card
from manako.catalogue.facts import without_recalled
from manako.catalogue.tasks import Task
from manako.core.errors import ImageError, InputError
from manako.core.family import families
from manako.plan.fitting import Fit, find_fit
from manako.plan.job import Job, Needs
from manako.plan.ladder import has_score
from manako.plan.machines import Budget
from manako.plan.needs import count_pictures, room

Reason = Literal[
    "recalled",
    "inputs_unknown",
    "no_pictures",
    "no_images",
    "no_video",
    "purpose",
    "language",
    "not_commercial",
    "licence_unknown",
    "remote_code",
    "no_runtime",
    "picture_refused",
    "context_short",
    "size_unknown",
    "unproven",
    "unfit",
]
LACKS: Mapping[str, Reason] = {"image": "no_pictures", "images": "no_images", "video": "no_video"}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What somebody wants: a use, the language of the answers, a machine, a way of working.

    is_strict: figures that are only recalled do not count.
    """

    task: Task
    language: str
    budget: Budget
    job: Job
    is_commercial: bool = False
    is_strict: bool = False

    @property
    def wants_small(self) -> bool:
        """Whether the smaller of two good models is better: by the use, or where a processor has
        to do a GPU's work."""
        return self.task.small or self.budget.device == "cpu"


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """A model that is no candidate. values: what the reason names, bytes and tokens as numbers."""

    card: Card
    reason: Reason
    values: Mapping[str, Any] = field(default_factory=dict)


def judge(card: Card, ask: Ask) -> Fit | Excluded:
    """How a model fits, or the first condition that it fails."""
    found = _judge(card, ask)
    if not ask.is_strict or isinstance(found, Excluded):
        return found
    strict = _judge(without_recalled(card), ask)
    if isinstance(strict, Excluded):
        return Excluded(card=card, reason="recalled", values={"without": strict.reason})
    return strict


def _judge(card: Card, ask: Ask) -> Fit | Excluded:
    for condition in CONDITIONS:
        for reason, values in condition(card, ask):
            return Excluded(card=card, reason=reason, values=values)
    return _fit(card, ask)


Found = Iterator[tuple[Reason, dict[str, Any]]]


def _inputs(card: Card, ask: Ask) -> Found:
    if card.takes is None:
        yield "inputs_unknown", {}
        return
    for name in ask.task.needs:
        if name not in card.inputs and name in LACKS:
            yield LACKS[name], {}
    is_video = "video" in ask.task.needs
    if len(ask.job.pictures) > 1 and not is_video and "images" not in card.inputs:
        yield "no_images", {}


def _purpose(card: Card, ask: Ask) -> Found:
    if card.only_for and ask.task.key not in card.only_for.value:
        yield "purpose", {"only_for": card.only_for.value}


def _language(card: Card, ask: Ask) -> Found:
    known = card.languages.value if card.languages else ()
    if known and ask.language not in known and not has_score(card, ask.language):
        yield "language", {"languages": known}


def _licence(card: Card, ask: Ask) -> Found:
    if ask.is_commercial and card.commercial == "no":
        yield "not_commercial", {"licences": card.licences.value if card.licences else ()}
    if ask.is_commercial and card.commercial == "unknown":
        yield "licence_unknown", {}


def _context(card: Card, ask: Ask) -> Found:
    try:
        pictures = count_pictures(card, ask.job)
    except ImageError as refused:
        yield "picture_refused", {"message": refused.message}
        return
    wanted = room(ask.job, pictures)
    if card.context is not None and wanted > card.context.value:
        yield "context_short", {"tokens": wanted, "context": card.context.value}


CONDITIONS: tuple[Callable[[Card, Ask], Found], ...] = (
    _inputs,
    _purpose,
    _language,
    _licence,
    _context,
)


def _fit(card: Card, ask: Ask) -> Fit | Excluded:
    try:
        found = find_fit(card, ask.job, ask.budget)
    except InputError:
        return Excluded(card=card, reason="size_unknown")
    if isinstance(found, Fit):
        return _with_video(card, ask, found)
    if isinstance(found, Needs):
        usable = ask.budget.usable_bytes
        values = {
            "needs": found.total_bytes,
            "is_at_least": found.is_lower_bound,
            "usable": usable,
            "gpus": found.job.gpus,
        }
        is_known = found.total_bytes > usable
        return Excluded(card=card, reason="unfit" if is_known else "unproven", values=values)
    states = {runtime.state for runtime in card.runtimes.values()}
    is_remote = card.runtime("transformers") == "remote code" or states == {"remote code"}
    return Excluded(card=card, reason="remote_code" if is_remote else "no_runtime")


def _with_video(card: Card, ask: Ask, fit: Fit) -> Fit:
    """A model may take videos whose family Manako gives none yet."""
    family = families().items.get(card.family)
    if "video" not in ask.task.needs or family is None or family.takes_videos:
        return fit
    return replace(fit, planned=("video", *fit.planned))
