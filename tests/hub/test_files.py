"""Which files are taken, where they go, and what happens the second time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import (
    COMMIT,
    FILES,
    ID,
    OLD_COMMIT,
    TOKEN,
    World,
    cut,
    hash_of,
    redirect,
    sha256,
    status,
)

from manako.core.errors import (
    HubAccessError,
    HubUnreachableError,
    InputError,
    NotInThisVersion,
    NotOnHubError,
    RefusedFileError,
    WriteError,
    WrongBytesError,
)
from manako.hub import cache
from manako.hub import files as files_room
from manako.hub.client import Hub, open_hub
from manako.hub.files import fetch, select
from manako.hub.ranges import read_range
from manako.hub.repo import Repo, resolve

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SIZE = len(FILES[WEIGHTS])
MakeHub = Callable[..., Hub]


@pytest.fixture
def repo(hub: Hub) -> Repo:
    return resolve(ID, hub=hub)


def test_a_name_becomes_a_commit_and_every_file_has_its_hash(repo: Repo) -> None:
    assert (repo.commit, repo.gated, repo.page) == (COMMIT, "", ID)
    assert {p: (f.size_bytes, f.hash) for p, f in repo.files.items()} == {
        path: (len(data), hash_of(path, data)) for path, data in FILES.items()
    }


def test_what_is_fetched_is_in_the_place_where_other_tools_look(repo: Repo) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    folder = fetch(repo)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    found = try_to_load_from_cache(ID, CONFIG, cache_dir=repo.hub.cache, revision="main")
    assert isinstance(found, str)
    assert Path(found).read_bytes() == FILES[CONFIG]
    scanned = scan_cache_dir(repo.hub.cache)
    assert not scanned.warnings
    (only,) = scanned.repos
    assert only.repo_id == ID


def test_what_other_tools_fetched_is_not_fetched_again(repo: Repo, world: World) -> None:
    from huggingface_hub import hf_hub_download

    for name in (CONFIG, WEIGHTS):
        hf_hub_download(
            ID,
            name,
            revision=COMMIT,
            cache_dir=repo.hub.cache,
            endpoint=world.endpoint,
            token=False,
        )
    world.asked.clear()
    fetch(repo)
    assert world.asked == []


def test_the_second_call_asks_for_nothing_and_hashes_nothing(
    repo: Repo, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(repo)
    world.asked.clear()
    monkeypatch.setattr(cache, "checksum_of", lambda *_: pytest.fail("hashed again"))
    fetch(repo)
    assert world.asked == []


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_changed_in_the_cache_is_fetched_again(repo: Repo, name: str) -> None:
    place = fetch(repo) / name
    blob = place.resolve()
    blob.write_bytes(bytes(len(FILES[name])))
    os.utime(blob, ns=(1, 1))
    fetch(repo)
    assert place.read_bytes() == FILES[name]


def test_a_wrong_file_of_another_tool_is_noticed(repo: Repo) -> None:
    blob = cache.blob_of(repo, repo.file(CONFIG))
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * len(FILES[CONFIG]))
    assert (fetch(repo, [CONFIG]) / CONFIG).read_bytes() == FILES[CONFIG]


def test_a_link_out_of_the_cache_is_not_followed(repo: Repo, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_bytes(FILES[CONFIG])
    snapshot = cache.snapshot_of(repo)
    snapshot.mkdir(parents=True)
    (snapshot / CONFIG).symlink_to(outside)
    with pytest.raises(WrongBytesError, match="leads out of the cache"):
        fetch(repo, [CONFIG])
    (snapshot / "sub").symlink_to(tmp_path)
    with pytest.raises(WrongBytesError, match="leads out of its folder"):
        fetch(repo, ["sub/notes.txt"])
    assert not (tmp_path / "notes.txt").exists()


def test_half_a_download_goes_on_in_the_next_call(repo: Repo, world: World) -> None:
    world.when("storage:", cut(3_000), times=1)
    world.when("storage:", status(503), times=2)
    with pytest.raises(HubUnreachableError, match="3 attempts, the last: storage answers with"):
        fetch(repo, [WEIGHTS])
    partial = cache.partial_of(repo, repo.file(WEIGHTS))
    assert partial.read_bytes() == FILES[WEIGHTS][:3_000]
    seen: list[tuple[int, int]] = []
    folder = fetch(repo, [WEIGHTS], progress=lambda done, total: seen.append((done, total)))
    assert (folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert not partial.exists()
    assert world.asked[-1][2]["range"] == "bytes=3000-"
    assert seen[0][0] > 3_000
    assert seen[-1] == (SIZE, SIZE)


def test_attempts_that_bring_enough_do_not_count(make_hub: MakeHub, world: World) -> None:
    from dataclasses import replace

    hub = make_hub()
    hub = replace(hub, patience=replace(hub.patience, enough_bytes=500))
    world.when("storage:", cut(600), times=8)
    assert (fetch(resolve(ID, hub=hub), [WEIGHTS]) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert len(world.paths("/blob/")) == 9


def test_progress_counts_what_was_there_already(repo: Repo) -> None:
    fetch(repo, [WEIGHTS])
    seen: list[tuple[int, int]] = []
    fetch(repo, [WEIGHTS, CONFIG], progress=lambda done, total: seen.append((done, total)))
    whole = SIZE + len(FILES[CONFIG])
    assert seen == [(whole, whole)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["*.json"], [CONFIG]),
        (["*.txt"], None),
        (["sub/*.txt"], ["sub/notes.txt"]),
        (["**/*.txt"], ["sub/notes.txt"]),
        (["**/*"], ["config.json", "README.md", WEIGHTS, "sub/notes.txt"]),
        (["*"], ["config.json", "README.md", WEIGHTS]),
        ([CONFIG, "*.jinja"], [CONFIG]),
    ],
)
def test_patterns_stay_within_their_folder(
    repo: Repo, wanted: list[str], found: list[str] | None
) -> None:
    if found is None:
        with pytest.raises(NotOnHubError, match="no file like"):
            select(repo, wanted)
    else:
        assert select(repo, wanted) == found


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (["pytorch_model.bin"], "it is pickled"),
        (["*.bin"], "it is pickled"),
        (["py*"], "pytorch_model.bin is refused: it is pickled"),
        (["modeling_tiny.py"], "code from a checkpoint is never run"),
    ],
)
def test_kinds_that_are_never_taken_are_refused_with_the_reason(
    repo: Repo, world: World, wanted: list[str], reason: str
) -> None:
    world.asked.clear()
    with pytest.raises(RefusedFileError, match=reason):
        fetch(repo, wanted)
    assert world.asked == []


def test_a_name_that_is_not_there_brings_the_nearest(repo: Repo) -> None:
    with pytest.raises(NotOnHubError, match=r"the nearest are config\.json"):
        fetch(repo, ["confg.json"])


@pytest.mark.parametrize("path", ["../../evil.txt", "/etc/evil.txt", "sub/../../evil.txt"])
def test_a_path_out_of_its_folder_is_refused(hub: Hub, world: World, path: str) -> None:
    world.commits[COMMIT][path] = b"evil"
    repo = resolve(ID, hub=hub)
    for wanted in ([path], ["**/*.txt"]):
        with pytest.raises(RefusedFileError, match="no plain path below its folder"):
            fetch(repo, wanted)
    assert not any(file.name == "evil.txt" for file in hub.cache.parent.rglob("*"))


def test_a_disk_without_room_is_noticed_before_the_transfer(
    repo: Repo, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WriteError, match="5,458 bytes are to come, 100 are free"):
        fetch(repo, [WEIGHTS])
    assert world.paths("/blob/") == []


def test_a_file_too_large_for_http_names_the_tool_that_has_it(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_room, "MAX_HTTP_BYTES", 1_000)
    with pytest.raises(NotInThisVersion, match=r"hf download owner/tiny-vlm model\.safetensors"):
        fetch(repo, [WEIGHTS])


def test_offline_is_the_cache_alone(repo: Repo, make_hub: MakeHub, world: World) -> None:
    fetch(repo)
    world.asked.clear()
    offline = make_hub(is_offline=True)
    again = resolve(ID, hub=offline)
    assert (again.commit, again.gated) == (COMMIT, None)
    assert again.files == repo.files
    assert (fetch(again) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert read_range(again, WEIGHTS, 8, 20) == FILES[WEIGHTS][8:20]
    with pytest.raises(HubUnreachableError, match=r"1 of 2 files are not in the cache .*README"):
        fetch(again, ["*.md", CONFIG])
    with pytest.raises(HubUnreachableError, match="is not in the cache"):
        read_range(again, "README.md", 0, 2)
    with pytest.raises(HubUnreachableError, match="revision 'v1' is not in the cache"):
        resolve(ID, "v1", hub=offline)
    with pytest.raises(HubUnreachableError, match="owner/other"):
        resolve("owner/other", hub=offline)
    assert world.asked == []


def test_offline_a_damaged_file_is_an_error_and_stays(repo: Repo, make_hub: MakeHub) -> None:
    blob = (fetch(repo) / CONFIG).resolve()
    blob.write_bytes(b"damaged")
    again = resolve(ID, hub=make_hub(is_offline=True))
    with pytest.raises(WrongBytesError, match="length or hash differ"):
        fetch(again)
    assert blob.read_bytes() == b"damaged"


@pytest.mark.parametrize(
    "change",
    [
        lambda listed: listed["files"][CONFIG].update(blob_id="../../../outside"),
        lambda listed: listed["files"][CONFIG].update(size="1"),
        lambda listed: listed.update(format_version=9),
        lambda listed: listed.update(files=[]),
    ],
)
def test_a_list_in_the_cache_that_is_none_is_not_believed(
    repo: Repo, make_hub: MakeHub, change: Callable[[Any], Any]
) -> None:
    fetch(repo)
    (kept,) = repo.hub.cache.glob("*/trees/*.json")
    listed = json.loads(kept.read_text(encoding="utf-8"))
    change(listed)
    kept.write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(HubUnreachableError, match="its list of files is not in the cache"):
        resolve(ID, hub=make_hub(is_offline=True))
    assert resolve(ID, hub=repo.hub).files == repo.files


def test_a_reference_that_names_no_commit_is_not_believed(repo: Repo, make_hub: MakeHub) -> None:
    fetch(repo)
    (ref,) = repo.hub.cache.glob("*/refs/main")
    ref.write_text("..", encoding="utf-8")
    with pytest.raises(HubUnreachableError, match="revision 'main' is not in the cache"):
        resolve(ID, hub=make_hub(is_offline=True))


def test_two_names_that_are_one_on_this_disk_are_noticed(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `Config.json` and `config.json` are where capitals do not count."""
    monkeypatch.setattr(cache, "place_of", lambda repo, file: cache.snapshot_of(repo) / CONFIG)
    with pytest.raises(WrongBytesError, match="did not stay as it came"):
        fetch(repo, [CONFIG, "README.md"])


