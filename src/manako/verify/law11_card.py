"""Law 11: the parameter counts on the family's cards equal those of the built model.

The bug it catches: a plan that reserves memory for another model than the one that is loaded.
"""

from __future__ import annotations

from manako.catalogue.cards import Card, cards_of
from manako.core.family import PARTS
from manako.core.units import show_count
from manako.verify._subject import Law, NotApplicable, Subject, demand


def _check(subject: Subject) -> str:
    cards = [card for card in cards_of(subject.family.name) if card.config and card.parameters]
    if not cards:
        raise NotApplicable("no published checkpoint of this family has a card with its sizes")
    for card in cards:
        _compare(subject, card)
    shown = ", ".join(
        f"{card.id.split('/')[-1]} {show_count(card.parameters.total)}"
        for card in cards
        if card.parameters
    )
    return f"{len(cards)} cards equal per part: {shown}"


def _compare(subject: Subject, card: Card) -> None:
    from manako.nn.checkpoint import build_empty, count_parameters

    assert card.config is not None
    assert card.parameters is not None
    config = {"model_type": subject.family.model_types[0], **card.config.fields}
    built = count_parameters(build_empty(config, subject.family), subject.family)
    # A text model's card leaves out the parts that it does not have.
    written = {part: getattr(card.parameters, part) or 0 for part in PARTS}
    for prefix in subject.family.never_trained:
        written[subject.family.part_of(prefix)] += card.parameters.audio or 0
    demand(
        dict(built) == written,
        f"{card.id}: the card says {written}, the built model has {dict(built)}",
        next_step="correct the card in manako/catalogue",
    )


LAW = Law(number=11, title="the cards' parameter counts are the built model's", check=_check)
