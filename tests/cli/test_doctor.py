"""`manako doctor`: one table, what mends what, the dated matrix, and whether a job fits."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

import manako.verbs.choose
import manako.verbs.doctor
from manako.catalogue.facts import RECALLED_MARK
from manako.cli.root import ROOT
from manako.cli.texts import all_texts
from manako.machine.finding import Finding, does_not, not_installed, works
from manako.machine.runner import GROUPS, probes
from manako.plan.machines import Budget, cpu_budget, gpu_budget

LIGHT = ("python", "cpu", "memory", "disk", "torchvision", "hub_token")


def call(*args: str, lang: str = "en") -> Result:
    return CliRunner().invoke(ROOT, ["doctor", *args, "--lang", lang], env={"COLUMNS": "140"})


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def all_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every probe finds something, and none is run."""
    found_by_hand(monkeypatch, {})


def found_by_hand(monkeypatch: pytest.MonkeyPatch, found: dict[str, Finding]) -> None:
    def examine(names: Sequence[str] | None = None, **_: Any) -> list[Finding]:
        import dataclasses

        wanted = [name for name in probes() if names is None or name in names]
        return [
            dataclasses.replace(found.get(name, works("よい", "fine")), probe=name)
            for name in wanted
        ]

    monkeypatch.setattr(manako.verbs.doctor, "examine", examine)


def test_light_probes_run_for_real_and_tell_the_machine() -> None:
    result = call(*LIGHT, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {one["probe"] for one in found["findings"]} == set(LIGHT)
    assert found["machine"]["cores"] >= 1
    assert 0 < found["machine"]["available_bytes"] <= found["machine"]["memory_bytes"]
    assert {disk["what"] for disk in found["machine"]["disks"]} == {"hub", "torch", "here"}
    assert found["broken"] == []
    assert all(one["why"]["ja"] and one["why"]["en"] for one in found["findings"])


@pytest.mark.usefixtures("all_well")
@pytest.mark.parametrize("lang", ["ja", "en"])
def test_all_groups_and_probes_stand_in_the_table(lang: str) -> None:
    result = call(lang=lang)
    assert result.exit_code == 0
    for group in GROUPS:
        assert all_texts()[f"doctor.group.{group}"][lang == "en"] in result.stdout
    for probe in probes().values():
        assert probe.title.in_(lang) in result.stdout
    assert ("動く" in result.stdout) == (lang == "ja")


@pytest.mark.usefixtures("all_well")
def test_columns_stand_under_each_other_in_japanese() -> None:
    lines = [line for line in call(lang="ja").stdout.splitlines() if line.rstrip().endswith("よい")]
    starts = {width_of(line.rstrip()) for line in lines}
    assert len(lines) == len(probes())
    assert len(starts) == 1


def width_of(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_what_is_absent_is_no_error_and_says_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = not_installed("ない", "none", mends="pip install bitsandbytes")
    found_by_hand(monkeypatch, {"bitsandbytes": absent, "compile": does_not("×", "no compiler")})
    result = call()
    assert result.exit_code == 0
    assert "→ pip install bitsandbytes" in result.stdout
    assert "Manako has what it needs here" in said(result)


@pytest.mark.parametrize("name", ["python", "requirements", "memory", "disk", "torchvision"])
def test_what_manako_needs_and_does_not_work_ends_with_one(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found_by_hand(monkeypatch, {name: does_not("だめ", "broken", mends="mend it")})
    result = call()
    assert result.exit_code == 1
    assert f"do not work: {probes()[name].title.en}" in said(result)
    assert json.loads(call("--json").stdout)["broken"] == [name]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("bf17",), "the nearest are bf16"),
        (("--matrix", "--model", "x"), "--matrix and --model are two questions"),
        (("cpu", "--matrix"), "PROBE and --matrix are two questions"),
        (("--method", "lora"), "add --model ID"),
        (("--strict",), "what is tried here is none"),
        (("--model", "Qwen2-VL-3B"), "the nearest are"),
    ],
)
def test_what_cannot_be_asked_is_said(args: tuple[str, ...], words: str) -> None:
    result = call(*args)
    assert result.exit_code == 2
    assert words in said(result)
    assert "Traceback" not in result.output


