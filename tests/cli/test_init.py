"""`manako init`: the printed steps work in the folder as they stand, and the guide cannot drift."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from cli_makers import Call

import manako
from manako.cli.root import ROOT
from manako.core.recipe import Recipe
from manako.core.record import read_record
from manako.verbs.exits import Exit
from manako.verbs.llms import EXITS, TEXTS


def made(call: Call, *args: str) -> dict[str, Any]:
    result = call("init", *args, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def run_steps(call: Call, steps: list[str], folder: Path, monkeypatch: Any) -> dict[str, str]:
    """What each step printed."""
    monkeypatch.chdir(folder)
    printed = {}
    for step in steps:
        program, *args = shlex.split(step)
        assert program == "manako"
        result = call(*args)
        assert result.exit_code == 0, f"{step}: {result.output}"
        printed[step] = result.stdout
    return printed


def test_the_printed_steps_work(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = made(call, "demo", "--lang", "ja")
    folder = tmp_path / "demo"
    recipe = folder / "recipe.yaml"
    words = recipe.read_text(encoding="utf-8")
    recipe.write_text(words.replace("max_steps: 300", "max_steps: 4"), encoding="utf-8")
    printed = run_steps(call, project["next"], folder, monkeypatch)
    assert "84 rows with 96 pictures" in next(iter(printed.values()))
    assert (folder / "runs/first/report.html").is_file()


@pytest.mark.slow
def test_the_whole_run_learns_in_less_than_a_minute(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = made(call, "demo", "--lang", "ja")
    run_steps(call, project["next"], tmp_path / "demo", monkeypatch)
    events = read_record(tmp_path / "demo/runs/first/record.jsonl").events
    losses = [event["loss"] for event in events if event.get("kind") == "eval"]
    assert losses[-1] < 0.5 < losses[0] / 2


def test_nothing_that_is_there_is_overwritten(call: Call, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for name, words in (("full", "is not empty"), ("file", "is a file"), (".", "is not empty")):
        result = call("init", name)
        assert result.exit_code == 2
        assert words in result.stderr
        assert "→" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_the_folder_one_stands_in_is_not_made_anew(call: Call, tmp_path: Path) -> None:
    result = call("init", ".")
    assert result.exit_code == 2
    assert f"call it from the folder above: manako init {tmp_path.name}" in result.stderr


def test_an_empty_folder_is_filled(call: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = made(call, "empty")
    assert found["files"] == sorted(path.name for path in (tmp_path / "empty").iterdir())
    assert {"recipe.yaml", "README.md", "llms.txt", "train.json"} <= set(found["files"])


def test_people_are_told_the_steps(call: Call) -> None:
    shown = call("init", "demo", "--lang", "ja").stdout
    assert "cd demo" in shown
    assert "manako train recipe.yaml" in shown
    assert "llms.txt" in shown


def test_both_recipes_are_the_same_recipe() -> None:
    ja, en = (Recipe.load(TEXTS / f"recipe.{lang}.yaml") for lang in ("ja", "en"))
    assert ja == en
    assert ja.model == "mini"


@pytest.mark.parametrize("lang", ["ja", "en"])
def test_recipe_fields_stand_under_a_comment(lang: str) -> None:
    text = (TEXTS / f"recipe.{lang}.yaml").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        assert "#" in block, block
    assert ("学習" in text) == (lang == "ja")


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> str:
    from click.testing import CliRunner

    folder = tmp_path_factory.mktemp("guide") / "demo"
    assert CliRunner().invoke(ROOT, ["init", str(folder), "--lang", "ja"]).exit_code == 0
    return (folder / "llms.txt").read_text(encoding="utf-8")


def test_the_guide_has_the_shape_of_llms_txt(guide: str) -> None:
    lines = guide.splitlines()
    assert lines[0] == "# Manako"
    assert lines[2].startswith("> ")
    assert "- [recipe.yaml](recipe.yaml): " in guide
    sections = re.findall(r"^## (.+)$", guide, re.MULTILINE)
    assert len(sections) == len(set(sections)) >= 8


def test_the_guide_names_every_field_function_and_command(guide: str) -> None:
    for field in dataclasses.fields(Recipe):
        assert re.search(rf"^- `{field.name}` \(.+\): ", guide, re.MULTILINE), field.name
    for name in manako.__all__:
        assert f"- `manako.{name}" in guide
    for path in every_path(ROOT, "manako"):
        assert f"- `{path} " in guide
    assert set(EXITS) == set(Exit)


def test_the_guide_hides_nothing_of_this_machine(guide: str) -> None:
    assert " at 0x" not in guide
    assert str(Path(manako.__file__).parent) not in guide


def test_what_is_absent_is_what_the_readme_says() -> None:
    """Both lists say what is refused; whoever changes one changes the other."""
    readme = Path(__file__).parent.parent.parent / "README.md"
    section = readme.read_text(encoding="utf-8").partition("## Not in this version")[2]
    absent = (TEXTS / "llms_absent.md").read_text(encoding="utf-8")
    for line in re.findall(r"^- (.+)$", absent, re.MULTILINE):
        words = line.rstrip(".").split("; ")
        assert all(word in section for word in words), line


def every_path(command: click.Command, path: str) -> list[str]:
    if not isinstance(command, click.Group):
        return [path]
    ctx = click.Context(command, info_name=path)
    return [
        found
        for name in command.list_commands(ctx)
        if (inner := command.get_command(ctx, name))
        for found in every_path(inner, f"{path} {name}")
    ]
