"""The store: exact, found whole or refused, read in any order within its memory."""

from __future__ import annotations

import copy
import errno
import io
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import InputError, MissingFileError, RowError, WriteError
from manako.core.files import read_json, write_json
from manako.core.row import row_of
from manako.data import writer as writer_module
from manako.data.columns import Columns
from manako.data.store import Store
from manako.data.writer import DroppedRow, WriterSettings, write_store

SMALL_GROUPS = WriterSettings(row_group_bytes=6_000, max_row_group_bytes=8_000, shard_bytes=12_000)


def noise_png(width: int, height: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def conversation(number: int) -> Conversation:
    pictures = tuple(
        Image(noise_png(20 + number % 7, 10, number * 3 + k), path=f"{k}.png")
        for k in range(number % 3)
    )
    return Conversation(
        (
            Message("user", (*pictures, Text(f"質問 {number}"))),
            Message("assistant", (Text(f"答え {number}"),), None if number % 4 else False),
        ),
        id=f"row {number}",
        source="偶数" if number % 2 == 0 else "odd",
        meta={"number": number} if number % 5 == 0 else {},
    )


CONVERSATIONS = [conversation(number) for number in range(120)]


def write(out: Path, conversations: list[Conversation], **options: Any) -> Path:
    with write_store(out, **options) as writer:
        for item in conversations:
            writer.add(row_of(item, license="CC0" if item.source == "odd" else ""))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("store") / "set", CONVERSATIONS, settings=SMALL_GROUPS)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "set"
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def test_rows_come_back_exactly_in_order_and_in_any_order(folder: Path) -> None:
    store = Store.open(folder)
    assert (len(store), store.rows) == (120, 120)
    assert list(store) == CONVERSATIONS
    assert [dict(c.meta) for c in store] == [dict(c.meta) for c in CONVERSATIONS]
    order = list(range(120))
    random.Random(0).shuffle(order)
    assert [store.conversation(i) for i in order] == [CONVERSATIONS[i] for i in order]


def test_groups_cover_all_rows_without_gaps(folder: Path) -> None:
    store = Store.open(folder)
    assert len(store.groups) > 5
    assert len(store.manifest.files) > 2
    starts = [group.first_row for group in store.groups]
    assert starts == [sum(g.rows for g in store.groups[:n]) for n in range(len(store.groups))]
    assert sum(group.rows for group in store.groups) == 120
    assert all(group.bytes > 0 for group in store.groups)


def test_an_outline_knows_sizes_and_words_without_reading_pictures(folder: Path) -> None:
    store = Store.open(folder)
    for number in (0, 7, 65, 119):
        outline, whole = store.outline(number), CONVERSATIONS[number]
        assert [image.size for image in outline.images] == [image.size for image in whole.images]
        assert [m.text for m in outline.messages] == [m.text for m in whole.messages]
        assert [m.train for m in outline.messages] == [m.train for m in whole.messages]
        assert all(image.data == b"" for image in outline.images)
        assert (outline.id, outline.source) == (whole.id, whole.source)


def test_single_columns_of_a_row(folder: Path) -> None:
    row = Store.open(folder).row(5, ("id", "license"))
    assert row == {"id": "row 5", "license": "CC0"}


def test_memory_is_bounded_and_a_tiny_cache_still_reads_right(folder: Path) -> None:
    store = Store.open(folder, cache_bytes=10_000)
    for number in [*range(0, 120, 7), *range(119, 0, -11)]:
        assert store.conversation(number) == CONVERSATIONS[number]
        held = sum(group.nbytes for group in store._cached.values())
        assert held <= 10_000 or len(store._cached) == 1


def test_a_store_goes_to_workers_as_a_few_bytes_and_opens_again_there(folder: Path) -> None:
    store = Store.open(folder, cache_bytes=12_345)
    store.conversation(0)
    sent = pickle.dumps(store)
    again = pickle.loads(sent)  # noqa: S301 (our own bytes)
    assert len(sent) < 1000
    assert again.conversation(77) == CONVERSATIONS[77]
    assert again.manifest_sha256 == store.manifest_sha256
    assert copy.copy(store).rows == 120


def test_a_row_that_does_not_exist_is_refused_with_the_range(folder: Path) -> None:
    store = Store.open(folder)
    for number in (-1, 120):
        with pytest.raises(InputError, match=f"no row {number}") as caught:
            store.conversation(number)
        assert "0 to 119" in caught.value.next_step


