"""`manako doctor`: look at this machine, and say whether a job fits it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from manako.catalogue.cards import Card, cards, find_card
from manako.catalogue.facts import with_sources, without_recalled
from manako.catalogue.machines import MachineKind, machine_kinds
from manako.catalogue.matrix import Row, matrix
from manako.catalogue.search import nearest
from manako.core.errors import InputError
from manako.core.settings import plain
from manako.machine.finding import Finding, Probe
from manako.machine.machine import Machine, machine_of
from manako.machine.runner import Progress, examine, probes
from manako.plan.fitting import Fit, find_fit
from manako.plan.job import Job, Method, Needs
from manako.plan.machines import GPU_SHARE, Budget

SMALLER_PACKS = (1024, 512)
EASIER: Mapping[Method, tuple[Method, ...]] = {
    "full": ("full", "lora", "qlora", "run"),
    "lora": ("lora", "qlora", "run"),
    "qlora": ("qlora", "run"),
    "run": ("run",),
}
"""A method and those that ask for less, the nearest first."""
What = Literal["pack", "method", "model"]


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """What the probes found, in the order in which it is shown."""

    findings: tuple[Finding, ...]
    known: Mapping[str, Probe]

    @property
    def broken(self) -> list[Finding]:
        """What Manako needs and does not work."""
        return [
            one
            for one in self.findings
            if one.state == "does not" and self.known[one.probe].is_needed
        ]

    @property
    def counts(self) -> Counter[str]:
        """How many probes there are in each state."""
        return Counter(one.state for one in self.findings)

    @property
    def machine(self) -> Machine:
        return machine_of(self.findings)

    def as_dict(self) -> dict[str, Any]:
        found = [{**plain(one), "group": self.known[one.probe].group} for one in self.findings]
        broken = [one.probe for one in self.broken]
        return {"findings": found, "machine": plain(self.machine), "broken": broken}


def check(names: Sequence[str] = (), progress: Progress | None = None) -> Checkup:
    """Run the named probes, or all. Raises `InputError` with the nearest for one there is not."""
    known = probes()
    for name in names:
        if name not in known:
            near = nearest(name, known)
            raise InputError(f"no probe {name!r}{near}", next_step=f"one of {', '.join(known)}")
    findings = examine(names or None, progress=progress)
    return Checkup(findings=tuple(findings), known=known)


def rows(*, is_strict: bool = False) -> list[Row]:
    """The table of accelerators; strict: without recalled cells, and rows that hold no other."""
    found = list(matrix().values())
    if not is_strict:
        return found
    return [row for one in found if any((row := without_recalled(one)).cells())]


@dataclass(frozen=True, kw_only=True)
class Way:
    """Something that asks for less than the job, and whether it fits. `what`: what it changes."""

    what: What
    card: Card
    job: Job
    fit: Fit | Needs

    @property
    def fits(self) -> bool:
        return isinstance(self.fit, Fit)

    @property
    def needs(self) -> Needs:
        return needs_of(self.fit)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Whether a job fits a machine (`fit`), and what would do otherwise.

    fit: None where no program is known that does it. machines: the smallest kind for the method and
    each easier one, None where even the largest is too small.
    """

    card: Card
    job: Job
    budget: Budget
    fit: Fit | Needs | None
    ways: tuple[Way, ...]
    machines: Mapping[Method, tuple[MachineKind | None, Fit | Needs]]

    @cached_property
    def fits(self) -> bool:
        return isinstance(self.fit, Fit)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.card.id,
            "method": self.job.method,
            "machine": _budget(self.budget),
            "fits": self.fits,
            "memory": _memory(self.fit, self.budget) if self.fit is not None else None,
            "ways": [
                {
                    "changes": way.what,
                    "model": way.card.id,
                    "method": way.job.method,
                    "pack_tokens": way.job.pack_tokens,
                    "fits": way.fits,
                    "memory": _memory(way.fit, self.budget),
                }
                for way in self.ways
            ],
            "machines": {method: with_sources(kind) for method, (kind, _) in self.machines.items()},
        }


def advise(model: str, method: Method, budget: Budget, *, is_strict: bool = False) -> Advice:
    """Whether the method fits the machine, what would make it fit, and which machine would do.

    Raises `InputError` for a model without a card, or a card without any size.
    """
    card = find_card(model)
    card = without_recalled(card) if is_strict else card
    job = Job(method=method)
    fit = find_fit(card, job, budget)
    fits = isinstance(fit, Fit)
    return Advice(
        card=card,
        job=job,
        budget=budget,
        fit=fit,
        ways=() if fits else tuple(_ways(card, job, budget)),
        machines={} if fits else dict(_machines(card, job, is_strict)),
    )


def needs_of(fit: Fit | Needs) -> Needs:
    """What a job needs, whether or not it fits."""
    return fit.needs if isinstance(fit, Fit) else fit


def _ways(card: Card, job: Job, budget: Budget) -> Iterator[Way]:
    """Smaller packs, easier methods, smaller models of the series: of each what fits, or comes
    nearest."""
    if job.is_training:
        packs = [dataclasses.replace(job, pack_tokens=tokens) for tokens in SMALLER_PACKS]
        yield from _first_fitting("pack", [(card, smaller) for smaller in packs], budget)
    for method in EASIER[job.method][1:]:
        easier = Job(method=method)
        packs = [dataclasses.replace(easier, pack_tokens=tokens) for tokens in SMALLER_PACKS]
        forms = [easier, *packs] if easier.is_training else [easier]
        yield from _first_fitting("method", [(card, form) for form in forms], budget)
    yield from _first_fitting("model", [(one, job) for one in smaller_models(card)], budget)


def smaller_models(card: Card) -> list[Card]:
    """Models of the same series with fewer parameters that take as much, the largest first."""
    if card.parameters is None:
        return []
    total = card.parameters.total
    found = [
        (one.parameters.total, one)
        for one in cards()
        if one.series == card.series and one.parameters and one.parameters.total < total
        if set(card.inputs) <= set(one.inputs)
    ]
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def _first_fitting(what: What, tries: Sequence[tuple[Card, Job]], budget: Budget) -> Iterator[Way]:
    """The first that fits; where none does, the last, which is the smallest."""
    found = [
        Way(what=what, card=card, job=job, fit=fit)
        for card, job in tries
        if (fit := find_fit(card, job, budget)) is not None
    ]
    yield from next(([way] for way in found if way.fits), found[-1:])


def _machines(
    card: Card, job: Job, is_strict: bool
) -> Iterator[tuple[Method, tuple[MachineKind | None, Fit | Needs]]]:
    for method in EASIER[job.method]:
        wanted = job if method == job.method else Job(method=method)
        last: Fit | Needs | None = None
        for kind in machine_kinds().values():
            last = find_fit(card, wanted, budget_of(kind))
            if isinstance(last, Fit):
                yield method, (without_recalled(kind) if is_strict else kind, last)
                break
        else:
            if last is not None:
                yield method, (None, last)


def budget_of(kind: MachineKind) -> Budget:
    """The room on a kind of machine."""
    return Budget(device="gpu", each_bytes=kind.each_bytes, share=GPU_SHARE, count=kind.count)


def _budget(budget: Budget) -> dict[str, Any]:
    return {**plain(budget), "usable_bytes": budget.usable_bytes}


def _memory(fit: Fit | Needs, budget: Budget) -> dict[str, Any]:
    needs = needs_of(fit)
    return {
        "total_bytes": needs.total_bytes,
        "is_at_least": needs.is_lower_bound,
        "usable_bytes": budget.usable_bytes,
        "bits": needs.job.bits,
        "gpus": needs.job.gpus,
        "planned": list(fit.planned) if isinstance(fit, Fit) else [],
        "runs_in": list(fit.runtimes) if isinstance(fit, Fit) else [],
        "terms": plain(needs.terms),
    }
