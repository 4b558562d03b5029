"""Converting: the format is found out, nothing is lost without a reason, a kill leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from manako.core.errors import InputError, MissingFileError
from manako.data.convert import convert, format_names
from manako.data.store import Store
from manako.formats._shared import tiny_png
from manako.formats.llava_json import FORMAT as LLAVA
from manako.formats.the_cauldron import FORMAT as CAULDRON

PNG = tiny_png(4, 3)


def cauldron_row(question: str = "何?", image: bytes = PNG, **columns: Any) -> dict[str, Any]:
    return {
        "images": [{"bytes": image, "path": None}],
        "texts": [{"user": question, "assistant": "答え", "source": "s"}],
        **columns,
    }


def llava_row(**columns: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "何?"}, {"from": "gpt", "value": "答え"}]
    return {"conversations": turns, **columns}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    CAULDRON.write(folder / "a.parquet", [cauldron_row(f"a{n}") for n in range(5)])
    CAULDRON.write(folder / "b" / "c.parquet", [cauldron_row(f"c{n}") for n in range(3)])
    return folder


def test_a_folder_is_converted_file_by_file(source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []
    report = convert(source, tmp_path / "out", progress=lambda *done: told.append(done))
    assert (report.rows, report.images, report.dropped, report.format) == (8, 8, 0, "the_cauldron")
    assert told[-1] == (8, 1.0)
    store = Store.open(tmp_path / "out")
    assert [c.id for c in store] == [f"a:{n}" for n in range(5)] + [f"b/c:{n}" for n in range(3)]
    origin = store.manifest.origin
    assert origin["format"] == "the_cauldron"
    assert [file["path"] for file in origin["files"]] == ["a.parquet", "b/c.parquet"]
    assert str(tmp_path) not in json.dumps(origin)
    assert json.loads(json.dumps(report.as_dict()))["bytes"] == report.bytes > 0


def test_one_file_is_a_source_too(source: Path, tmp_path: Path) -> None:
    assert convert(source / "b" / "c.parquet", tmp_path / "out").rows == 3


def test_files_of_another_kind_are_left_out_and_named(source: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(source / "a.parquet").drop(["texts"]), source / "d.parquet")
    (source / "e.parquet").write_bytes(b"no parquet")
    report = convert(source, tmp_path / "out")
    assert report.rows == 8
    assert "no column `texts`" in report.left_out["d.parquet"]
    assert "no readable Parquet" in report.left_out["e.parquet"]
    assert set(Store.open(tmp_path / "out").manifest.origin["left_out"]) == set(report.left_out)


def test_a_source_of_no_format_says_why_for_each(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.json").write_text('[{"question": 1}]', encoding="utf-8")
    with pytest.raises(InputError, match="of no known format") as caught:
        convert(tmp_path / "in", tmp_path / "out")
    assert "the_cauldron: no .parquet file in it" in caught.value.message
    assert "x.json: its rows have no `conversations` (their columns: question)" in str(caught.value)
    with pytest.raises(MissingFileError):
        convert(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_of_several_formats_must_be_told_apart(source: Path, tmp_path: Path) -> None:
    LLAVA.write(source / "x.json", [llava_row()])
    with pytest.raises(InputError, match="several formats: llava_json, the_cauldron") as caught:
        convert(source, tmp_path / "out")
    assert "--format" in caught.value.next_step
    assert convert(source, tmp_path / "out", format="llava_json").rows == 1


def test_an_unknown_format_lists_the_known_ones(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format 'coco' is unknown") as caught:
        convert(source, tmp_path / "out", format="coco")
    assert all(name in caught.value.next_step for name in format_names())
    with pytest.raises(InputError, match=r"llava_json: no \.json or \.jsonl file"):
        convert(source, tmp_path / "out", format="llava_json")


def test_every_refused_row_is_on_record_with_its_reason(tmp_path: Path) -> None:
    bomb = bytearray(PNG)
    bomb[16:24] = b"\x00\x00\xff\xff" * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    rows = [
        cauldron_row("good"),
        cauldron_row("empty", b""),
        cauldron_row("html", b"<html>"),
        cauldron_row("cut", PNG[:50]),
        cauldron_row("bomb", bytes(bomb)),
        cauldron_row("<image><image>"),
        cauldron_row("also good"),
    ]
    CAULDRON.write(tmp_path / "in.parquet", rows)
    report = convert(tmp_path / "in.parquet", tmp_path / "out")
    assert (report.rows, report.dropped) == (2, 5)
    assert dict(report.by_reason) == {
        "image_count": 1,
        "image_corrupt": 1,
        "image_empty": 1,
        "image_too_large": 1,
        "image_unknown_kind": 1,
    }
    dropped = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert [row["index"] for row in dropped] == [1, 2, 3, 4, 5]
    assert [row["id"] for row in dropped] == [f"in:{n}" for n in range(1, 6)]
    assert len({row["sha256"] for row in dropped}) == 5
    said = json.loads(dropped[2]["row"])
    assert said["texts"][0]["user"] == "cut"
    assert said["images"][0]["bytes"]["bytes"] == 50
    assert Store.open(tmp_path / "out").manifest.by_reason == report.by_reason


def test_half_characters_drop_one_row_only(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "\ud83d"}, {"from": "gpt", "value": "x"}]
    text = json.dumps([llava_row(id="a"), {"id": "b\ud83d", "conversations": turns}])
    (tmp_path / "in.json").write_text(text, encoding="utf-8")
    report = convert(tmp_path / "in.json", tmp_path / "out")
    assert (report.rows, dict(report.by_reason)) == (1, {"not_utf8": 1})


def test_when_no_row_can_be_used_nothing_is_written(tmp_path: Path) -> None:
    LLAVA.write(tmp_path / "in.json", [llava_row(image=f"{n}.png") for n in range(3)])
    with pytest.raises(InputError, match="image_missing 3") as caught:
        convert(tmp_path / "in.json", tmp_path / "out")
    assert "0.png does not exist" in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.json"]


def test_pictures_in_another_folder_are_found_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "json").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes(PNG)
    LLAVA.write(tmp_path / "json" / "in.json", [llava_row(image="0.png")])
    report = convert(tmp_path / "json", tmp_path / "out", images=tmp_path / "pictures")
    assert report.images == 1
    with pytest.raises(InputError, match="does not exist"):
        convert(tmp_path / "json", tmp_path / "other", images=tmp_path / "none")


def test_ids_of_both_kinds_that_repeat_are_told_apart(tmp_path: Path) -> None:
    LLAVA.write(tmp_path / "in.json", [llava_row(id=1), llava_row(id="1"), llava_row(id=2)])
    convert(tmp_path / "in.json", tmp_path / "out")
    assert [c.id for c in Store.open(tmp_path / "out")] == ["1", "1#2", "2"]


def test_out_with_files_is_refused_before_anything_is_read(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="holds files"):
        convert(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_converting_twice_gives_the_same_set(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        convert(source, tmp_path / name)
    one, two = (Store.open(tmp_path / name) for name in ("one", "two"))
    assert one.manifest_sha256 == two.manifest_sha256


@pytest.mark.kill
def test_a_killed_conversion_leaves_no_half_set_and_can_be_run_again(tmp_path: Path) -> None:
    CAULDRON.write(tmp_path / "in.parquet", [cauldron_row(f"{n}") for n in range(600)])
    code = """
import os, signal, sys
from pathlib import Path
from manako.data.convert import convert
folder = Path(sys.argv[1])
convert(folder / "in.parquet", folder / "out",
        progress=lambda rows, share: os.kill(os.getpid(), signal.SIGKILL))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.glob("out.partial-*"))) == 1
    assert convert(tmp_path / "in.parquet", tmp_path / "out").rows == 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out"]