@pytest.mark.parametrize("lang", ["ja", "en"])
def test_the_matrix_is_dated_and_sourced(lang: str) -> None:
    result = call("--matrix", lang=lang)
    assert result.exit_code == 0, result.output
    for words in ("CUDA", "ROCm", "XPU", "MPS", "CPU", "FlexAttention", "(2026-11-22)", "[1]"):
        assert words in result.stdout
    assert RECALLED_MARK in result.stdout
    assert RECALLED_MARK not in call("--matrix", "--strict", lang=lang).stdout


def test_the_matrix_as_json_names_the_source_of_every_cell() -> None:
    for row in json.loads(call("--matrix", "--json").stdout):
        for name in ("cuda", "rocm", "xpu", "mps", "cpu"):
            assert row[name]["state"] in ("yes", "partly", "no", "untested")
            assert row[name]["how"]
            assert row[name]["date"]
    strict = json.loads(call("--matrix", "--json", "--strict").stdout)
    cells = [row[name] for row in strict for name in ("cuda", "mps", "cpu") if row[name]]
    assert all(cell["how"] != "recalled" for cell in cells)


def weigh(monkeypatch: pytest.MonkeyPatch, budget: Budget, *args: str, lang: str = "en") -> Result:
    monkeypatch.setattr(manako.verbs.choose, "this_machine", lambda: budget)
    result = call(*args, lang=lang)
    assert result.exit_code == 0, result.output
    return result


def test_what_fits_is_said_with_its_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("--model", "Qwen2-VL-2B-Instruct", "--method", "lora")
    result = weigh(monkeypatch, gpu_budget("24GB"), *args)
    assert "fits" in said(result)
    assert "weights" in result.stdout
    assert "What would make it fit" not in result.stdout


def test_what_does_not_fit_comes_with_ways_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("--model", "Qwen2-VL-7B-Instruct", "--method", "full")
    result = weigh(monkeypatch, gpu_budget("24GB"), *args)
    for words in (
        "does not fit",
        "train with QLoRA",
        "planned",
        "On another machine",
        "for example",
    ):
        assert words in said(result)
    found = json.loads(weigh(monkeypatch, gpu_budget("24GB"), *args, "--json").stdout)
    assert not found["fits"]
    assert set(found["machines"]) == {"full", "lora", "qlora", "run"}
    sizes = [found["machines"][m]["each_bytes"] for m in ("lora", "qlora", "run")]
    assert sizes == sorted(sizes, reverse=True)
    assert {"pack", "method", "model"} == {way["changes"] for way in found["ways"]}
    running = next(way for way in found["ways"] if way["method"] == "run")
    assert running["fits"]


def test_a_smaller_model_of_the_series_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("--model", "google/gemma-3-27b-it", "--method", "run")
    result = weigh(monkeypatch, cpu_budget("8GB"), *args, lang="ja")
    assert "収まらない" in result.stdout
    assert "gemma-3-4b-it" in result.stdout


def test_states_groups_and_cells_have_their_words() -> None:
    from typing import get_args

    from manako.catalogue.matrix import BACKENDS, CellState
    from manako.machine.finding import Group, State

    wanted = {f"doctor.state.{state}" for state in get_args(State)}
    wanted |= {f"doctor.group.{group}" for group in get_args(Group)}
    wanted |= {f"doctor.cell.{state}" for state in get_args(CellState)}
    wanted |= {f"doctor.backend.{name}" for name in BACKENDS}
    wanted |= {f"doctor.machine.{device}" for device in ("gpu", "mac", "cpu")}
    assert wanted - set(all_texts()) == set()