def test_a_branch_that_moved_is_another_commit_and_both_stay(hub: Hub, world: World) -> None:
    new = fetch(resolve(ID, hub=hub))
    world.refs["main"] = OLD_COMMIT
    old = fetch(resolve(ID, hub=hub))
    assert new != old
    assert (new / CONFIG).read_bytes() == FILES[CONFIG]
    assert (old / CONFIG).read_bytes() == world.commits[OLD_COMMIT][CONFIG]
    assert (old / WEIGHTS).resolve() == (new / WEIGHTS).resolve()


def test_the_token_stays_with_the_hub(make_hub: MakeHub, world: World) -> None:
    repo = resolve(ID, hub=make_hub(token=TOKEN))
    world.when("hub:/owner/tiny-vlm/resolve", redirect(lambda w: f"{w.storage}/back"), times=1)
    world.when("storage:/back", redirect(lambda w: f"{w.endpoint}/{ID}/resolve/{COMMIT}/{WEIGHTS}"))
    fetch(repo, [WEIGHTS])
    sent = [(name, "authorization" in headers) for name, _, headers in world.asked[-4:]]
    # Out and back again: what comes back from another host is not trusted with the token either.
    assert sent == [("hub", True), ("storage", False), ("hub", False), ("storage", False)]
    assert TOKEN not in repr(repo.hub)
    assert TOKEN not in repr(repo)


