"""What a job needs of memory, from a card alone: every term by name, no torch, no checkpoint.

Training is the arithmetic of `plan.py` on an inventory that the card's sizes describe; running is
weights, key-value cache and buffers. All figures are arithmetic: none was measured on a GPU yet,
so none carries a `±`; on a CPU the spread of a training process was measured (`PROCESS_SPREAD`).
"""

from __future__ import annotations

import dataclasses

from manako.catalogue.ability import ability_of
from manako.catalogue.cards import Card
from manako.catalogue.facts import is_recalled
from manako.core.errors import InputError
from manako.families._shared.sizes import image_tokens
from manako.plan.dims import Dims, dims_of
from manako.plan.job import Basis, Job, Needs, Term
from manako.plan.running import running_terms
from manako.plan.training import training_terms

TEXT_TOKENS = 512
"""Words and answer beside the pictures of one conversation."""


def needs(card: Card, job: Job) -> Needs:
    """What a job needs of one device.

    Raises `InputError` for a card that knows not even how many parameters there are, `ImageError`
    for a picture that the model refuses.
    """
    if card.parameters is None and card.weight_bytes is None:
        raise InputError(
            f"the card of {card.id} knows neither parameters nor bytes",
            next_step="read them with `manako models refresh`",
        )
    dims = dims_of(card)
    pictures = count_pictures(card, job)
    tokens = room(job, pictures)
    count = training_terms if job.is_training else running_terms
    terms = count(card, job, dims, tokens=tokens, picture_tokens=pictures)
    return Needs(
        job=job,
        terms=tuple(_marked(card, term) for term in terms if term.bytes),
        basis=_basis(card, dims),
        is_lower_bound=dims is None or (job.is_training and card.parameters is None),
        picture_tokens=pictures,
        tokens=tokens,
    )


def _marked(card: Card, term: Term) -> Term:
    """A term whose sizes are recalled is recalled too."""
    if term.how == "computed" and is_recalled(card.config):
        return dataclasses.replace(term, how="recalled")
    return term


def count_pictures(card: Card, job: Job) -> int | None:
    """Tokens of all pictures of a conversation; None where the card has no rule."""
    if card.image_rule is None:
        return None if job.pictures else 0
    rule = card.image_rule
    return sum(image_tokens(rule.rule, *size, rule.settings) for size in job.pictures)


def room(job: Job, picture_tokens: int | None) -> int:
    """Tokens of a pack, or of the context: what was asked for, or more where the pictures need it."""
    asked = job.pack_tokens if job.is_training else job.context_tokens
    return max(asked, picture_tokens + TEXT_TOKENS) if picture_tokens else asked


def _basis(card: Card, dims: Dims | None) -> Basis:
    if dims is None:
        return "weights"
    return "checked" if ability_of(card.family).can_train else "standard"
