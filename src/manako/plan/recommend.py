"""Which models to take for a use on a machine: hard conditions, then an order that can be explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from manako.catalogue.ability import can_train
from manako.catalogue.cards import Card
from manako.catalogue.facts import without_recalled
from manako.catalogue.search import narrow
from manako.plan.conditions import Ask, Excluded, Reason, judge
from manako.plan.fitting import Fit
from manako.plan.ladder import (
    ENOUGH_SHARE,
    Evidence,
    is_close,
    rung,
    usable_columns,
    weigh,
)

NAMES: Mapping[Reason, str] = {
    "inputs_unknown": "--task {task} (inputs must be known)",
    "no_pictures": "--task {task} (needs pictures)",
    "no_images": "the need of several pictures at once",
    "no_video": "--task {task} (needs video)",
    "purpose": "--task {task} (some are made for another)",
    "language": "--answers-in {language}",
    "not_commercial": "--commercial",
    "licence_unknown": "--commercial (the licence must be known)",
    "picture_refused": "--image",
    "context_short": "the context that the pictures need",
    "remote_code": "the rule that no code from a checkpoint is run",
    "no_runtime": "--method {method} (a program must do it on this machine)",
    "size_unknown": "the need of a known size",
    "unproven": "the need of sizes by which a fit can be believed",
    "unfit": "--{device} {budget} with --method {method}",
    "recalled": "--strict",
}
"""Each condition as an error names it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A candidate and why it stands where it does.

    rank: from 1 in its group. is_close: to the one above, within what scores are known to wander.
    is_small: it stands here for being small and good enough.
    """

    card: Card
    fit: Fit
    evidence: Evidence
    rank: int
    is_close: bool = False
    is_small: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """ranked: models that some score of the use's language places. others: models of which no
    comparable score is known. columns: where the scores come from, the first column leads."""

    ask: Ask
    columns: tuple[str, ...]
    ranked: tuple[Place, ...]
    others: tuple[Place, ...]
    excluded: tuple[Excluded, ...]

    @property
    def first_today(self) -> Place | None:
        """The first place that this version of Manako can do itself."""
        places = (*self.ranked, *self.others)
        return next((place for place in places if not place.fit.planned), None)

    @property
    def counts(self) -> dict[Reason, int]:
        """How many each reason excludes, in the order of the conditions."""
        found = Counter(one.reason for one in self.excluded)
        return {reason: found[reason] for reason in get_args(Reason) if found[reason]}


def recommend(cards: Sequence[Card], ask: Ask) -> Answer:
    """The answer. Raises `InputError` naming the condition that removed the last candidate."""
    columns = usable_columns(ask.task.evidence.get(ask.language, ()), is_strict=ask.is_strict)
    once = _once(cards)
    judged = {card.id: judge(card, ask) for card in once}
    excluded = [found for found in judged.values() if isinstance(found, Excluded)]
    _check_some_left(once, excluded, ask)
    evidence = weigh(once, columns)
    fitting = [
        without_recalled(card) if ask.is_strict else card
        for card in once
        if isinstance(judged[card.id], Fit)
    ]
    groups = _ranked(fitting, evidence, columns, ask), _others(fitting, evidence, ask)
    ranked, others = (_places(group, judged, evidence, ask) for group in groups)
    return Answer(
        ask=ask,
        columns=columns,
        ranked=ranked,
        others=others,
        excluded=tuple(excluded),
    )


def _once(cards: Sequence[Card]) -> list[Card]:
    """Each model once, whatever other ids it has."""
    seen: set[str] = set()
    kept = []
    for card in cards:
        if not seen & {card.id, *card.aliases}:
            kept.append(card)
        seen |= {card.id, *card.aliases}
    return kept


def _check_some_left(cards: Sequence[Card], excluded: Sequence[Excluded], ask: Ask) -> None:
    reasons = {one.card.id: one.reason for one in excluded}
    words = {
        "task": ask.task.key,
        "language": ask.language,
        "method": ask.job.method,
        "device": ask.budget.device,
        "budget": ask.budget.text,
    }
    narrow(
        cards,
        [
            (name.format(**words), lambda card, reason=reason: reasons.get(card.id) != reason)  # type: ignore[misc]
            for reason, name in NAMES.items()
            if reason in reasons.values()
        ],
    )


def _ranked(
    cards: Sequence[Card], evidence: dict[str, Evidence], columns: Sequence[str], ask: Ask
) -> list[Card]:
    found = [card for card in cards if evidence[card.id].kind != "none"]
    found.sort(key=lambda card: rung(evidence[card.id], columns))
    if not ask.wants_small or not found:
        return found
    enough = good_enough(found, evidence)
    small = sorted((card for card in found if card.id in enough), key=_parameters)
    return [*small, *(card for card in found if card.id not in enough)]


def good_enough(cards: Sequence[Card], evidence: dict[str, Evidence]) -> set[str]:
    """Ids of those that are known to reach `ENOUGH_SHARE` of the best candidate's score."""
    best = max((evidence[card.id].least for card in cards), default=0.0)
    return {card.id for card in cards if best and evidence[card.id].least >= ENOUGH_SHARE * best}


def _others(cards: Sequence[Card], evidence: dict[str, Evidence], ask: Ask) -> list[Card]:
    """Without a score: of a newer half year, then larger (smaller, where small is wanted); for
    training what Manako trains today comes first."""
    found = [card for card in cards if evidence[card.id].kind == "none"]
    found.sort(key=_parameters, reverse=not ask.wants_small)
    found.sort(key=half_year, reverse=True)
    if ask.job.is_training:
        found.sort(key=lambda card: not can_train(card))
    return found


def half_year(card: Card) -> str:
    """'2026-1' or '2026-2'; nothing where the month of release is not known."""
    year, _, month = (card.released.value if card.released else "").partition("-")
    return f"{year}-{1 if int(month[:2]) < 7 else 2}" if month else year


def _parameters(card: Card) -> int:
    return card.parameters.total if card.parameters else card.size_bytes or 0


def _places(
    cards: Sequence[Card],
    judged: dict[str, Fit | Excluded],
    evidence: dict[str, Evidence],
    ask: Ask,
) -> tuple[Place, ...]:
    enough = good_enough(cards, evidence) if ask.wants_small else set()
    places = []
    for rank, card in enumerate(cards, start=1):
        fit, own = judged[card.id], evidence[card.id]
        assert isinstance(fit, Fit)  # who was excluded is in no group
        near = rank > 1 and card.id not in enough and is_close(evidence[cards[rank - 2].id], own)
        places.append(
            Place(
                card=card,
                fit=fit,
                evidence=own,
                rank=rank,
                is_close=near,
                is_small=card.id in enough,
            )
        )
    return tuple(places)
