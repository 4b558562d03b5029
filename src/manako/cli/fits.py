"""Whether a job fits this machine, drawn: its memory, what would help, which machine would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from manako.cli.facts import footnotes, known
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import show_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from manako.plan.fitting import Fit
    from manako.plan.job import Job, Needs
    from manako.verbs.doctor import Advice, Way


def drawn(screen: Screen, found: Advice) -> Iterator[RenderableType]:
    """From the answer to what else one can do."""
    t, budget = screen.texts, found.budget
    yield t(
        "doctor.fit.head",
        model=found.card.id,
        machine=t(f"doctor.machine.{budget.device}", size=budget.text),
        method=t(f"recommend.method.{found.job.method}"),
        usable=show_bytes(budget.usable_bytes),
    )
    if found.fit is None:
        yield t("doctor.fit.none")
    else:
        yield from _answer(screen, found.fit)
    if found.ways:
        yield _ways(screen, found)
    shown: list[str] = []
    if found.machines:
        yield _machines(screen, found, shown)
    yield t("doctor.basis", tokens=found.job.pack_tokens)
    yield from footnotes(screen, shown)


def _answer(screen: Screen, fit: Fit | Needs) -> Iterator[RenderableType]:
    from manako.plan.fitting import Fit
    from manako.verbs.doctor import needs_of

    t, needs = screen.texts, needs_of(fit)
    size = size_of(screen, needs)
    if isinstance(fit, Fit):
        yield t("doctor.fit.yes", size=size, tight=t(f"recommend.tight.{fit.tightness}"))
    else:
        yield t("doctor.fit.no", size=size)
    yield _terms(screen, needs)
    if isinstance(fit, Fit):
        yield from _who(screen, fit)


def _who(screen: Screen, fit: Fit) -> Iterator[str]:
    t = screen.texts
    if fit.runtimes:
        yield t("recommend.why.runtimes", names=", ".join(fit.runtimes))
    if fit.planned:
        reasons = ", ".join(t(f"recommend.planned.{name}") for name in fit.planned)
        yield t("recommend.why.planned", reasons=reasons)


def size_of(screen: Screen, needs: Needs) -> str:
    """The size with its form, and `at least` where a term is not known."""
    t = screen.texts
    size = show_bytes(needs.total_bytes)
    words = t("recommend.at_least", size=size) if needs.is_lower_bound else size
    bits = 4 if needs.job.method == "qlora" else needs.job.bits
    return t("doctor.bits", words=words, bits=bits) if bits < 16 else words


def _terms(screen: Screen, needs: Needs) -> Table:
    table = make_table(screen, "", "doctor.term", "doctor.bytes", right=("doctor.bytes",))
    for term in needs.terms:
        table.add_row(screen.texts(f"needs.{term.name}"), show_bytes(term.bytes))
    return table


def _ways(screen: Screen, found: Advice) -> Table:
    t = screen.texts
    columns = ("doctor.way", "doctor.needs", "doctor.fits", "recommend.manako")
    table = make_table(screen, "doctor.ways", *columns, right=("doctor.needs",))
    for way in found.ways:
        fits = t("doctor.fits.yes" if way.fits else "doctor.fits.no")
        style = "green" if way.fits else "dim"
        cells = (_way(screen, way), size_of(screen, way.needs), fits, _when(screen, way.fit))
        table.add_row(*cells, style=style)
    return table


def _way(screen: Screen, way: Way) -> str:
    method = screen.texts(f"recommend.method.{way.job.method}")
    if way.what == "model":
        return screen.texts("doctor.way.model", method=method, model=way.card.name)
    if way.what == "pack" or _is_smaller(way.job):
        return screen.texts("doctor.way.pack", method=method, tokens=way.job.pack_tokens)
    return screen.texts("doctor.way.method", method=method)


def _is_smaller(job: Job) -> bool:
    return job.is_training and job.pack_tokens < type(job)(method=job.method).pack_tokens


def _machines(screen: Screen, found: Advice, shown: list[str]) -> Table:
    from manako.verbs.doctor import budget_of, needs_of

    t = screen.texts
    columns = (
        "doctor.method",
        "doctor.needs",
        "doctor.kind",
        "doctor.examples",
        "recommend.manako",
    )
    table = make_table(screen, "doctor.rent", *columns, right=("doctor.needs", "doctor.kind"))
    for method, (kind, fit) in found.machines.items():
        words, needs = t(f"recommend.method.{method}"), needs_of(fit)
        size = size_of(screen, needs)
        if needs.job.gpus > 1:
            size = t("doctor.each", size=size, gpus=needs.job.gpus)
        if kind is None:
            table.add_row(words, size, t("doctor.kind.none"), "", "")
            continue
        examples = known(kind.examples, lambda fact: ", ".join(fact.value))
        shown.append(examples)
        table.add_row(words, size, budget_of(kind).text, examples, _when(screen, fit))
    return table


def _when(screen: Screen, fit: Fit | Needs) -> str:
    """Whether this version of Manako does it; nothing for what does not fit."""
    from manako.plan.fitting import Fit

    if not isinstance(fit, Fit):
        return ""
    return screen.texts("recommend.planned" if fit.planned else "recommend.today")