def test_a_token_in_the_server_s_words_is_not_shown(make_hub: MakeHub, world: World) -> None:
    world.when("/revision/", status(403, {"x-error-message": f"not for {TOKEN}"}))
    with pytest.raises(HubAccessError, match=r"not for \*\*\*") as caught:
        resolve(ID, hub=make_hub(token=TOKEN))
    assert TOKEN not in str(caught.value)


def test_no_token_goes_over_plain_http_to_another_machine() -> None:
    for endpoint, is_safe in {
        "https://huggingface.co": True,
        "http://127.0.0.1:8080": True,
        "http://mirror.example": False,
    }.items():
        assert Hub(endpoint=endpoint, cache=Path(), token=TOKEN).is_safe_for_tokens == is_safe


def test_it_is_not_sent_where_it_would_not_be_safe(
    make_hub: MakeHub, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manako.hub.client.LOOPBACK", ())
    resolve(ID, hub=make_hub(token=TOKEN))
    assert world.asked
    assert not any("authorization" in headers for _, _, headers in world.asked)


def test_a_gated_repository_says_where_and_how(make_hub: MakeHub, world: World) -> None:
    world.when("/resolve/", status(403, {"x-error-code": "GatedRepo"}))
    for token, words in ((TOKEN, "a token was sent"), (None, "no token was sent")):
        with pytest.raises(HubAccessError, match=words) as caught:
            fetch(resolve(ID, hub=make_hub(token=token)), [CONFIG])
        assert f"{world.endpoint}/{ID}" in caught.value.next_step
        assert "hf auth login" in caught.value.next_step


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "a b", "owner/..", "ollama:gemma", "a--b"])
def test_what_is_no_id_is_not_asked_for(hub: Hub, world: World, name: str) -> None:
    with pytest.raises(InputError, match="is no id on the Hub"):
        resolve(name, hub=hub)
    assert world.asked == []


