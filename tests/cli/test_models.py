"""`manako models list` and `show`: what is asked for is what is shown, marks and sources included."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from typing import Any

import pytest
from click.testing import CliRunner, Result

from manako.catalogue.cards import cards
from manako.catalogue.facts import RECALLED_MARK
from manako.cli.root import ROOT


def call(*args: str) -> Result:
    return CliRunner().invoke(ROOT, ["models", *args], env={"COLUMNS": "200"})


def ids(*args: str) -> list[str]:
    result = call("list", *args, "--json")
    assert result.exit_code == 0, result.output
    return [card["id"] for card in json.loads(result.stdout)]


def test_all_cards_are_listed_and_counted() -> None:
    result = call("list", "--lang", "en")
    assert result.exit_code == 0
    assert f"{len(cards())} models" in result.stdout
    assert len(ids()) == len(cards())


def test_filters_narrow_by_every_condition() -> None:
    found = ids("qwen", "--commercial", "--max-parameters", "8B", "--input", "video")
    assert "Qwen/Qwen2-VL-2B-Instruct" in found
    assert "Qwen/Qwen2-VL-7B-Instruct" not in found  # 8.29 B
    assert "Qwen/Qwen2.5-VL-3B-Instruct" not in found  # not for a business
    assert ids("--trainable") == ids("--trainable", "--sort", "name")
    assert {"Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-72B-Instruct"} <= set(ids("--trainable"))


def test_a_filter_that_leaves_nothing_names_the_condition() -> None:
    result = call("list", "qwen2-vl", "--survey", "popular", "--max-parameters", "1B")
    assert result.exit_code == 2
    assert "--max-parameters 1 B" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--max-size", "large"), "'large' is no size"),
        (("--sort", "beauty"), "neither a field nor a column"),
        (("--sort", "heron_bench"), "two scales"),
        (("--columns", "id,beauty"), "neither a field nor a column"),
        (("--input", "smell"), "smell"),
    ],
)
def test_what_cannot_be_asked_is_said(args: tuple[str, ...], words: str) -> None:
    result = call("list", *args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_scores_sort_the_best_first_and_name_their_table() -> None:
    args = ("--sort", "llm-jp-eval-mm.jdocqa", "--columns", "id,llm-jp-eval-mm.jdocqa")
    result = call("list", "qwen2-vl", *args, "--lang", "en")
    places = [result.stdout.index(f"Qwen2-VL-{size}-Instruct") for size in ("72B", "7B", "2B")]
    assert places == sorted(places)
    assert "gpt-4o-2024-11-20" in result.stdout


def test_sizes_sort_up_and_down() -> None:
    sizes = [
        card["size_bytes"] for card in json.loads(call("list", "--sort", "size", "--json").stdout)
    ]
    known = [size for size in sizes if size is not None]
    assert known == sorted(known)
    assert sizes[: len(known)] == known
    assert ids("--sort", "-size")[0] == max(cards(), key=lambda card: card.size_bytes or 0).id


def test_strict_shows_nothing_that_is_recalled() -> None:
    assert RECALLED_MARK in call("list").stdout
    strict = call("list", "--strict")
    assert RECALLED_MARK not in strict.stdout
    for found in json.loads(call("list", "--strict", "--json").stdout):
        assert "recalled" not in hows_of(found), found["id"]


def hows_of(value: Any) -> set[str]:
    """How sure every fact inside a JSON value is."""
    if isinstance(value, dict):
        own = {value["how"]} if "how" in value else set()
        return own.union(*(hows_of(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(hows_of(item) for item in value))
    return set()


@pytest.mark.parametrize("lang", ["ja", "en"])
def test_a_card_shows_marks_and_numbered_sources(lang: str) -> None:
    result = call("show", "qwen2-vl-2b-instruct", "--lang", lang)
    assert result.exit_code == 0, result.output
    assert "2.209 B" in result.stdout
    assert "[1]" in result.stdout
    assert RECALLED_MARK in result.stdout
    assert "1240×1754: 2,772" in result.stdout
    assert ("法則が成り立つ" in result.stdout) == (lang == "ja")


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.id)
def test_every_card_can_be_shown(card: Any) -> None:
    assert call("show", card.id).exit_code == 0


def test_an_unknown_model_gets_the_nearest_names() -> None:
    result = call("show", "Qwen/Qwen2-VL-8B-Instruct")
    assert result.exit_code == 2
    assert "Qwen/Qwen2-VL-7B-Instruct" in result.stderr


def test_columns_stand_under_each_other_also_in_japanese() -> None:
    lines = [
        line for line in call("list", "--lang", "ja").stdout.splitlines() if "Qwen2-VL-" in line
    ]
    ends = {width_of(line[: line.index("GB") + 2]) for line in lines if "GB" in line}
    assert len(ends) == 1


def width_of(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_the_list_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from manako.cli.root import ROOT\n"
        "try: ROOT.main(['models', 'list'])\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'numpy', 'pyarrow', 'huggingface_hub', 'transformers', 'PIL')\n"
        "print('loaded', *[name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "loaded"
