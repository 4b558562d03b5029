"""`manako datasets`: what is asked for is what is shown, with marks, sources and warnings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from manako.catalogue.datasets import CATEGORIES, datasets
from manako.catalogue.facts import RECALLED_MARK
from manako.cli.commands.datasets.list_ import CATEGORIES as OFFERED
from manako.cli.root import ROOT
from manako.cli.texts import all_texts

PLOTQA, DOCVQA = "HuggingFaceM4/the_cauldron:plotqa", "HuggingFaceM4/the_cauldron:docvqa"


def call(*args: str) -> Result:
    return CliRunner().invoke(ROOT, ["datasets", *args], env={"COLUMNS": "200"})


def answer(*args: str) -> Any:
    result = call(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ids(*args: str) -> list[str]:
    return [found["id"] for found in answer("list", *args)]


def test_all_sets_are_listed_and_counted() -> None:
    result = call("list", "--lang", "en")
    assert result.exit_code == 0, result.output
    assert f"{len(datasets())} data sets" in result.stdout
    assert len(ids()) == len(datasets())


def test_categories_offered_are_those_of_the_catalogue_and_have_words() -> None:
    assert OFFERED == CATEGORIES
    assert {f"datasets.category.{name}" for name in CATEGORIES} <= set(all_texts())


def test_filters_narrow_by_every_condition() -> None:
    found = ids("--kind", "benchmark", "--language", "ja", "--category", "exam")
    assert found == ["JMMMU/JMMMU", "JMMMU/JMMMU-Pro:standard", "JMMMU/JMMMU-Pro:vision"]
    assert "shunk031/JDocQA" in ids("--kind", "training")
    assert "shunk031/JDocQA" in ids("--kind", "benchmark")
    assert "turing-motors/Cauldron-JA" in ids("--reads", "the_cauldron", "--language", "ja")
    assert "HuggingFaceM4/the_cauldron:dvqa" not in ids("--commercial")


def test_a_filter_that_leaves_nothing_names_the_condition() -> None:
    result = call("list", "the_cauldron", "--kind", "training", "--language", "ja")
    assert result.exit_code == 2
    assert "--language ja removes the last" in result.stderr
    assert "after the text 'the_cauldron', --kind training" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--licence", "cc-by-40"), "nearest are cc-by-4.0"),
        (("--language", "jp"), "'jp' is nowhere"),
        (("--reads", "the_cauldon"), "nearest are the_cauldron"),
        (("--sort", "beauty"), "there are answer_tokens"),
        (("--columns", "id,pictures"), "'pictures' is nowhere"),
        (("--category", "smell"), "smell"),
    ],
)
def test_what_cannot_be_asked_is_said(args: tuple[str, ...], words: str) -> None:
    result = call("list", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_figures_sort_up_and_down_and_the_unknown_come_last() -> None:
    assert ids("the_cauldron", "--sort", "-questions")[:2] == [
        "HuggingFaceM4/the_cauldron",
        PLOTQA,
    ]
    found = answer("list", "--sort", "rows")
    rows = [one["rows"]["value"] if one["rows"] else None for one in found]
    known = [count for count in rows if count is not None]
    assert rows[: len(known)] == sorted(known)


def test_strict_shows_nothing_that_is_recalled() -> None:
    assert RECALLED_MARK in call("list").stdout
    assert RECALLED_MARK not in call("list", "--strict").stdout
    assert '"how": "recalled"' not in call("list", "--strict", "--json").stdout
    assert '"how": "recalled"' in call("list", "--json").stdout
    shown = call("show", "textvqa", "--strict")
    assert shown.exit_code == 2  # the name of two
    assert RECALLED_MARK not in call("show", "the_cauldron:textvqa", "--strict").stdout


@pytest.mark.parametrize("place", range(len(datasets())), ids=lambda at: datasets()[at].id)
def test_every_set_can_be_shown(place: int) -> None:
    found, lang = datasets()[place], ("ja", "en")[place % 2]
    result = call("show", found.id, "--lang", lang)
    assert result.exit_code == 0, result.output
    assert found.id in result.stdout


def test_a_set_names_its_sources_and_what_it_must_not_meet() -> None:
    shown = call("show", "ja-vg-vqa", "--lang", "ja").stdout
    assert "793,664 [" in shown
    assert "SakanaAI/JA-VG-VQA-500（評価データの漏れ）" in shown
    values = answer("show", "SakanaAI/JA-VG-VQA-500")
    assert values["images"]["how"] == "published"
    met = {met["one"] for met in values["must_not_meet"]}
    assert "github.com/yahoojapan/ja-vg-vqa" in met


def test_where_load_dataset_does_not_work_it_is_said() -> None:
    for name in ("llm-jp/Jagle", "turing-motors/MOMIJI", "llm-jp/WAON"):
        assert "load_dataset" in call("show", name).stdout, name
        assert answer("show", name)["access"]["way"] != "hub"


def test_an_unknown_set_gets_the_nearest_names() -> None:
    result = call("show", "turing-motors/Cauldron-JP")
    assert result.exit_code == 2
    assert "turing-motors/Cauldron-JA" in result.stderr


def test_a_mix_in_questions_says_what_each_set_gets() -> None:
    found = answer("mix", "the_cauldron:plotqa=1", "the_cauldron:docvqa=2", "--in", "questions")
    plotqa, docvqa = found["sets"]
    assert plotqa["shares"]["questions"]["value"] == pytest.approx(1 / 3)
    assert docvqa["passes"] == pytest.approx(342.75, abs=0.01)
    assert found["unknown"]["answer_tokens"] == [PLOTQA]
    assert plotqa["published"]["idefics2"]["how"] == "published"


@pytest.mark.parametrize("lang", ["ja", "en"])
def test_the_trap_of_plotqa_is_said(lang: str) -> None:
    shown = call("mix", "the_cauldron:*", "--in", "epochs", "--lang", lang).stdout
    assert "66.7 %" in shown
    assert "0.65 %" in shown
    (drowned, *_) = answer("mix", "the_cauldron:*", "--in", "epochs")["drowns"]
    assert (drowned["id"], drowned["unit"]) == (PLOTQA, "questions")


def test_a_published_mix_drowns_nothing_and_holds_its_text() -> None:
    found = answer("mix", "--as", "idefics2", "--size", "500M")
    shares = {one["id"]: one["shares"]["answer_tokens"]["value"] for one in found["sets"]}
    assert found["unit"] == "answer_tokens"
    assert shares["teknium/OpenHermes-2.5"] == pytest.approx(0.1273, abs=1e-4)
    assert shares[PLOTQA] == pytest.approx(0.0065, abs=1e-5)
    assert found["drowns"] == []


def test_a_mix_warns_of_the_benchmark_and_of_shared_pictures() -> None:
    args = ("mix", "ja-vg-vqa=2", "the_cauldron:vqav2", "STAIR-Captions", "--in", "questions")
    silent = answer(*args)["must_not_meet"]
    assert {met["relation"] for met in silent} == {"same pictures"}
    warned = answer(*args, "--for", "JA-VG-VQA-500")["must_not_meet"]
    assert "leak" in {met["relation"] for met in warned}
    assert "JA-VG-VQA-500" in call(*args, "--for", "JA-VG-VQA-500").stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "a mix of no sets"),
        (("the_cauldron:docvqa=much",), "'much' is not a number above 0"),
        (("the_cauldron:docvqa=-1",), "'-1' is not a number above 0"),
        (("the_cauldron:docvqa=nan",), "'nan' is not a number above 0"),
        (("the_cauldron:docvqa=1e999",), "is not a number above 0"),
        (("the_cauldron:docvqa", DOCVQA), "stands in the mix twice"),
        (("the_cauldron:docvqas",), "nearest are"),
        (("Docmatix:*",), "no configurations"),
        (("the_cauldron:docvqa", "--for", "nothing-such"), "no data set"),
        (("the_cauldron:docvqa", "--size", "big"), "'big' is no size"),
        (("the_cauldron:docvqa", "--in", "epochs", "--size", "1M"), "epochs"),
        (("the_cauldron:docvqa", "--as", "idefics2"), "leave one of the two out"),
        (("--as", "idefics2", "--in", "rows"), "leave --in out"),
        (("--as", "idefics3"), "nearest are idefics2"),
    ],
)
def test_what_is_no_mix_is_refused(args: tuple[str, ...], words: str) -> None:
    result = call("mix", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_the_list_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from manako.cli.root import ROOT\n"
        "for args in (['list'], ['mix', 'the_cauldron:docvqa']):\n"
        "    try: ROOT.main(['datasets', *args])\n"
        "    except SystemExit: pass\n"
        "heavy = ('torch', 'numpy', 'pyarrow', 'huggingface_hub', 'transformers', 'PIL')\n"
        "print('loaded', *[name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "loaded"
