"""docs/survey.md and docs/survey.ja.md are what the script makes of the catalogue, and whole."""

from __future__ import annotations

import re

import pytest
from doc_blocks import read

import survey_pages
from manako.catalogue.cards import cards
from manako.catalogue.cautions import cautions
from manako.catalogue.facts import RECALLED_MARK
from manako.catalogue.survey import survey
from manako.catalogue.tasks import tasks

NUMBERED = re.compile(r" \[(\d+)\]")
SOURCE = re.compile(r"^(\d+)\. ", re.MULTILINE)
LANGS = tuple(survey_pages.PAGES)


@pytest.mark.parametrize("lang", LANGS)
def test_pages_are_current(lang: str) -> None:
    """`python scripts/survey_pages.py` brings them up to date."""
    path = survey_pages.PAGES[lang]
    assert path.read_text(encoding="utf-8") == survey_pages.page(lang)


@pytest.mark.parametrize("lang", LANGS)
def test_every_caution_stands_on_the_page_once(lang: str) -> None:
    page = read(f"docs/{survey_pages.PAGES[lang].name}")
    for caution in cautions():
        assert page.count(caution.does.in_(lang)) >= 1, caution.id
        assert (
            len(re.findall(rf"^- .*{re.escape(caution.said.in_(lang))}$", page, re.MULTILINE)) == 1
        )


@pytest.mark.parametrize("lang", LANGS)
def test_every_model_and_use_of_the_survey_stands_on_the_page(lang: str) -> None:
    page = read(f"docs/{survey_pages.PAGES[lang].name}")
    for card in cards():
        if card.survey:
            assert f"| {card.id} |" in page
    for task in tasks().values():
        assert f"| {task.title.in_(lang)} |" in page
    assert {name for line in survey() for name in line.tasks} == set(tasks())


@pytest.mark.parametrize("lang", LANGS)
def test_numbers_lead_to_sources_and_marks_to_their_footnote(lang: str) -> None:
    page = read(f"docs/{survey_pages.PAGES[lang].name}")
    listed = [int(number) for number in SOURCE.findall(page)]
    assert listed == list(range(1, len(listed) + 1))
    assert {int(number) for number in NUMBERED.findall(page)} == set(listed)
    assert page.rstrip().splitlines()[-1].startswith(RECALLED_MARK)


def test_both_pages_say_the_same() -> None:
    """As many headings, entries and rows; the words are each page's own."""
    shapes = [
        [re.match(r"#* |  - |- |\||\d+\. |", line)[0] for line in page.splitlines()]  # type: ignore[index]
        for page in map(survey_pages.page, LANGS)
    ]
    for kind in ("## ", "### ", "- ", "  - ", "|"):
        assert shapes[0].count(kind) == shapes[1].count(kind), kind
