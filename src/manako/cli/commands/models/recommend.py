"""`manako models recommend`: which models to take, why these, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.commands.models._reasons import column_words, reasons_of, total_of
from manako.cli.facts import footnotes, known
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import show_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from manako.plan.conditions import Excluded
    from manako.plan.job import Needs
    from manako.plan.recommend import Answer, Place

METHODS = ("run", "lora", "qlora", "full")
REASONED = 3
"""Places whose reasons are written out; `--all` writes out all."""
NAMED = 5
"""Names per reason in the summary of what is left out; more are named by their series."""
NAMED_LANGUAGES = ("ja", "en")
COLUMNS = (
    "recommend.place",
    "models.column.id",
    "recommend.score",
    "recommend.form",
    "recommend.memory",
    "models.column.licence",
    "recommend.manako",
)


@command(
    "recommend",
    key="recommend",
    examples=(
        "manako models recommend --task read --answers-in ja --gpu 24GB --method lora",
        "manako models recommend --task describe --mac 16GB --commercial",
        "manako models recommend --task charts --gpu 8x80GB --image 2480x3508 --all --json",
    ),
)
@option("--task", metavar="NAME", required=True, key="option.recommend.task")
@option("--answers-in", "language", metavar="L", default="ja", key="option.recommend.language")
@option("--gpu", metavar="SIZE", default="", key="option.recommend.gpu")
@option("--mac", metavar="SIZE", default="", key="option.recommend.mac")
@option("--cpu", metavar="SIZE", default="", key="option.recommend.cpu")
@option("--here", "is_here", is_flag=True, key="option.recommend.here")
@option("--method", type=click.Choice(METHODS), default="run", key="option.recommend.method")
@option("--commercial", is_flag=True, key="option.recommend.commercial")
@option("--strict", is_flag=True, key="option.strict")
@option("--image", "images", metavar="SIZE|@FILE", multiple=True, key="option.recommend.image")
@option("--context", type=click.IntRange(min=1), key="option.recommend.context")
@option("--top", type=click.IntRange(min=1), default=5, key="option.recommend.top")
@option("--all", "is_all", is_flag=True, key="option.recommend.all")
def recommend(
    screen: Screen,
    task: str,
    language: str,
    gpu: str,
    mac: str,
    cpu: str,
    is_here: bool,
    method: Any,
    commercial: bool,
    strict: bool,
    images: tuple[str, ...],
    context: int | None,
    top: int,
    is_all: bool,
) -> None:
    """Answer with ranked models, their reasons, and what was left out."""
    from manako.verbs import choose

    choose.find_task(task)
    with screen.working("recommend.looking"):
        budget = choose.find_budget(gpu=gpu, mac=mac, cpu=cpu, is_here=is_here)
    ask = choose.make_ask(
        task=task,
        language=language,
        budget=budget,
        method=method,
        images=images,
        context_tokens=context,
        is_commercial=commercial,
        is_strict=strict,
    )
    found = choose.answer(ask)
    lines = list(_lines(screen, found, top=top, is_all=is_all)) if not screen.is_json else []
    screen.result(choose.as_json(found), lambda console: _print(console, screen, lines))


def _print(console: Console, screen: Screen, lines: Sequence[Any]) -> None:
    """Lines and tables, and what the marks among them mean."""
    shown: list[Any] = []
    for line in lines:
        console.print(line, soft_wrap=isinstance(line, str))
        is_table = not isinstance(line, str)
        shown += [c for column in line.columns for c in column.cells] if is_table else [line]
    for note in footnotes(screen, shown):
        console.print(note, soft_wrap=True)


def _lines(screen: Screen, found: Answer, *, top: int, is_all: bool) -> Iterator[Any]:
    t = screen.texts
    yield _head(screen, found)
    yield ""
    language = _language(screen, found)
    ranked, others = (group if is_all else group[:top] for group in (found.ranked, found.others))
    if ranked:
        yield _ranked_by(screen, found)
        yield _table(screen, ranked)
    else:
        yield t("recommend.no_ranked", language=language)
    yield from _reasons(screen, ranked if is_all else ranked[:REASONED])
    if others:
        yield ""
        yield t("recommend.others", language=language)
        yield _table(screen, others, "models.column.released")
        yield from _reasons(screen, others if is_all else others[: 1 if ranked else REASONED])
    yield ""
    yield from _left_out(screen, found, is_all=is_all)
    yield ""
    yield t("recommend.basis")
    if found.ask.job.is_training:
        yield t("recommend.basis.training", tokens=found.ask.job.pack_tokens)
    else:
        yield t("recommend.basis.running", tokens=found.ask.job.context_tokens)
    yield from _next(screen, found)


def _head(screen: Screen, found: Answer) -> str:
    t, ask = screen.texts, found.ask
    sizes = [f"{width}×{height}" for width, height in ask.job.pictures]
    pictures = ", ".join(
        f"{sizes.count(size)} × {size}" if sizes.count(size) > 1 else size
        for size in dict.fromkeys(sizes)
    )
    return t(
        "recommend.head",
        title=ask.task.title.in_(screen.lang),
        language=_language(screen, found),
        machine=t(f"recommend.machine.{ask.budget.device}", size=ask.budget.text),
        usable=show_bytes(ask.budget.usable_bytes),
        method=t(f"recommend.method.{ask.job.method}"),
        pictures=pictures,
    )


def _language(screen: Screen, found: Answer) -> str:
    language = found.ask.language
    is_named = language in NAMED_LANGUAGES
    return screen.texts(f"recommend.language.{language}") if is_named else language


def _ranked_by(screen: Screen, found: Answer) -> str:
    words = column_words(screen, found.columns[0])
    return screen.texts("recommend.ranked", title=words.pop("table"), **words)


def _table(screen: Screen, places: Sequence[Place], third: str = "recommend.score") -> Table:
    """Places; `third` is the column behind the model: its score, or when it was released."""
    t = screen.texts
    columns = [third if name == "recommend.score" else name for name in COLUMNS]
    figures = ("recommend.place", "recommend.score", "recommend.memory")
    table = make_table(screen, "", *columns, right=figures, fold="models.column.licence")
    for place in places:
        licence = known(place.card.licences, lambda found: " + ".join(found.value))
        table.add_row(
            str(place.rank),
            place.card.id,
            _score(screen, place),
            _form(screen, place.fit.needs),
            total_of(screen, place.fit.needs),
            licence or t("models.commercial.unknown"),
            t("recommend.planned" if place.fit.planned else "recommend.today"),
        )
    return table


def _score(screen: Screen, place: Place) -> str:
    evidence = place.evidence
    if evidence.kind == "score":
        return f"{evidence.score:g}"
    if evidence.kind == "above":
        return screen.texts("recommend.above", anchor=evidence.anchor_score)
    if evidence.kind == "below":
        return screen.texts("recommend.below")
    return known(place.card.released)


def _form(screen: Screen, needs: Needs) -> str:
    job = needs.job
    form = screen.texts("recommend.form.bits", bits=job.held_bits)
    if job.is_checkpointed:
        form = screen.texts("recommend.form.checkpoints", form=form)
    if job.gpus == 1:
        return form
    return screen.texts("recommend.form.gpus", form=form, gpus=job.gpus)


def _reasons(screen: Screen, places: Sequence[Place]) -> Iterator[str]:
    for place in places:
        yield f"{place.rank}. {place.card.id}"
        yield from (f"   - {reason}" for reason in reasons_of(screen, place))


def _left_out(screen: Screen, found: Answer, *, is_all: bool) -> Iterator[str]:
    t = screen.texts
    yield t("recommend.excluded", count=len(found.excluded))
    for reason, count in found.counts.items():
        these = [one for one in found.excluded if one.reason == reason]
        words = f"- {t(f'recommend.out.{reason}')} ({count})"
        if is_all:
            yield words
            yield from (f"    {one.card.id}{_detail(screen, one)}" for one in these)
        else:
            yield f"{words}: {_named(screen, found, these)}"


def _named(screen: Screen, found: Answer, these: Sequence[Excluded]) -> str:
    """Some names: all of a few; else the best-scored of what is too large, or series by series."""
    from manako.verbs.choose import best_known, notable

    t, comma = screen.texts, screen.texts("recommend.comma")
    if these[0].reason == "unfit":
        best = best_known(these, found.columns)[:NAMED]
        names = [
            t("recommend.needing", name=one.card.name, size=_needed(screen, one)) for one in best
        ]
        more = len(these) - len(best)
    elif len(these) <= NAMED:
        names, more = [card.name for card in notable(these)], 0
    else:
        series = Counter(card.series for card in notable(these))
        alone = {one.card.series: one.card.name for one in these}
        listed = list(series.items())[: NAMED + 2]
        names = [
            alone[name] if count == 1 else t("recommend.series", name=name, count=count)
            for name, count in listed
        ]
        more = len(these) - sum(count for _, count in listed)
    shown = comma.join(names)
    return t("recommend.and_more", names=shown, more=more) if more else shown


def _needed(screen: Screen, one: Excluded) -> str:
    size = show_bytes(one.values["needs"])
    return screen.texts("recommend.at_least", size=size) if one.values["is_at_least"] else size


def _detail(screen: Screen, one: Excluded) -> str:
    t, values = screen.texts, one.values
    if "needs" in values:
        usable = show_bytes(values["usable"])
        return f": {t('recommend.detail.sizes', needs=_needed(screen, one), usable=usable)}"
    if "tokens" in values:
        tokens, context = values["tokens"], values["context"]
        return f": {t('recommend.detail.context', tokens=tokens, context=context)}"
    return f": {values['message']}" if "message" in values else ""


def _next(screen: Screen, found: Answer) -> Iterator[str]:
    t, today = screen.texts, found.first_today
    if today is not None:
        yield t("recommend.next_today", model=today.card.id)
    else:
        yield t("recommend.none_today")
    first = (*found.ranked, *found.others)[0]
    chosen = today if today is not None and found.ask.job.is_training else first
    yield t("recommend.next", command=f"manako models show {chosen.card.id}")


COMMAND = recommend
