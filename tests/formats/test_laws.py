"""The laws of every format: whatever lies in `manako.formats` is run through them.

A format brings two fixture rows and the turns they must become; see `formats/_shared.py`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from manako.core.conversation import Conversation, Image
from manako.core.discovery import discover
from manako.core.errors import MissingFileError
from manako.data.convert import convert, format_names
from manako.data.store import Store
from manako.formats._shared import Format

FOUND = discover("manako.formats", "FORMAT")
FORMATS = sorted(FOUND.items.values(), key=lambda item: item.name)
every_format = pytest.mark.parametrize("item", FORMATS, ids=lambda item: item.name)


def write_source(item: Format, folder: Path, rows: Any = None, *, files: bool = True) -> Path:
    """The fixture (or other rows) as a source in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in item.fixture.files.items() if files else ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    item.write(folder / f"source{item.suffixes[0]}", rows or item.fixture.rows)
    return folder


def turns(conversation: Conversation) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, message.text) for message in conversation.messages)


def converted(item: Format, source: Path) -> list[Conversation]:
    return [item.convert(row) for row in item.read(source)]


def test_no_format_file_is_broken_and_names_are_file_names() -> None:
    assert FOUND.broken == {}
    assert {module: item.name for module, item in FOUND.items.items()} == {
        name: name for name in format_names()
    }


@every_format
def test_a_format_knows_its_own_files_and_no_others(item: Format, tmp_path: Path) -> None:
    source = write_source(item, tmp_path / "own")
    assert item.detect(source)
    assert item.detect(source / f"source{item.suffixes[0]}")
    for other in FORMATS:
        if other is not item:
            foreign = write_source(other, tmp_path / other.name)
            assert not item.detect(foreign)
            assert not item.detect(foreign / f"source{other.suffixes[0]}")
    with pytest.raises(MissingFileError):
        item.detect(tmp_path / "nowhere")


@every_format
def test_damaged_files_are_never_taken_for_the_format(item: Format, tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"\xff\xfe\x00", b"PAR1", b"{", b"[", b"null", b"[3]")):
        (tmp_path / f"{number}{item.suffixes[0]}").write_bytes(data)
    found = item.find(tmp_path)
    assert found.used == ()
    assert all(found.left_out.values())


@every_format
def test_no_turn_is_lost_and_pictures_are_resolved(item: Format, tmp_path: Path) -> None:
    found = converted(item, write_source(item, tmp_path))
    assert [turns(conversation) for conversation in found] == list(item.fixture.turns)
    assert all(conversation.images for conversation in found)
    assert all(image.width > 0 for conversation in found for image in conversation.images)
    assert len({conversation.id for conversation in found}) == len(found)


@every_format
def test_round_trip_to_parquet_is_exact(item: Format, tmp_path: Path) -> None:
    source = write_source(item, tmp_path / "in")
    report = convert(source, tmp_path / "out")
    assert (report.format, report.rows, report.dropped) == (item.name, 2, 0)
    assert list(Store.open(tmp_path / "out")) == converted(item, source)


@every_format
def test_ids_are_stable_between_readings(item: Format, tmp_path: Path) -> None:
    source = write_source(item, tmp_path)
    assert [c.id for c in converted(item, source)] == [c.id for c in converted(item, source)]


@every_format
def test_an_unknown_column_goes_to_meta(item: Format, tmp_path: Path) -> None:
    unknown = {"deep": ["一", None], "n": 2}
    rows = [{**row, "unheard_of": unknown} for row in item.fixture.rows]
    plain = converted(item, write_source(item, tmp_path / "plain"))
    found = converted(item, write_source(item, tmp_path / "more", rows))
    assert [conversation.meta["unheard_of"] for conversation in found] == [unknown, unknown]
    assert [conversation.messages for conversation in found] == [c.messages for c in plain]
    assert all("unheard_of" not in conversation.meta for conversation in plain)


@every_format
def test_licence_and_language_columns_become_columns(item: Format, tmp_path: Path) -> None:
    rows = [{**row, "license": "CC-BY-4.0", "lang": "ja"} for row in item.fixture.rows]
    convert(write_source(item, tmp_path / "in", rows), tmp_path / "out")
    row = Store.open(tmp_path / "out").row(0)
    assert (row["license"], row["language"]) == ("CC-BY-4.0", "ja")
    assert row["meta"] == "{}"


@every_format
def test_one_damaged_picture_costs_one_row_and_says_so(item: Format, tmp_path: Path) -> None:
    source, rows = tmp_path / "in", copy.deepcopy(list(item.fixture.rows))
    write_source(item, source, rows)
    first = converted(item, source)[0].images[0].data
    if item.fixture.files:
        name = next(name for name, data in item.fixture.files.items() if data == first)
        (source / "broken.png").write_bytes(first[:50])
        rows[0] = _with_text_replaced(rows[0], name, "broken.png")
        write_source(item, source, rows)
    else:
        rows[0] = _with_bytes_replaced(rows[0], first, first[:50])
        write_source(item, source, rows)
    report = convert(source, tmp_path / "out")
    assert (report.rows, report.dropped) == (1, 1)
    assert report.by_reason == {"image_corrupt": 1}
    (dropped,) = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert (dropped["file"], dropped["index"]) == (f"source{item.suffixes[0]}", 0)
    assert len(dropped["sha256"]) == 64
    assert "corrupt" in dropped["detail"]
    assert "何色ですか" in dropped["row"]


@every_format
def test_missing_picture_files_are_counted(item: Format, tmp_path: Path) -> None:
    if not item.fixture.files:
        assert all(
            isinstance(i, Image)
            for c in converted(item, write_source(item, tmp_path))
            for i in c.images
        )
        return
    source = write_source(item, tmp_path / "in")
    for name in list(item.fixture.files)[1:]:
        (source / name).unlink()
    report = convert(source, tmp_path / "out")
    assert report.by_reason == {"image_missing": 1}


def _with_text_replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_text_replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_text_replaced(item, old, new) for item in value]
    return new if value == old else value


def _with_bytes_replaced(value: Any, old: bytes, new: bytes) -> Any:
    if isinstance(value, dict):
        return {key: _with_bytes_replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_bytes_replaced(item, old, new) for item in value]
    return new if value == old else value
