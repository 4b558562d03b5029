"""Lets the tests of this folder import `doc_blocks`, and the scripts, by their plain names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent.parent / "scripts"), str(HERE.parent / "hub")]


@pytest.fixture
def published(tiny_qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub on this machine that has the tiny checkpoint under the published name."""
    from hub_server import COMMIT, Servers

    servers = Servers()
    servers.world.id = "Qwen/Qwen2-VL-2B-Instruct"
    servers.world.commits[COMMIT] = {p.name: p.read_bytes() for p in tiny_qwen.iterdir()}
    monkeypatch.setenv("HF_ENDPOINT", servers.world.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    yield
    servers.stop()