@pytest.mark.parametrize("revision", ["..", "a/../b", "x y", "a\n", "?q", "/etc"])
def test_what_is_no_revision_is_not_asked_for(hub: Hub, world: World, revision: str) -> None:
    with pytest.raises(InputError, match="is no revision"):
        resolve(ID, revision, hub=hub)
    assert world.asked == []


def test_ranges_lie_within_the_file(repo: Repo) -> None:
    assert read_range(repo, WEIGHTS, SIZE - 4, SIZE) == FILES[WEIGHTS][-4:]
    for start, stop in ((0, SIZE + 1), (5, 5), (-1, 4)):
        with pytest.raises(InputError, match="has bytes 0 to"):
            read_range(repo, WEIGHTS, start, stop)


def test_the_environment_says_which_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub = open_hub()
    assert (hub.endpoint, hub.cache, hub.token) == ("https://mirror.example", tmp_path, TOKEN)
    assert open_hub(token=False).token is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = open_hub()
    assert (offline.is_offline, offline.token) == (True, None)


def test_a_dataset_has_addresses_of_its_own(hub: Hub, world: World) -> None:
    with pytest.raises(NotOnHubError, match="datasets/owner/tiny-vlm"):
        resolve(ID, kind="dataset", hub=hub)
    assert world.paths("/api/datasets/owner/tiny-vlm/revision/main")


def test_two_calls_at_once_end_with_one_right_file(repo: Repo, world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(_: Any) -> bytes:
        return (fetch(repo, [WEIGHTS]) / WEIGHTS).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert {sha256(data) for data in pool.map(one, range(4))} == {sha256(FILES[WEIGHTS])}
    assert len(world.paths("/blob/")) == 1
