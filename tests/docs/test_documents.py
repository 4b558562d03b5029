"""The documents say what is there: links, files, commands, options, tables made from the code."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from doc_blocks import (
    DOCUMENTS,
    READMES,
    ROOT,
    anchors_of,
    blocks_of,
    calls_of,
    commands_of,
    inline_code_of,
    links_of,
    read,
)

import doc_tables
import family_table
import readme_answer
from blocks import read_block
from manako.cli.root import ROOT as MANAKO
from manako.core.recipe import Evaluation, Source, Stage

FIGURE = re.compile(r"\d(?:[\d,.]*\d)?")
NAMED_FILE = re.compile(r"(src|tests|scripts|examples|docs)/[\w./-]+")
REASON = re.compile(
    r"reason=\"(\w+)\"|_image_error\(\s*row, f\"[^\n]*\", \"(\w+)\"\s*\)|\", \"(image_\w+)\"$",
    re.MULTILINE,
)
MAKE = re.compile(r"^\s*make((?: [\w=./:]+)*)")


def command_at(call: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a call names, and what follows it."""
    found: click.Command = MANAKO
    words = list(call)
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        ctx = click.Context(found)
        inner = found.get_command(ctx, words[0])
        assert inner is not None, f"manako {' '.join(call)}: there is no {words[0]}"
        found = inner
        words.pop(0)
    return found, words


def options_of(command: click.Command) -> set[str]:
    names = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    return {name for name in names if name.startswith("-")} | {"--help", "-h"}


def all_options(command: click.Command = MANAKO) -> set[str]:
    found = options_of(command)
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            found |= all_options(inner)
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for link in links_of(document):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), f"{document}: {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{document}: {link}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document: str) -> None:
    for code in inline_code_of(document):
        if NAMED_FILE.fullmatch(code) and "NAME" not in code:
            assert (ROOT / code).exists(), f"{document}: {code}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_exist(document: str) -> None:
    for call in calls_of(document):
        command, words = command_at(call)
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options_of(command), f"{document}: {call}"
    known = all_options()
    for code in inline_code_of(document):
        if code.startswith("--"):
            assert code.split()[0] in known, f"{document}: {code}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_and_variables_exist(document: str) -> None:
    makefile = read("Makefile")
    codes = inline_code_of(document)
    codes += [
        " ".join(c) for b in blocks_of(document) if b.language == "sh" for c in commands_of(b)
    ]
    for code in codes:
        match = MAKE.match(code)
        for word in match[1].split() if match else ():
            name, is_setting, _ = word.partition("=")
            pattern = rf"^{name} \?=" if is_setting else rf"^{name}:"
            assert re.search(pattern, makefile, re.MULTILINE), f"{document}: {code}"


def test_both_readmes_have_the_same_blocks() -> None:
    english, japanese = (
        [block[2:] for block in blocks_of(name) if block.language != "text"] for name in READMES
    )
    assert english == japanese


@pytest.mark.parametrize("name", READMES)
def test_the_answer_in_the_readme_is_what_the_command_says(name: str) -> None:
    """`python scripts/readme_answer.py` brings both up to date."""
    lang = readme_answer.READMES[name]
    assert read_block(read(name), readme_answer.BLOCK) == readme_answer.answer(lang)


def test_the_readmes_count_what_the_catalogue_holds() -> None:
    from manako.catalogue.cards import cards
    from manako.catalogue.datasets import datasets

    for name in READMES:
        counts = [int(count) for count in re.findall(r"(\d+) (?:models|のモデル)", read(name))]
        assert counts == [len(cards())]
        sets = re.findall(r"(\d+) (?:data\s+sets and benchmarks|のデータセット)", read(name))
        assert [int(count) for count in sets] == [len(datasets())]


def test_both_readmes_have_the_same_figures() -> None:
    english, japanese = (read_block(read(name), "figures:quickstart") for name in READMES)
    assert sorted(FIGURE.findall(english)) == sorted(FIGURE.findall(japanese))


def test_recipes_in_the_readme_are_the_files() -> None:
    shown = [block for block in blocks_of("README.md") if block.language == "yaml"]
    assert [block.name for block in shown] == ["examples/qwen2-vl-2b-lora-24gb.yaml"]
    for block in shown:
        assert block.text == read(block.name)


def test_generated_pages_are_current() -> None:
    """`python scripts/doc_tables.py` and `python scripts/family_table.py` bring them up to date."""
    assert read("docs/families.md") == family_table.page()
    training, laws = read("docs/training.md"), read("docs/laws.md")
    assert read_block(training, "generated:recipe") == doc_tables.recipe_table()
    assert read_block(laws, "generated:laws") == doc_tables.laws_text()


@pytest.mark.parametrize("kind", [Source, Stage, Evaluation])
def test_training_page_names_what_a_recipe_holds(kind: Any) -> None:
    page = read("docs/training.md")
    for field in dataclasses.fields(kind):
        assert f"`{field.name}`" in page


def first_column(document: str, heading: str) -> list[str]:
    """The code words of the first column of the table under a heading."""
    section = read(document).split(f"{heading}\n", maxsplit=1)[1].split("\n#", maxsplit=1)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def test_map_has_every_room_at_the_level_that_imports_are_checked_by() -> None:
    rooms = {p.name for p in (ROOT / "src" / "manako").iterdir() if (p / "__init__.py").is_file()}
    contract = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"][0]
    levels = [set(re.findall(r"\w+", layer)) for layer in reversed(contract["layers"])]
    table = re.findall(r"^\| `(\w+)` \| (\d) \|", read("docs/map.md"), re.MULTILINE)
    assert {room for room, _ in table} == rooms
    assert all(room in levels[int(level)] for room, level in table)


def test_map_has_every_exit_code() -> None:
    from manako.verbs.exits import Exit

    table = read("docs/map.md").split("| exit code |", maxsplit=1)[1]
    assert re.findall(r"^\| (\d) ", table, re.MULTILINE) == [str(int(code)) for code in Exit]


def test_data_page_has_every_column() -> None:
    from manako.core.row import arrow_schema

    assert first_column("docs/data.md", "## The stored row") == arrow_schema().names


def test_data_page_has_every_format() -> None:
    from manako.verbs.feed import format_names

    headings = re.findall(r"^### `(\w+)`$", read("docs/data.md"), re.MULTILINE)
    assert sorted(headings) == format_names()


def test_data_page_has_every_reason_of_conversion() -> None:
    package = ROOT / "src" / "manako"
    files = [*package.glob("formats/*.py"), package / "data" / "writer.py"]
    files += [package / "core" / name for name in ("row.py", "images.py")]
    found = {word for file in files for word in reasons_in(file)}
    assert set(first_column("docs/data.md", "## Why rows are dropped")) == found


def reasons_in(file: Path) -> set[str]:
    matches = REASON.findall(file.read_text(encoding="utf-8"))
    return {word for groups in matches for word in groups if word}


def test_no_document_is_about_this_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"/work/|/tmp/|/home/|/root/", read(document)), document
