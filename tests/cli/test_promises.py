"""What a user may rely on for years: the list of commands and options, help in both languages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import click
import pytest
from click.testing import CliRunner

import manako.cli
from manako.cli.command import Command
from manako.cli.root import ROOT
from manako.cli.texts import all_texts

PROMISED = {
    "manako": "--help --lang --version",
    "manako quickstart": "--help --json --lang --out --set",
    "manako init": "DIR --help --json --lang",
    "manako doctor": "NAMES --help --json --lang --matrix --method --model --strict",
    "manako models": "--help --lang",
    "manako models list": "TEXT --columns --commercial --help --input --json --lang --language "
    "--licence --max-parameters --max-size --runtime --sort --strict --survey --trainable",
    "manako models refresh": "MODEL --folder --help --json --lang --revision",
    "manako models show": "MODEL --help --json --lang --strict",
    "manako models compare": "MODELS --help --image --json --lang --strict",
    "manako models tokens": "MODELS --all --help --image --json --lang --set --strict",
    "manako models recommend": "--all --answers-in --commercial --context --cpu --gpu --help "
    "--here --image --json --lang --mac --method --strict --task --top",
    "manako cautions": "NAME --for --help --json --lang --state --strict",
    "manako datasets": "--help --lang",
    "manako datasets list": "TEXT --category --columns --commercial --help --json --kind --lang "
    "--language --licence --reads --sort --strict",
    "manako datasets show": "NAME --help --json --lang --strict",
    "manako datasets mix": "SETS --as --for --help --in --json --lang --size --strict",
    "manako data": "--help --lang",
    "manako data convert": "SRC --format --help --images --json --lang --out",
    "manako data census": "DIR --help --json --lang --model",
    "manako view": "WHAT --help --json --lang --model --out --row --samples",
    "manako plan": "RECIPE --help --json --lang --measure --no-measure --set",
    "manako train": "RECIPE --foreground --help --json --lang --set",
    "manako runs": "--help --lang",
    "manako runs list": "FOLDER --help --json --lang",
    "manako runs attach": "RUN --help --json --lang",
    "manako runs stop": "RUN --help --json --lang",
    "manako generate": "MODEL PARTS --adapter --help --json --lang --max-new-tokens "
    "--revision --seed --stop --system --temperature --top-p",
    "manako chat": "MODEL --adapter --help --json --lang --max-new-tokens --revision --seed --stop "
    "--system --temperature --top-p",
    "manako export": "RUN --help --json --lang --out --to",
    "manako verify": "MODEL --help --json --lang --law",
}
"""A new word here is a promise: change it on purpose, with the documents."""
TEXTS = all_texts()
SOURCES = Path(manako.cli.__file__).parent
SPEAKERS = {"show", "note", "working", "bar", "texts", "t", "make_table"}
"""Functions of the command line that take keys of the table of texts."""


def every_command() -> Iterator[tuple[str, click.Command]]:
    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            ctx = click.Context(command, info_name=path)
            for name in command.list_commands(ctx):
                found = command.get_command(ctx, name)
                assert found is not None
                yield from walk(f"{path} {name}", found)

    return walk("manako", ROOT)


def words_of(command: click.Command) -> str:
    ctx = click.Context(command, **command.context_settings)
    words = []
    for parameter in command.get_params(ctx):
        if isinstance(parameter, click.Option):
            names = [*parameter.opts, *parameter.secondary_opts]
            words += [name for name in names if name.startswith("--")]
        else:
            words.append(str(parameter.name).upper())
    arguments = [word for word in words if not word.startswith("--")]
    return " ".join([*arguments, *sorted(set(words) - set(arguments))])


def test_commands_and_options_are_the_promised_ones() -> None:
    assert {path: words_of(command) for path, command in every_command()} == PROMISED


@pytest.mark.parametrize("path", PROMISED)
@pytest.mark.parametrize("lang", ["ja", "en"])
def test_help_is_in_the_language_asked_for(path: str, lang: str) -> None:
    args = [*path.split()[1:], "--help", "--lang", lang]
    result = CliRunner().invoke(ROOT, args)
    assert result.exit_code == 0, result.output
    assert ("使い方" in result.stdout) == (lang == "ja")
    assert ("Usage" in result.stdout) == (lang == "en")


def test_every_command_shows_an_example_that_begins_with_itself() -> None:
    for path, command in every_command():
        if isinstance(command, Command):
            assert command.examples, path
            assert all(example.startswith(path) for example in command.examples), path


def keys_in_code() -> set[str]:
    """Keys that stand as literals in calls of the functions that look them up."""
    found = set()
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found |= set(_literals_of(node))
    return found


def _literals_of(call: ast.Call) -> Iterator[str]:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in SPEAKERS:
        for value in call.args:
            if (
                isinstance(value, ast.Constant)
                and isinstance(value.value, str)
                and "." in value.value
            ):
                yield value.value
    for keyword in call.keywords:
        if keyword.arg == "key" and isinstance(keyword.value, ast.Constant):
            yield str(keyword.value.value)


def test_no_text_is_missing() -> None:
    assert keys_in_code() - set(TEXTS) == set()


def test_every_text_is_there_twice_and_names_the_same_values() -> None:
    for key, pair in TEXTS.items():
        japanese, english = pair
        assert japanese.strip(), key
        assert english.strip(), key
        names = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in pair]
        assert names[0] == names[1], key


def test_states_parts_and_memory_terms_have_their_texts() -> None:
    from typing import get_args

    from manako.cli.commands.plan import TERMS
    from manako.core.family import PARTS
    from manako.verbs.runs import State

    wanted = {f"runs.state.{state}" for state in get_args(State)}
    wanted |= {f"part.{part}" for part in PARTS} | {f"plan.memory.{term}" for term in TERMS}
    assert wanted - set(TEXTS) == set()
