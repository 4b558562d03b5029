"""`manako models refresh`, as a person sees it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "verbs"))

from refresh_makers import CARD_ID, Servers, World, checkpoint, folder_of, publish, status


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

    close_session()
    servers = Servers()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_ENDPOINT", servers.world.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield servers.world
    servers.stop()
    close_session()


def test_a_folder(call: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", checkpoint(vocab_size=99))
    result = call("models", "refresh", "qwen2-vl-2b-instruct", "--folder", folder)
    assert result.exit_code == 0, result.output
    assert "contradicts itself" in result.stdout
    assert "99 (config.json)" in result.stdout
    assert "16 (weights model)" in result.stdout
    assert "[1] computed:" in result.stdout
    japanese = call("models", "refresh", CARD_ID, "--folder", folder, "--lang", "ja")
    assert "実物どうしが食い違う" in japanese.stdout


def test_an_id_without_a_card(call: Any, world: World) -> None:
    result = call("models", "refresh", publish(world, checkpoint()))
    assert result.exit_code == 0, result.output
    assert "There is no card for owner/tiny-vlm" in result.stdout
    assert "276 (weights, 1 files)" in result.stdout


def test_a_gated_repository_ends_with_1_and_still_shows_its_page(call: Any, world: World) -> None:
    model_id = publish(world, checkpoint(), gated="auto")
    world.when("/resolve/", status(403, {"x-error-code": "GatedRepo"}))
    result = call("models", "refresh", model_id, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert f"{world.endpoint}/{model_id}" in found["problems"][0]["next_step"]
    assert {"field": "gated", "card": None, "state": "new"}.items() <= next(
        row for row in found["rows"] if row["field"] == "gated"
    ).items()


def test_no_network_keeps_the_card(call: Any, world: World) -> None:
    world.when("/api/", status(429, {"retry-after": "9000"}))
    result = call("models", "refresh", CARD_ID)
    assert result.exit_code == 1
    assert f"did not come from {world.endpoint}: 1 attempt" in result.stderr
    assert f"The card of {CARD_ID} is unchanged" in result.stderr


def test_offline_asks_nothing(call: Any, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = call("models", "refresh", CARD_ID)
    assert result.exit_code == 1
    assert "offline mode is on: nothing was asked" in result.stderr
    assert world.asked == []


def test_a_model_that_nobody_knows(call: Any) -> None:
    result = call("models", "refresh", "qwen2-vl-2b-instrukt")
    assert result.exit_code == 2
    assert "the nearest are Qwen/Qwen2-VL-2B-Instruct" in result.stderr
