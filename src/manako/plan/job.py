"""A job and what it needs of memory, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manako.catalogue.cards import HALF_BYTES, Card
from manako.catalogue.facts import How, source_of
from manako.core.errors import InputError

Method = Literal["full", "lora", "qlora", "run"]
Device = Literal["gpu", "mac", "cpu"]
Bits = Literal[16, 8, 4]
Basis = Literal["checked", "standard", "weights"]
"""How far the count goes: the family's own counts, checked against what a step really keeps; those
of a standard decoder; or no more than the weights, because the card has no sizes."""
RUNTIME_BYTES = {"gpu": 600_000_000, "mac": 500_000_000, "cpu": 500_000_000}
"""CUDA's context and libraries, or the program itself: 0.3 to 0.6 GB, recalled."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done, and with how much at once.

    pictures: (width, height) in pixels of the pictures of one conversation. pack_tokens: room of a
    pack; training only. context_tokens: prompt and answer; running only. bits: of the weights that
    are run. gpus: GPUs that share the work. is_checkpointed: activations of the decoder are computed
    again in the backward pass; training only. device: what it runs on.
    """

    method: Method
    pictures: tuple[tuple[int, int], ...] = ()
    pack_tokens: int = 2048
    context_tokens: int = 4096
    lora_r: int = 16
    bits: Bits = 16
    gpus: int = 1
    is_checkpointed: bool = False
    device: Device = "gpu"

    def __post_init__(self) -> None:
        for name in ("pack_tokens", "context_tokens", "lora_r", "gpus"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")

    @property
    def is_training(self) -> bool:
        return self.method != "run"

    @property
    def held_bits(self) -> Bits:
        """Bits in which the decoder's weights are held."""
        return 4 if self.method == "qlora" else self.bits


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand. name: a term of `plan.Memory`, or mmproj, kv_cache, compute, runtime, process,
    gathered. how: how sure the figure is."""

    name: str
    bytes: int
    how: How = "computed"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The memory of one device at the worst moment; the terms add up to the total.

    is_lower_bound: a term is missing because the card does not know its sizes: `at least`.
    picture_tokens: of all pictures together; None where no rule is known. tokens: room that the job
    takes, raised where the pictures need more than was asked for.
    """

    job: Job
    terms: tuple[Term, ...]
    basis: Basis
    is_lower_bound: bool
    picture_tokens: int | None
    tokens: int

    @property
    def total_bytes(self) -> int:
        return sum(term.bytes for term in self.terms)

    @property
    def is_recalled(self) -> bool:
        """Whether a term is a recalled figure; the runtime's small one always is."""
        return any(term.how == "recalled" for term in self.terms if term.name != "runtime")


def count_parameters(card: Card) -> int:
    """All parameters; where only the bytes are known, one for two of them."""
    return card.parameters.total if card.parameters else (card.size_bytes or 0) // HALF_BYTES


def weights_how(card: Card) -> How:
    """How sure the size of the weights is."""
    fact = card.parameters or card.weight_bytes
    assert fact is not None
    how = source_of(fact).how
    return "recalled" if how == "recalled" else "computed"
