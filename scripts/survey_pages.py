"""Write docs/survey.md and docs/survey.ja.md from the catalogue.

python scripts/survey_pages.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import survey_data
from blocks import ROOT, table, write_if_changed
from manako.catalogue.cards import Card, cards, find_card
from manako.catalogue.cautions import STATES, TOPICS, Caution, cautions, find_caution
from manako.catalogue.facts import RECALLED_MARK, mark_of, sources
from manako.catalogue.scores import score_tables
from manako.catalogue.survey import Line, survey
from manako.catalogue.tasks import tasks
from manako.cli.texts import Texts
from survey_models import by_class, cards_table, is_fresh, scores_in
from survey_words import CALLS, DATA, SHELL_CALL, WORDS

PAGES = {"en": ROOT / "docs" / "survey.md", "ja": ROOT / "docs" / "survey.ja.md"}
LEADERBOARD = "llm-jp-eval-mm"
SHOWN_SCORES = {
    LEADERBOARD: ("heron_bench", "jmmmu", "jdocqa", "cc_ocr", "jvb_itw", "mulim_vqa"),
    "sarashina-card": ("heron_bench", "jmmmu", "jdocqa", "business_slide_vqa"),
}
DECIMALS = {LEADERBOARD: 2, "sarashina-card": 3}
ADVICE = ("machines", "data", "models", "runtimes", "macs")
NEWER_PER_CLASS = 2


class Page:
    """One page in one language; sources get their numbers in the order in which they are named."""

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self.words: dict[str, Any] = WORDS[lang]
        self.t = Texts(lang)  # type: ignore[arg-type]
        self._sources: list[str] = []
        self._told: set[str] = set()
        self._explained: set[str] = set()

    def text(self) -> str:
        """The whole page."""
        w = self.words
        parts = [
            f"# {w['title']}",
            w["other"],
            "<!-- Written by scripts/survey_pages.py; do not edit. -->",
            w["intro"],
            *self.states(),
            *self.models("popular"),
            *self.models("watch"),
            *self.newer(),
            f"## {w['call']}",
            w["call_intro"],
            CALLS,
            w["call_shell"],
            SHELL_CALL,
            *self.said_of(line for line in survey() if line.section == "call"),
            f"## {self.words['advice']}",
            self.words["advice_intro"],
            *self.advice(),
            f"## {self.words['cauldron']}",
            self.words["cauldron_intro"],
            *self.said_of(line for line in survey() if line.section == "cauldron"),
            *self.datasets(),
            *self.uses(),
            *self.traps(),
            *self.list_of_sources(),
        ]
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def states(self) -> Iterator[str]:
        """How many statements of the survey are in which state, and how many traps."""
        of_survey = Counter(c.state for c in cautions() if c.kind != "trap")
        of_traps = Counter(c.state for c in cautions() if c.kind == "trap")
        yield self.words["states"].format(said=of_survey.total())
        means = self.words["state_means"]
        rows = [
            [f"**{self.state(s)}**", str(of_survey[s]), str(of_traps[s]), means[s]] for s in STATES
        ]
        yield table(self.words["state_head"], rows, right=frozenset({1, 2}))

    def state(self, name: str) -> str:
        return self.t(f"cautions.state.{name}")

    def cited(self, note: Any) -> str:
        """A note with its mark and the number of its source."""
        if note.by not in self._sources:
            self._sources.append(note.by)
        return f"{note.in_(self.lang)}{mark_of(note)} [{self._sources.index(note.by) + 1}]"

    def told(self, found: Sequence[Caution]) -> Iterator[str]:
        """Cautions as a list, each once on the page."""
        fresh = [caution for caution in found if caution.id not in self._told]
        self._told |= {caution.id for caution in fresh}
        if fresh:
            yield "\n".join(self._caution(caution) for caution in fresh)

    def _caution(self, caution: Caution) -> str:
        since = self.words["since"].format(caution.since) if caution.since else ""
        said = f"**{self.state(caution.state)}**{since}{self.words['colon']}{caution.said.in_(self.lang)}"
        lines = [f"- {said}"]
        lines += [f"  - {self.cited(note)}" for note in caution.evidence]
        lines.append(f"  - *Manako*{self.words['colon']}{caution.does.in_(self.lang)}")
        return "\n".join(lines)

    def said_of(self, lines: Any) -> Iterator[str]:
        """The claims and warnings of some lines of the survey."""
        names = dict.fromkeys(name for line in lines for name in line.cautions)
        found = [find_caution(name) for name in names]
        yield from self.told([caution for caution in found if caution.kind != "trap"])

    def advice(self) -> Iterator[str]:
        """The five pieces of advice, each under its own heading."""
        for name in ADVICE:
            yield f"### {self.words[name]}"
            yield from self.said_of(line for line in survey() if line.section == name)

    # ---- models

    def models(self, section: str) -> Iterator[str]:
        """The models of a section of the survey: table, scores, what is said, pitfalls."""
        yield f"## {self.words[section]}"
        yield self.words[f"{section}_intro"]
        for series, lines in _groups(section):
            found = [card for card in cards() if card.series in series and card.survey == section]
            yield f"### {' · '.join(series)}"
            yield self.cards_table(found)
            yield from self.scores(found)
            yield self.words["said_today"]
            yield from self.said_of(lines)
            yield from self.pitfalls(found)

    def cards_table(self, found: Sequence[Card]) -> str:
        return cards_table(found, self.words, self.t)

    def scores(self, found: Sequence[Card]) -> Iterator[str]:
        """A table of scores for each table that knows some of the cards."""
        for key, columns in SHOWN_SCORES.items():
            known = [(card, scores_in(card, key)) for card in found]
            rows = [
                [card.name, *(f"{s[c]:.{DECIMALS[key]}f}" if c in s else "" for c in columns)]
                for card, s in known
                if s
            ]
            if rows:
                head = ["", *(score_tables()[key].columns[c].title for c in columns)]
                yield table(head, rows, right=frozenset(range(1, len(head))))
                yield self._about_scores(key, columns)
        without = [card.name for card in found if card.takes_pictures and not card.scores]
        if without:
            yield self.words["no_scores"].format(names=", ".join(without))

    def _about_scores(self, key: str, columns: Sequence[str]) -> str:
        found = score_tables()[key]
        if found.by not in self._sources:
            self._sources.append(found.by)
        title, number = found.title.in_(self.lang), self._sources.index(found.by) + 1
        under = self.words["scores_under"].format(title=title, judge=found.judge, date=found.date)
        if key in self._explained:
            return f"{under} [{number}]"
        self._explained.add(key)
        scales = [
            f"{found.columns[c].title}: {found.columns[c].scale.in_(self.lang)}" for c in columns
        ]
        return f"{under} [{number}] {self.words['scales'].format(scales='; '.join(scales))}"

    def pitfalls(self, found: Sequence[Card]) -> Iterator[str]:
        """What the cards warn of; what several say alike stands once."""
        notes: dict[str, tuple[Any, list[str]]] = {}
        for card in found:
            for note in card.pitfalls:
                notes.setdefault(note.en, (note, []))[1].append(card.name)
        if notes:
            yield self.words["know"]
            everyone = {card.name for card in found}
            yield "\n".join(
                f"- {'' if set(names) == everyone else self._for(names)}{self.cited(note)}"
                for note, names in notes.values()
            )

    def _for(self, names: Sequence[str]) -> str:
        return f"{', '.join(names)}{self.words['colon']}"

    def newer(self) -> Iterator[str]:
        yield f"## {self.words['newer']}"
        yield self.words["newer_intro"]
        others = [card for card in cards() if not card.survey and card.takes_pictures]
        best = [
            card for c in by_class(others, LEADERBOARD, "jdocqa") for card in c[:NEWER_PER_CLASS]
        ]
        yield self.words["newer_scored"]
        yield self.cards_table(best)
        yield from self.scores(best)
        fresh = [card for card in others if is_fresh(card) and not scores_in(card, LEADERBOARD)]
        yield self.words["newer_unscored"]
        yield self.cards_table(sorted(fresh, key=lambda card: (card.series, card.size_bytes or 0)))

    # ---- data, uses, traps

    def datasets(self) -> Iterator[str]:
        """The Cauldron by category, and the Japanese sets."""
        words = DATA[self.lang]
        yield words["cauldron_title"]
        yield survey_data.cauldron_table(self.lang)
        yield words["cauldron_under"]
        yield words["japanese_title"]
        yield survey_data.counted(self.lang)
        yield from survey_data.japanese_tables(self.lang)

    def uses(self) -> Iterator[str]:
        """For each use: the measure that comes nearest, and its best card per class of size."""
        yield f"## {self.words['uses']}"
        yield self.words["uses_intro"]
        rows = []
        for task in tasks().values():
            key, _, column = task.evidence["ja"][0].partition(".")
            able = [card for card in cards() if set(task.needs) <= set(card.inputs)]
            best = [self._best(found, key, column) for found in by_class(able, key, column)]
            title = score_tables()[key].columns[column].title
            rows.append([task.title.in_(self.lang), title, *best, task.why.in_(self.lang)])
        yield table(self.words["uses_head"], rows)

    def _best(self, found: Sequence[Card], key: str, column: str) -> str:
        if not found:
            return self.words["no_evidence"]  # type: ignore[no-any-return]
        return f"{found[0].name} ({scores_in(found[0], key)[column]:g})"

    def traps(self) -> Iterator[str]:
        """Every caution that no line of the survey led to, by its first topic."""
        yield f"## {self.words['traps']}"
        yield self.words["traps_intro"]
        rest = [caution for caution in cautions() if caution.id not in self._told]
        for topic in TOPICS:
            found = [caution for caution in rest if caution.topics[0] == topic]
            if found:
                yield f"### {_capital(self.t(f'cautions.topic.{topic}'))}"
                yield from self.told(found)

    def list_of_sources(self) -> Iterator[str]:
        yield f"## {self.words['sources']}"
        yield "\n".join(
            f"{number}. {self.t(f'facts.how.{source.how}')}: {source.title}"
            f"{f' <{source.url}>' if source.url else ''} ({source.date})"
            for number, source in enumerate(map(sources().__getitem__, self._sources), start=1)
        )
        yield self.words["footnote"].format(mark=RECALLED_MARK)


def page(lang: str) -> str:
    """The whole page in a language."""
    return Page(lang).text()


def _groups(section: str) -> Iterator[tuple[tuple[str, ...], list[Line]]]:
    """Lines of a section with the series that they speak of, as the survey has them."""
    series: tuple[str, ...] = ()
    groups: list[tuple[tuple[str, ...], list[Line]]] = []
    for line in (line for line in survey() if line.section == section):
        named = tuple(dict.fromkeys(find_card(name).series for name in line.cards))
        if named and named != series:
            series = named
            groups.append((series, []))
        groups[-1][1].append(line)
    yield from groups


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    for lang, path in PAGES.items():
        write_if_changed(path, page(lang))
