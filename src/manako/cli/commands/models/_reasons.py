"""Why a model stands where it does, in the words of `manako models recommend`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from manako.cli.facts import known
from manako.cli.screen import Screen
from manako.core.units import show_bytes, show_count

if TYPE_CHECKING:
    from manako.plan.job import Needs
    from manako.plan.recommend import Place


def reasons_of(screen: Screen, place: Place) -> Iterator[str]:
    """Why a model stands where it does, and what to know before taking it."""
    t = screen.texts
    yield _evidence(screen, place)
    if place.is_small:
        from manako.plan.ladder import ENOUGH_SHARE

        yield t("recommend.why.small", share=100 * ENOUGH_SHARE)
    if place.is_close:
        yield t("recommend.why.close")
    yield _memory(screen, place)
    if place.fit.needs.picture_tokens:
        yield t("recommend.why.tokens", tokens=place.fit.needs.picture_tokens)
    yield from _doing(screen, place)
    yield _licence(screen, place)
    if place.card.pitfalls:
        note = place.card.pitfalls[-1]
        yield t("recommend.why.pitfall", text=known(note, lambda found: found.in_(screen.lang)))


def _evidence(screen: Screen, place: Place) -> str:
    evidence, t = place.evidence, screen.texts
    if evidence.kind == "none":
        return t(
            "recommend.why.none",
            released=known(place.card.released) or "?",
            parameters=known(place.card.parameters, lambda found: show_count(found.total)) or "?",
        )
    words = {**column_words(screen, evidence.column), "score": evidence.score}
    if evidence.other is not None:
        words |= {"other": evidence.other.id, "other_score": evidence.other_score}
    return t(f"recommend.why.{evidence.kind}", **words)


def _memory(screen: Screen, place: Place) -> str:
    from manako.catalogue.facts import RECALLED_MARK

    t, fit = screen.texts, place.fit
    terms = [
        f"{t(f'needs.{term.name}')} {show_bytes(term.bytes)}"
        + RECALLED_MARK * (term.how == "recalled")
        for term in fit.needs.terms
    ]
    if fit.needs.is_lower_bound:
        terms.append(t("recommend.unknown_terms"))
    return t(
        "recommend.why.memory",
        total=total_of(screen, fit.needs),
        usable=show_bytes(fit.budget.usable_bytes),
        tightness=t(f"recommend.tight.{fit.tightness}"),
        terms=t("recommend.comma").join(terms),
    )


def _doing(screen: Screen, place: Place) -> Iterator[str]:
    from manako.catalogue.ability import ability_of
    from manako.catalogue.facts import mark_of

    t, fit = screen.texts, place.fit
    if fit.runtimes and not fit.needs.job.is_training:
        names = [f"{name}{mark_of(place.card.runtimes[name])}" for name in fit.runtimes]
        yield t("recommend.why.runtimes", names=", ".join(names))
    if fit.planned:
        reasons = t("recommend.comma").join(
            t(f"recommend.planned.{reason}") for reason in fit.planned
        )
        yield t("recommend.why.planned", reasons=reasons)
    else:
        yield t("recommend.why.today", count=len(ability_of(place.card.family).holds))


def _licence(screen: Screen, place: Place) -> str:
    t, card = screen.texts, place.card
    if card.licences is None:
        return t("recommend.why.no_licence")
    return t(
        "recommend.why.licence",
        licences=known(card.licences, lambda found: " + ".join(found.value)),
        commercial=t(f"models.commercial.{card.commercial}"),
    )


def total_of(screen: Screen, needs: Needs) -> str:
    """The sum, with its mark, and `at least` where a term is missing."""
    from manako.catalogue.facts import RECALLED_MARK

    size = f"{show_bytes(needs.total_bytes)}{RECALLED_MARK * needs.is_recalled}"
    return screen.texts("recommend.at_least", size=size) if needs.is_lower_bound else size


def column_words(screen: Screen, name: str) -> dict[str, str]:
    """A column of scores in words: its title, table, judge and date."""
    from manako.catalogue.scores import score_tables

    key, _, column = name.partition(".")
    table = score_tables()[key]
    title = table.columns[column].title
    return {
        "column": title,
        "table": table.title.in_(screen.lang),
        "judge": table.judge,
        "date": table.date,
    }
