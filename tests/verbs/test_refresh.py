"""A card beside what is really there: each value with its origin, and what could not be read."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from refresh_makers import (
    CARD_ID,
    COMMIT,
    ID,
    Servers,
    World,
    checkpoint,
    folder_of,
    publish,
    status,
)

from manako.catalogue.cards import find_card
from manako.core.errors import CheckpointError, HubUnreachableError, InputError, NotOnHubError
from manako.hub.client import Hub, open_hub
from manako.hub.headers import read_headers
from manako.hub.patience import Patience
from manako.verbs.refresh import Comparison, Row, parts_of, pixel_settings, refresh, target_of


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    close_session()
    servers = Servers()
    yield servers.world
    servers.stop()
    close_session()


@pytest.fixture
def hub(world: World, tmp_path: Path) -> Hub:
    patience = Patience(connect_seconds=1, read_seconds=1, attempts=2, first_wait_seconds=0)
    return open_hub(
        endpoint=world.endpoint, cache=tmp_path / "cache", token=False, patience=patience
    )


@pytest.fixture
def card_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card's own id is the repository of the test's Hub."""
    card = dataclasses.replace(find_card(CARD_ID), id=ID)
    monkeypatch.setattr("manako.verbs.refresh.find_card", lambda _: card)


def rows(found: Comparison) -> dict[str, Row]:
    return {row.field: row for row in found.rows}


def values(row: Row) -> list[Any]:
    return [found.value for found in row.found]


def test_a_folder_beside_its_card(tmp_path: Path) -> None:
    found = refresh("qwen2-vl-2b-instruct", folder=folder_of(tmp_path, checkpoint()))
    by_field = rows(found)
    assert (found.id, found.source, found.problems) == (CARD_ID, str(tmp_path), ())
    assert by_field["model_type"].state == "same"
    assert by_field["context"].state == "same"
    assert by_field["config.hidden_size"].state == "differs"
    assert (by_field["config.hidden_size"].card, by_field["config.hidden_size"].by) == (
        1536,
        "config-sizes",
    )
    assert by_field["config.vision_config.depth"].state == "same"
    assert by_field["config.num_attention_heads"].state == "not_found"
    assert by_field["weight_bytes"].state == "new"
    assert by_field["image_rule.max_pixels"].state == "differs"
    assert by_field["image_rule.factor"].state == "same"
    assert "gated" not in by_field  # a folder has no page


def test_parameters_by_part(tmp_path: Path) -> None:
    by_field = rows(refresh(CARD_ID, folder=folder_of(tmp_path, checkpoint())))
    found = {part: values(by_field[f"parameters.{part}"]) for part in ("total", "vision")}
    assert found == {"total": [16 * 8 + 2 * 64 + 16 + 4], "vision": [16]}
    assert values(by_field["parameters.projector"]) == [4]
    assert values(by_field["parameters.language"]) == [256]


def test_parts_agree_with_the_family_s_own_count(tiny_qwen: Path) -> None:
    headers = read_headers(tiny_qwen)
    parts = parts_of(headers, "qwen2_vl")
    assert sum(parts.values()) == headers.parameters
    assert parts["vision"] == sum(
        tensor.count
        for name, tensor in headers.tensors.items()
        if name.startswith("visual.") and not name.startswith("visual.merger")
    )
    assert parts_of(headers, "unheard_of") == {}


def test_config_and_weights_that_contradict_each_other_are_both_shown(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, checkpoint(vocab_size=99, num_hidden_layers=3))
    by_field = rows(refresh(CARD_ID, folder=folder))
    for name, both in (("vocab_size", [99, 16]), ("num_hidden_layers", [3, 2])):
        row = by_field[f"config.{name}"]
        assert (row.state, values(row)) == ("contradicts", both)
        assert [found.origin for found in row.found] == ["config.json", "weights model"]


def test_sizes_that_lie_a_level_deeper_are_found(tmp_path: Path) -> None:
    files = checkpoint()
    config = json.loads(files["config.json"])
    text = {key: config.pop(key) for key in ("hidden_size", "vocab_size")}
    files["config.json"] = json.dumps({**config, "text_config": text}).encode()
    row = rows(refresh(CARD_ID, folder=folder_of(tmp_path, files)))["config.hidden_size"]
    assert [found.origin for found in row.found] == [
        "config.json text_config.hidden_size",
        "weights model",
    ]


def test_weights_that_cannot_be_read_do_not_hide_the_rest(tmp_path: Path) -> None:
    files = checkpoint()
    files["model.safetensors"] = b"broken"
    found = refresh(CARD_ID, folder=folder_of(tmp_path, files))
    assert [type(problem) for problem in found.problems] == [CheckpointError]
    assert rows(found)["model_type"].state == "same"
    assert rows(found)["parameters.total"].state == "not_found"
    assert found.is_whole


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        refresh(CARD_ID, folder=tmp_path)
    with pytest.raises(InputError, match="--revision is about the Hub"):
        refresh(CARD_ID, folder=tmp_path, revision="main")


@pytest.mark.usefixtures("card_there")
def test_the_hub_beside_the_card(world: World, hub: Hub) -> None:
    page = {"license": "apache-2.0", "language": ["en"]}
    publish(world, checkpoint(), gated="manual", cardData=page)
    found = refresh(ID, hub=hub)
    by_field = rows(found)
    assert found.source == f"{ID} {COMMIT}"
    assert by_field["licences"].state == "same"
    assert (by_field["gated"].state, values(by_field["gated"])) == ("new", [True])
    assert values(by_field["parameters.total"]) == [276]
    assert by_field["config.hidden_size"].state == "differs"
    assert find_card(CARD_ID).gated is None  # nothing was written
    whole = len(world.commits[COMMIT]["model.safetensors"])
    assert values(by_field["weight_bytes"]) == [whole]
    assert not list(hub.cache.glob("*/blobs/" + "?" * 64))  # no weights were fetched


def test_a_licence_called_other_has_a_name(world: World, hub: Hub) -> None:
    publish(world, checkpoint(), cardData={"license": "other", "license_name": "Qwen-Research"})
    assert values(rows(refresh(ID, hub=hub))["licences"]) == [["qwen-research"]]


def test_an_id_without_a_card_shows_what_was_found(world: World, hub: Hub) -> None:
    publish(world, checkpoint())
    found = refresh(ID, hub=hub)
    assert found.card is None
    assert {row.state for row in found.rows} <= {"new", "not_found"}
    assert values(rows(found)["parameters.total"]) == [276]
    assert values(rows(found)["config.vocab_size"]) == [16, 16]


def test_a_gated_repository_still_says_what_its_page_says(world: World, hub: Hub) -> None:
    publish(world, checkpoint(), gated="auto", cardData={"license": "gemma"})
    world.when("/resolve/", status(403, {"x-error-code": "GatedRepo"}))
    found = refresh(ID, hub=hub)
    assert not found.is_whole
    assert "is gated" in found.problems[0].message
    assert values(rows(found)["licences"]) == [["gemma"]]
    assert rows(found)["model_type"].state == "not_found"


def test_no_network_says_what_was_tried(world: World, hub: Hub) -> None:
    world.when("/api/", status(503))
    with pytest.raises(HubUnreachableError) as caught:
        refresh(ID, hub=hub)
    assert world.endpoint in caught.value.message
    assert "2 attempts, the last: status 503" in caught.value.message
    assert "nothing of it is in the cache" in caught.value.next_step


def test_what_is_in_the_cache_is_compared_offline(world: World, hub: Hub) -> None:
    from manako.hub.files import fetch
    from manako.hub.repo import resolve

    publish(world, checkpoint())
    fetch(resolve(ID, hub=hub))
    world.when("/api/", status(503))
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE=1 uses the cached commit"):
        refresh(ID, hub=hub)
    found = refresh(ID, hub=dataclasses.replace(hub, is_offline=True))
    assert values(rows(found)["parameters.total"]) == [276]
    assert rows(found)["licences"].state == "not_found"


def test_names() -> None:
    card, model_id = target_of("Qwen2-VL-2B-Instruct")
    assert (card and card.id, model_id) == (CARD_ID, CARD_ID)
    assert target_of("nobody/nothing") == (None, "nobody/nothing")
    with pytest.raises(InputError, match="no model 'qwen2-vl-2b-instrukt' in the catalogue"):
        target_of("qwen2-vl-2b-instrukt")
    with pytest.raises(InputError, match="which is not on the Hub"):
        refresh(next(c.id for c in all_cards() if c.id.startswith("ollama:")))


def all_cards() -> Any:
    from manako.catalogue.cards import cards

    return cards()


def test_an_unknown_repository(hub: Hub) -> None:
    with pytest.raises(NotOnHubError, match="nobody/nothing: no such repository"):
        refresh("nobody/nothing", hub=hub)


def test_newer_processors_write_their_limits_as_edges() -> None:
    newer = {"size": {"shortest_edge": 65536, "longest_edge": 16777216}, "patch_size": 16}
    assert pixel_settings(newer) == {"min_pixels": 65536, "max_pixels": 16777216}
    assert pixel_settings({"size": {"height": 896}}) == {}


def test_json_carries_the_source_of_every_figure(tmp_path: Path) -> None:
    found = refresh(CARD_ID, folder=folder_of(tmp_path, checkpoint())).as_dict()
    row = next(row for row in found["rows"] if row["field"] == "config.hidden_size")
    assert row["card"]["value"] == 1536
    assert row["card"]["how"] in ("computed", "published")
    assert row["found"] == [
        {"value": 8, "origin": "config.json"},
        {"value": 8, "origin": "weights model"},
    ]
    assert json.dumps(found)
