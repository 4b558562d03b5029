"""Nothing wrong is ever taken for right: each fault of the table, tried."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import FAULTS, SMALL, WEIGHTS, Fault, table
from hub_server import COMMIT, FILES, ID, OLD_COMMIT, TOKEN, World, hash_of, sha256

from manako.core.errors import ManakoError
from manako.hub import cache
from manako.hub.client import Hub
from manako.hub.files import fetch
from manako.hub.headers import read_headers
from manako.hub.repo import resolve

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault: Fault, make_hub: Any, world: World, waits: list[float]) -> None:
    fault.begin(world)
    hub = make_hub(endpoint=world.endpoint, token=TOKEN)
    if fault.error is None:
        work(fault, hub, world)
    else:
        with pytest.raises(ManakoError, match=fault.says if "\\" in fault.says else None) as caught:
            work(fault, hub, world)
        assert type(caught.value) is fault.error, caught.value
        assert "\\" in fault.says or fault.says in str(caught.value)
        assert caught.value.next_step
        assert TOKEN not in str(caught.value)
    if fault.requests is not None:
        assert len(world.paths(fault.place)) == fault.requests
    check_waits(fault, waits)
    check_cache(hub, world)
    check_token(world)


def work(fault: Fault, hub: Hub, world: World) -> None:
    """What the fault gets in the way of; where it must succeed, what came is right."""
    name = "owner/old" if "new name" in fault.what else ID
    revision = COMMIT if fault.what.startswith("facts of another") else None
    repo = resolve(name, revision, hub=hub)
    assert (repo.id, repo.commit) == (ID, COMMIT)
    assert {path: file.hash for path, file in repo.files.items()} or fault.error
    if fault.work == "resolve":
        return
    if fault.work == "headers":
        found = read_headers(repo)
        assert (found.parameters, found.weight_bytes) == (2304, len(FILES[WEIGHTS]))
        return
    if half := getattr(world, "partial", None):
        partial = cache.partial_of(repo, repo.file(WEIGHTS))
        partial.parent.mkdir(parents=True)
        partial.write_bytes(half)
    folder = fetch(repo, [fault.work])
    assert (folder / fault.work).read_bytes() == FILES[fault.work]


def check_waits(fault: Fault, waits: list[float]) -> None:
    if "Retry-After: 2" in fault.what:
        assert waits == [2.0]
    elif "t=7" in fault.what:
        assert waits == [7.0]
    else:
        assert len(waits) <= 2
        assert all(wait < 0.1 for wait in waits)


def check_cache(hub: Hub, world: World) -> None:
    """Every blob is what its name says, and every file of a snapshot is the commit's own."""
    for blob in hub.cache.glob("*/blobs/*"):
        if not blob.name.endswith(".incomplete"):
            path = "x.safetensors" if len(blob.name) == 64 else "x.json"
            assert hash_of(path, blob.read_bytes()) == blob.name
    for file in files_in(hub.cache):
        assert file.read_bytes() == world.commits[COMMIT][file.name]


def files_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"*/snapshots/{COMMIT}/**/*") if path.is_file())


def check_token(world: World) -> None:
    """It goes to the Hub, never to storage."""
    for server, _, headers in world.asked:
        assert ("authorization" in headers) == (server == "hub")


def test_the_document_has_this_table() -> None:
    """`python tests/hub/faults.py` brings it up to date."""
    sys.path.append(str(ROOT / "scripts"))
    from blocks import read_block

    text = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
    assert read_block(text, "generated:faults") == table()
    assert len({fault.what for fault in FAULTS}) == len(FAULTS)


def test_the_servers_are_right_when_nothing_is_wrong(hub: Hub, world: World) -> None:
    """Or the table above would prove nothing."""
    repo = resolve(ID, "v1", hub=hub)
    assert repo.commit == OLD_COMMIT
    folder = fetch(repo, ["**/*", SMALL])
    assert (folder / SMALL).read_bytes() == world.commits[OLD_COMMIT][SMALL]
    assert repo.file(WEIGHTS).hash == sha256(FILES[WEIGHTS])
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "notes.txt",
    ]
