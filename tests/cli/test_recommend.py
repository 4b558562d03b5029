"""`manako models recommend` and `compare`: what people and programs are told."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from manako.catalogue.facts import RECALLED_MARK
from manako.cli.root import ROOT

READ = ("recommend", "--task", "read", "--answers-in", "ja", "--gpu", "24GB", "--method", "lora")


def call(*args: str) -> Result:
    return CliRunner().invoke(ROOT, ["models", *args], env={"COLUMNS": "200"})


def data(*args: str) -> Any:
    result = call(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_answer_says_why_and_why_not() -> None:
    result = call(*READ, "--lang", "en")
    assert result.exit_code == 0, result.output
    for words in (
        "Ranked by JDocQA",
        "judge gpt-4o-2024-11-20",
        "Memory",
        "weights",
        "activations (language)",
        "planned",
        "gemma-3-270m-it",
        "takes no pictures",
        "which Manako never executes",
        "next: manako models show",
        f"{RECALLED_MARK} recalled",
    ):
        assert words in result.stdout, words


def test_the_answer_speaks_japanese() -> None:
    result = call(*READ, "--lang", "ja")
    assert result.exit_code == 0
    for words in ("日本語で答える", "メモリー", "画像を受け取れない", "予定 (planned)"):
        assert words in result.stdout, words


def test_all_names_every_model_once() -> None:
    result = call(*READ, "--all", "--lang", "en")
    found = data(*READ)
    for one in found["excluded"]:
        assert f"    {one['id']}" in result.stdout
    assert len(found["excluded"]) + len(found["ranked"]) + len(found["without_score"]) > 80


def test_json_holds_terms_and_sources() -> None:
    found = data(*READ)
    for place in (*found["ranked"], *found["without_score"]):
        memory = place["memory"]
        assert memory["total_bytes"] == sum(term["bytes"] for term in memory["terms"])
        assert memory["total_bytes"] <= found["machine"]["usable_bytes"]
        assert place["manako"]["today"] == (not place["manako"]["planned"])
        assert place["licences"] is None or {"how", "source", "date"} <= set(place["licences"])
    assert all(column["judge"] and column["source"] for column in found["columns"])
    assert sum(found["excluded_counts"].values()) == len(found["excluded"])


def test_what_can_be_trained_today_is_named() -> None:
    result = call(*READ, "--lang", "en")
    assert "the first that this version of Manako does itself: Qwen/Qwen2.5-VL-7B-Instruct" in (
        result.stdout
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--task", "reed", "--gpu", "24GB"), "the nearest are read"),
        (("--task", "read", "--gpu", "24"), "give the unit too: --gpu 24GB"),
        (("--task", "read", "--gpu", "24GB", "--mac", "16GB"), "--gpu and --mac are two machines"),
        (("--task", "read", "--gpu", "24GB", "--image", "large"), "is no size"),
        (("--task", "read", "--gpu", "200MB"), "--gpu 200 MB with --method run removes the last"),
        (("--gpu", "24GB"), "--task"),
    ],
)
def test_wrong_wishes_are_explained(args: tuple[str, ...], words: str) -> None:
    result = call("recommend", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_without_a_machine_this_one_is_meant() -> None:
    assert data("recommend", "--task", "read")["machine"]["each_bytes"] > 10**9


def test_no_framework_is_loaded() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from manako.cli.root import ROOT; "
        f"CliRunner().invoke(ROOT, ['models', *{READ!r}]); "
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'transformers', 'huggingface_hub') "
        "if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_models_stand_side_by_side() -> None:
    result = call("compare", "qwen2-vl-2b-instruct", "gemma-3-4b-it", "--lang", "en")
    assert result.exit_code == 0, result.output
    for words in ("2,772", "256", "13 hold", "train with LoRA", "transformers"):
        assert words in result.stdout, words
    assert "no score that two of them share" in result.stdout


def test_scores_are_compared_within_one_table() -> None:
    found = data("compare", "sarashina2.2-vision-3b", "Qwen3-VL-4B-Instruct", "gemma-3-4b-it")
    tables = {row["column"].partition(".")[0] for row in found["scores"]}
    assert tables == {"sarashina-card"}
    for row in found["scores"]:
        assert row["scores"]["google/gemma-3-4b-it"] is None
        assert row["judge"] == "gpt-oss-120b"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (("gemma-3-4b-it",), "nothing to compare with"),
        (("gemma-3-4b-it", "google/gemma-3-4b-it"), "named twice"),
        (("gemma-3-4b-it", "gemma-3-5b-it"), "gemma-3-5b-it"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(models: tuple[str, ...], words: str) -> None:
    result = call("compare", *models)
    assert result.exit_code == 2
    assert words in result.stderr