def test_files_are_laid_out_as_planned(folder: Path) -> None:
    metadata = pq.read_metadata(folder / "train-00000.parquet")
    columns = [metadata.row_group(0).column(n) for n in range(metadata.num_columns)]
    by_path = {column.path_in_schema: column for column in columns}
    pictures = by_path.pop("images.list.element.bytes")
    assert pictures.compression == "UNCOMPRESSED"
    assert not {"PLAIN_DICTIONARY", "RLE_DICTIONARY"} & set(pictures.encodings)
    assert {column.compression for column in by_path.values()} == {"ZSTD"}
    assert all(column.has_offset_index for column in columns)
    assert b"huggingface" in metadata.metadata
    assert pq.read_schema(folder / "train-00000.parquet").names[0] == "id"


def test_row_groups_keep_within_their_limits_also_for_large_rows(tmp_path: Path) -> None:
    large = Conversation(
        (Message("user", (Image(noise_png(120, 100, 1)),)), Message("assistant", (Text("x"),)))
    )
    items = [c for number in range(4) for c in (*CONVERSATIONS[number * 9 :][:9], large)]
    store = Store.open(write(tmp_path / "set", items, settings=SMALL_GROUPS))
    assert list(store) != items  # ids repeat, and are made unique
    assert [c.messages for c in store] == [c.messages for c in items]
    alone = [group for group in store.groups if group.bytes > 12_000]
    assert [group.rows for group in alone] == [1] * 4
    assert all(group.bytes < 9_000 for group in store.groups if group.rows > 1)


def test_repeating_ids_get_stable_suffixes_and_keep_the_original(tmp_path: Path) -> None:
    wanted = ["a", "a", "a#2", "", "a", "", "row:3"]
    items = [Conversation((Message("user", (Text(str(n)),)),), id=i) for n, i in enumerate(wanted)]
    store = Store.open(write(tmp_path / "set", items))
    found = list(store)
    assert [c.id for c in found] == ["a", "a#2", "a#2#2", "row:3", "a#3", "row:5", "row:3#2"]
    assert [c.meta.get("id") for c in found] == [None, "a", "a#2", "", "a", "", "row:3"]
    assert list(Store.open(write(tmp_path / "again", items))) == found


