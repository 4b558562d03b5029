"""Exit codes, and errors without tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_makers import Call

from manako.core.errors import BatchError, CheckpointError, InputError, ManakoError, WriteError


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `manako view` end with an error."""

    def view(*_: object, **__: object) -> Path:
        raise error

    monkeypatch.setattr("manako.verbs.feed.view", view)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("wrong"), 2),
        (CheckpointError("no checkpoint"), 2),
        (WriteError("disk full"), 1),
        (BatchError("key"), 1),
        (ManakoError("other"), 1),
        (KeyboardInterrupt(), 3),
        (RuntimeError("surprise"), 1),
    ],
)
def test_every_error_has_its_code(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    fail_with(monkeypatch, error)
    result = call("view", "x")
    assert result.exit_code == code
    assert "Traceback" not in result.output


def test_message_and_next_step_stand_on_stderr(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, InputError("the field is [wrong]", next_step="write it right"))
    result = call("view", "x")
    assert result.stdout == ""
    assert result.stderr == "error: the field is [wrong]\n  → write it right\n"


def test_json_errors_are_json_on_stdout(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, InputError("値が違う", next_step="直す"))
    found = json.loads(call("view", "x", "--json").stdout)["error"]
    assert found == {
        "kind": "InputError",
        "message": "値が違う",
        "next_step": "直す",
        "exit_code": 2,
    }


def test_an_unexpected_error_leaves_its_traceback_in_a_file(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fail_with(monkeypatch, RuntimeError("surprise"))
    result = call("view", "x")
    assert "RuntimeError: surprise" in result.stderr
    (kept,) = tmp_path.glob("manako-error-*.txt")
    assert str(kept) in result.stderr
    assert "Traceback" in kept.read_text(encoding="utf-8")


def test_debug_prints_the_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, RuntimeError("surprise"))
    monkeypatch.setenv("MANAKO_DEBUG", "1")
    assert "Traceback" in call("view", "x").stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["frobnicate"], "frobnicate"),
        (["data", "census"], "DIR"),
        (["train", "r.yaml", "--frobnicate"], "--frobnicate"),
        (["--lang", "fr", "data"], "'fr'"),
        (["train", "nothing.yaml"], "nothing.yaml"),
        (["view", "nothing"], "nothing"),
        (["data", "convert", "nothing", "--out", "o"], "nothing"),
        (["export", "nothing", "--to", "safetensors", "--out", "o"], "nothing"),
        (["runs", "attach", "nothing"], "nothing"),
    ],
)
def test_a_wrong_call_ends_with_2_and_names_what_is_wrong(
    call: Call, args: list[str], words: str
) -> None:
    result = call(*args)
    assert result.exit_code == 2, result.output
    assert words in result.stderr


def test_a_recipe_typo_names_the_nearest_field(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: m\ndata: [{path: d}]\noutput_dir: o\n", encoding="utf-8")
    result = call("train", recipe, "--set", "optm=muon")
    assert result.exit_code == 2
    assert "'optim'" in result.stderr


def test_called_without_a_command_it_explains_itself(call: Call) -> None:
    result = call()
    assert result.exit_code == 0
    assert "quickstart" in result.stdout


def test_arguments_that_are_no_utf8_are_refused() -> None:
    result = run([b"view", b"\xff\xfe"], LC_ALL="C.UTF-8", PYTHONUTF8="1")
    assert result.returncode == 2
    assert "UTF-8" in result.stderr.decode()


def test_output_is_utf8_whatever_the_locale() -> None:
    result = run([b"--lang", b"ja", b"--help"], PYTHONIOENCODING="latin-1")
    assert "使い方" in result.stdout.decode("utf-8")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m manako.cli --help | head -c 10"
    result = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert result.stderr == b""


def run(args: list[bytes], **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable.encode(), b"-m", b"manako.cli", *args]
    return subprocess.run(
        command, capture_output=True, timeout=60, check=False, env={**os.environ, **environment}
    )
