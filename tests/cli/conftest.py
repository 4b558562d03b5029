"""Calling the command line as a person does, without a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parent))  # tests import their makers by name

from cli_makers import Call, png, row


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`call("data", "census", …)` runs a command in an empty folder, in English."""
    from manako.cli.root import ROOT

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANAKO_LANG", "en")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("MANAKO_DEBUG", raising=False)

    def call(*args: Any, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(ROOT, [str(arg) for arg in args], input=input)

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source of six rows in `llava_json`, one of which names a picture that does not exist."""
    folder = tmp_path / "source"
    folder.mkdir()
    rows = [row(number) for number in range(6)]
    for number in range(5):
        (folder / f"{number}.png").write_bytes(png(56, 28 * (1 + number % 2)))
    (folder / "data.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder
