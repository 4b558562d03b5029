"""A Hub on loopback, and a client of it with little patience."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # tests import their makers by name

from hub_server import Servers, World

from manako.hub.client import Hub, open_hub
from manako.hub.patience import Patience

QUICK = Patience(
    connect_seconds=1.0,
    read_seconds=0.15,
    attempts=3,
    first_wait_seconds=0.001,
    asked_wait_seconds=60.0,
    slow_seconds=0.1,
    slow_bytes=2_000,
    enough_bytes=100_000,
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    close_session()
    servers = Servers()
    yield servers.world
    servers.stop()
    close_session()


@pytest.fixture
def waits() -> list[float]:
    """How long the client would have slept between attempts."""
    return []


@pytest.fixture
def make_hub(world: World, tmp_path: Path, waits: list[float]) -> Callable[..., Hub]:
    def make(**changes: Any) -> Hub:
        hub = open_hub(
            endpoint=world.endpoint, cache=tmp_path / "cache", token=False, patience=QUICK
        )
        return dataclasses.replace(hub, **{"sleep": waits.append, **changes})

    return make


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    return make_hub()