def test_an_original_id_survives_a_second_writing(tmp_path: Path) -> None:
    items = [Conversation((Message("user", (Text(n),)),), id="a") for n in "xy"]
    once = list(Store.open(write(tmp_path / "one", items)))
    twice = list(Store.open(write(tmp_path / "two", [once[1], once[1]])))
    assert [c.id for c in twice] == ["a#2", "a#2#2"]
    assert [c.meta["id"] for c in twice] == ["a", "a"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    again = write(tmp_path / "other name", CONVERSATIONS, settings=SMALL_GROUPS)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((folder / n).read_bytes() == (again / n).read_bytes() for n in names)
    assert Store.open(again).manifest_sha256 == Store.open(folder).manifest_sha256


def test_the_manifest_says_what_is_there(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    assert manifest["schema_version"] == 1
    assert manifest["rows"] == sum(file["rows"] for file in manifest["files"]) == 120
    assert manifest["sources"] == {"偶数": 60, "odd": 60}
    assert manifest["licences"] == {"": 60, "CC0": 60}
    assert set(manifest["files"][0]) == {"path", "sha256", "rows", "bytes"}
    Store.open(folder).verify()


def test_dropped_rows_are_on_record_even_with_odd_characters(tmp_path: Path) -> None:
    row = DroppedRow(
        file="a.json", index=3, id="\ud83d", sha256="0" * 64, reason="r", detail="\ud83d", row="{}"
    )
    with write_store(tmp_path / "set") as writer:
        writer.add(row_of(CONVERSATIONS[0]))
        for _ in range(4001):
            writer.drop(row)
    table = pq.read_table(tmp_path / "set" / "dropped.parquet")
    assert table.num_rows == 4001
    assert table.to_pylist()[4000]["id"] == "\\ud83d"
    assert Store.open(tmp_path / "set").manifest.by_reason == {"r": 4001}


def test_a_row_beyond_what_arrow_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_ROW_BYTES", 100)
    with write_store(tmp_path / "set") as writer:
        with pytest.raises(RowError, match="above 100") as caught:
            writer.add(row_of(CONVERSATIONS[2]))
        assert caught.value.reason == "row_too_large"
    assert Store.open(tmp_path / "set").rows == 0


def test_a_set_without_rows_opens_and_is_empty(tmp_path: Path) -> None:
    store = Store.open(write(tmp_path / "set", []))
    assert (store.rows, store.groups, list(store)) == (0, (), [])
    assert sum(batch.num_rows for batch in store.batches()) == 0


@pytest.mark.parametrize("target", ["fsync", "parquet", "manifest", "rename"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where = {
        "fsync": "os.fsync",
        "parquet": "pyarrow.parquet.ParquetWriter.write_table",
        "manifest": "pathlib.Path.write_text",
        "rename": "pathlib.Path.rename",
    }
    monkeypatch.setattr(where[target], full)
    with pytest.raises(WriteError, match="No space left"):
        write(tmp_path / "set", CONVERSATIONS[:5])
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert Store.open(write(tmp_path / "set", CONVERSATIONS[:5])).rows == 5


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "set.partial-12345678").mkdir()
    (tmp_path / "set.partial-12345678" / "train-00000.parquet").write_bytes(b"half")
    (tmp_path / "other.partial-12345678").mkdir()
    write(tmp_path / "set", CONVERSATIONS[:2])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.partial-12345678", "set"]


def test_existing_files_are_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    write(out, CONVERSATIONS[:2])  # an empty folder is fine
    with pytest.raises(InputError, match="holds files"):
        write(out, CONVERSATIONS[:2])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "file", CONVERSATIONS[:2])
    assert Store.open(out).rows == 2


def test_folders_that_are_no_whole_set_are_refused_by_name(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such data set folder"):
        Store.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no manifest\.json") as caught:
        Store.open(tmp_path / "empty")
    assert "manako data convert" in caught.value.next_step


def changed(folder: Path, **changes: Any) -> Path:
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**manifest, **changes})
    return folder


def test_wrong_manifests_are_refused_by_what_is_wrong(copied: Path) -> None:
    original = (copied / "manifest.json").read_bytes()
    files = json.loads(original)["files"]
    for changes, says in [
        ({"schema_version": 2}, "schema_version is 2, this version reads 1"),
        ({"schema_version": None}, "schema_version is None"),
        ({"rows": 119}, "rows is 119, its files hold 120"),
        ({"files": [{**files[0], "rows": 3}, *files[1:]]}, "the manifest says 3"),
        ({"files": [{"path": "x"}]}, r"files\[0\]: missing sha256, rows, bytes"),
        ({"files": [{**files[0], "bytes": "many"}]}, r"files\[0\].bytes is 'many'"),
        ({"unheard_of": 1}, "unknown field 'unheard_of'"),
        ({"files": [{**files[0], "path": "../../etc/passwd"}]}, "no file of this folder"),
    ]:
        with pytest.raises(InputError, match=says):
            Store.open(changed(copied, **changes))
        (copied / "manifest.json").write_bytes(original)
    for text, says in [("[]", "schema_version is None"), ("{", "not readable JSON")]:
        (copied / "manifest.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=says):
            Store.open(copied)


def test_missing_cut_and_altered_files_are_found(copied: Path) -> None:
    shard = copied / "train-00001.parquet"
    whole = shard.read_bytes()
    shard.unlink()
    with pytest.raises(MissingFileError, match=r"lacks train-00001\.parquet"):
        Store.open(copied)
    shard.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="the manifest says"):
        Store.open(copied)
    shard.write_bytes(b"\0" * len(whole))
    with pytest.raises(InputError, match="no readable Parquet"):
        Store.open(copied)
    altered = bytearray(whole)
    altered[len(whole) // 3] ^= 1
    shard.write_bytes(altered)
    with pytest.raises(InputError, match=r"train-00001\.parquet is not the file"):
        Store.open(copied).verify()


UTF8 = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
PICTURE = Image(noise_png(3, 2, 0), path="a")


@st.composite
def any_conversation(draw: st.DrawFn) -> Conversation:
    messages = []
    for _ in range(draw(st.integers(0, 4))):
        role: Any = draw(st.sampled_from(["system", "user", "assistant", "tool"]))
        train = draw(st.sampled_from([None, False, True] if role == "assistant" else [None, False]))
        parts = draw(st.lists(st.just(PICTURE) | UTF8.map(Text), max_size=3))
        messages.append(Message(role, tuple(parts), train))
    return Conversation(tuple(messages), id=draw(UTF8), source=draw(UTF8))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(any_conversation(), min_size=1, max_size=6))
def test_columns_are_the_rows_whatever_they_hold(conversations: list[Conversation]) -> None:
    rows = [row_of(item) for item in conversations]
    columns = Columns()
    for row in rows:
        columns.append(row, 1)
    assert columns.table().to_pylist() == rows
