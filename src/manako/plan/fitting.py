"""Whether a job fits a machine, in which form, and whether this version of Manako does it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from manako.catalogue.ability import can_train
from manako.catalogue.cards import HALF_BYTES, Card, RuntimeName
from manako.plan.job import Bits, Job, Needs, count_parameters
from manako.plan.machines import Budget
from manako.plan.needs import needs

Planned = Literal["family", "video", "qlora", "gpus", "mac", "quantised"]
"""What this version lacks: the architecture, training in four bits, sharing one model between GPUs,
training or running on a Mac's GPU, running quantised weights."""
Tightness = Literal["easily", "well", "tightly"]
EASY_SHARE, WELL_SHARE = 0.6, 0.85
"""Of the usable memory: up to here a job fits easily, and well."""
ROOMY_SHARES = {16: WELL_SHARE, 8: 0.92}
"""Up to here a form is taken before the next smaller one: half the bits cost little at 16, more at
8, and nobody works well at the rim."""
UNKNOWN_WEIGHTS, UNKNOWN_SHARE = 2.0, 0.2
"""Where only the weights are known, what is left out is taken for at most: twice the weights in 16
bits for training (where all terms are known, activations are 0.9 to 2 times the weights), and a
fifth of the memory for running."""
RUNS = ("yes", "community")
WIDE: dict[str, tuple[RuntimeName, ...]] = {
    "gpu": ("transformers", "vllm", "gguf"),
    "mac": ("mlx", "transformers", "gguf"),
    "cpu": ("transformers", "gguf"),
}
"""Programs that run weights of 16 bits, by device; those for 8 and 4 bits are below."""
NARROW: dict[str, tuple[RuntimeName, ...]] = {
    "gpu": ("ollama", "gguf"),
    "mac": ("ollama", "mlx", "gguf"),
    "cpu": ("ollama", "gguf"),
}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A job in the form in which it fits.

    runtimes: programs that can do it. planned: what keeps this version of Manako from doing it
    itself; empty where it does it today.
    """

    needs: Needs
    budget: Budget
    runtimes: tuple[RuntimeName, ...]
    planned: tuple[Planned, ...]

    @property
    def share(self) -> float:
        """Of the usable memory of one device."""
        return self.needs.total_bytes / self.budget.usable_bytes

    @property
    def tightness(self) -> Tightness:
        if self.share <= EASY_SHARE:
            return "easily"
        return "well" if self.share <= WELL_SHARE else "tightly"


def runtimes_for(card: Card, job: Job) -> tuple[RuntimeName, ...]:
    """Programs in which the job can be done, the handiest first."""
    if job.is_training:
        return ("transformers",) if card.runtime("transformers") == "yes" else ()
    names = (WIDE if job.bits == 16 else NARROW)[job.device]
    return tuple(name for name in names if card.runtime(name) in RUNS)


def forms(job: Job, budget: Budget) -> Iterator[Job]:
    """The job in every form, the best first: more bits before fewer, one GPU before several, and on
    as many GPUs nothing computed twice before checkpoints."""
    counts = (1, budget.count) if budget.count > 1 else (1,)
    every: tuple[Bits, ...] = (16,) if job.is_training else (16, 8, 4)
    ways = (False, True) if job.is_training else (False,)
    for bits, gpus, twice in itertools.product(every, counts, ways):
        form = dataclasses.replace(job, bits=bits, gpus=gpus, is_checkpointed=twice)
        yield dataclasses.replace(form, device=budget.device)


def find_fit(card: Card, job: Job, budget: Budget) -> Fit | Needs | None:
    """The best form that fits; else the needs of the smallest form; None where nothing does it.

    Running takes the first form with some room to spare where there is one; training takes the
    first, because fewer GPUs are simpler. Raises what `needs` raises.
    """
    fits: list[Fit] = []
    tried: list[Needs] = []
    for form in forms(job, budget):
        runtimes = runtimes_for(card, form)
        if not runtimes and not can_train(card):
            continue
        found = needs(card, form)
        if is_believed(card, found, budget):
            planned = tuple(_planned(card, form))
            fits.append(Fit(needs=found, budget=budget, runtimes=runtimes, planned=planned))
        tried.append(found)
    if fits:
        return next((fit for fit in fits if job.is_training or _has_room(fit)), fits[0])
    return min(tried, key=lambda found: found.total_bytes, default=None)


def _has_room(fit: Fit) -> bool:
    return fit.share <= ROOMY_SHARES.get(fit.needs.job.bits, 1.0)


def is_believed(card: Card, found: Needs, budget: Budget) -> bool:
    """Whether a job fits; where not every term is known, with room for what is left out."""
    left_out = 0.0
    if found.is_lower_bound:
        weights = count_parameters(card) * HALF_BYTES * UNKNOWN_WEIGHTS
        left_out = weights if found.job.is_training else UNKNOWN_SHARE * budget.usable_bytes
    return found.total_bytes + left_out <= budget.usable_bytes


def _planned(card: Card, job: Job) -> Iterator[Planned]:
    if not can_train(card):
        yield "family"
    if job.method == "qlora":
        yield "qlora"
    if job.gpus > 1:
        yield "gpus"
    if job.device == "mac":
        yield "mac"
    if job.bits < 16:
        yield "quantised"
