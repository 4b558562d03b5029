"""The cautions and the survey's lines: whole, sourced, in both languages, and true of this version."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from manako.catalogue.cards import find_card
from manako.catalogue.cautions import Caution, cautions, find_caution
from manako.catalogue.check import Lists, problems_of
from manako.catalogue.datasets import find_set
from manako.catalogue.facts import Note, Words, licences, sources
from manako.catalogue.scores import score_tables
from manako.catalogue.survey import SECTIONS, Line, survey
from manako.catalogue.tasks import tasks
from manako.cli.root import ROOT
from manako.core.errors import InputError

CODE = re.compile(r"`([^`]+)`")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")
MENTIONS_MANAKO = re.compile(r"^manako( [a-z-]+)*")


def lists() -> Lists:
    return Lists(sources=sources(), licences=licences(), tables=score_tables())


@pytest.mark.parametrize("caution", cautions(), ids=lambda caution: caution.id)
def test_a_caution_is_whole(caution: Caution) -> None:
    assert list(problems_of(caution.id, caution, lists())) == []
    assert SLUG.fullmatch(caution.id)
    assert caution.topics
    assert len(set(caution.topics)) == len(caution.topics)
    assert caution.evidence, "a state without evidence is an opinion"


@pytest.mark.parametrize("record", [*cautions(), *survey()], ids=lambda record: record.id)
def test_japanese_is_japanese_and_english_is_not(record: Caution | Line) -> None:
    for words in all_words(record):
        assert JAPANESE.search(words.ja), words.ja
        without_code = CODE.sub("", words.en)
        assert len(JAPANESE.findall(without_code)) <= 2, words.en
        assert words.en.rstrip()[-1] in '.:)`|…"', words.en


def all_words(record: Caution | Line) -> Iterator[Words | Note]:
    yield record.said
    if isinstance(record, Caution):
        yield record.does
        yield from record.evidence


def command_exists(call: str) -> bool:
    """Whether a call of manako names a command, and options that it has."""
    found: click.Command = ROOT
    words = shlex.split(call)[1:]
    while isinstance(found, click.Group) and words:
        inner = found.get_command(click.Context(found), words[0])
        if inner is None:
            return False
        found, words = inner, words[1:]
    names = {name for p in found.params for name in (*p.opts, *p.secondary_opts)}
    return all(word.partition("=")[0] in names for word in words if word.startswith("--"))


def calls_in(caution: Caution) -> Iterator[str]:
    for words in all_words(caution):
        for code in (*CODE.findall(words.en), *CODE.findall(words.ja)):
            if code.startswith("manako "):
                yield code
    yield from (seen for seen in caution.see if seen.startswith("manako "))


@pytest.mark.parametrize("caution", cautions(), ids=lambda caution: caution.id)
def test_commands_that_a_caution_names_exist(caution: Caution) -> None:
    for call in calls_in(caution):
        assert command_exists(call), call


@pytest.mark.parametrize("caution", cautions(), ids=lambda caution: caution.id)
def test_both_languages_name_the_same_commands(caution: Caution) -> None:
    for words in all_words(caution):
        named = [
            {found[0] for code in CODE.findall(text) if (found := MENTIONS_MANAKO.match(code))}
            for text in (words.en, words.ja)
        ]
        assert named[0] == named[1], words.en


@pytest.mark.parametrize("caution", cautions(), ids=lambda caution: caution.id)
def test_what_one_should_see_as_well_exists(caution: Caution) -> None:
    for seen in caution.see:
        assert seen.startswith("manako ") or is_known(seen), seen


def is_known(name: str) -> bool:
    for find in (find_card, find_set):
        try:
            find(name)
        except InputError:
            continue
        return True
    return False


def test_a_wrong_command_would_be_found() -> None:
    assert command_exists("manako data convert SRC --out DIR")
    assert not command_exists("manako data bake")
    assert not command_exists("manako data convert --gently")


@pytest.mark.parametrize("line", survey(), ids=lambda line: line.id)
def test_something_speaks_of_every_line_of_the_survey(line: Line) -> None:
    assert list(problems_of(line.id, line, lists())) == []
    assert line.speaks
    for name in line.cautions:
        assert find_caution(name)
    for name in line.cards:
        assert find_card(name).id == name
    for name in line.datasets:
        assert find_set(name).id == name
    for name in line.tasks:
        assert name in tasks()


def test_every_claim_and_warning_is_one_of_the_survey() -> None:
    said = {name for line in survey() for name in line.cautions}
    assert {caution.id for caution in cautions() if caution.kind != "trap"} - said == set()


def test_the_survey_is_whole() -> None:
    """70 statements; every section, model and use of it."""
    assert len(survey()) == 70
    assert {line.section for line in survey()} == set(SECTIONS)
    named = {find_card(name).survey for line in survey() for name in line.cards}
    assert {"popular", "watch"} <= named
    assert {name for line in survey() for name in line.tasks} == set(tasks())


def test_what_the_user_got_wrong_is_told() -> None:
    """Mistakes of the survey are cautions, never silently mended."""
    wrong = {caution.id for caution in cautions() if caution.state == "wrong"}
    assert {"num-ctx-24576", "ollama-tag-is-another-model", "gemma-3-270m-light-form"} <= wrong


def test_an_unknown_caution_gets_the_nearest_ids() -> None:
    with pytest.raises(InputError, match="heron-on-an-iphone"):
        find_caution("iphone")
