"""LLaVA JSON: its marks and their newlines, its ids and paths, its lists and lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.core.conversation import Conversation, Image, Text
from manako.core.errors import InputError, RowError
from manako.formats import llava_json
from manako.formats._shared import RawRow, tiny_png
from manako.formats.llava_json import FORMAT

A, B = tiny_png(2, 1), tiny_png(1, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    (root / "deep").mkdir(parents=True)
    (root / "a.png").write_bytes(A)
    (root / "deep" / "b.png").write_bytes(B)
    (tmp_path / "secret.png").write_bytes(A)
    return root


def convert(folder: Path, *values: str, **columns: Any) -> Conversation:
    speakers = ["human", "gpt"] * len(values)
    turns = [{"from": s, "value": v} for s, v in zip(speakers, values, strict=False)]
    return FORMAT.convert(
        RawRow({"conversations": turns, **columns}, "train.json", 3, (folder.resolve(),))
    )


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("<image>\n何?", (Image(A), Text("何?"))),
        ("何?\n<image>", (Text("何?"), Image(A))),
        ("<image>何?", (Image(A), Text("何?"))),
        ("<image>\n\n何?\n", (Image(A), Text("\n何?\n"))),
        ("これ <image> は?", (Text("これ "), Image(A), Text(" は?"))),
        ("一行\n<image>\n二行", (Text("一行\n"), Image(A), Text("二行"))),
        ("何?", (Image(A), Text("何?"))),
        ("<image>", (Image(A),)),
    ],
)
def test_a_mark_takes_one_newline_with_it_and_nothing_else(
    folder: Path, value: str, content: Any
) -> None:
    assert convert(folder, value, "はい", image="a.png").messages[0].content == content


def test_a_list_of_pictures_and_marks_in_several_turns(folder: Path) -> None:
    found = convert(folder, "<image>\n左", "x", "<image>\n右", "y", image=["a.png", "deep/b.png"])
    assert found.messages[0].content == (Image(A), Text("左"))
    assert found.messages[2].content == (Image(B), Text("右"))
    assert [image.path for image in found.images] == ["a.png", "deep/b.png"]


@pytest.mark.parametrize("image", [None, "", []])
def test_text_only_rows(folder: Path, image: Any) -> None:
    assert convert(folder, "元気?", "はい", image=image).images == ()
    assert convert(folder, "元気?", "はい").images == ()


@pytest.mark.parametrize(
    ("columns", "values", "reason"),
    [
        ({"image": "a.png"}, ("<image><image>", "x"), "image_count"),
        ({"image": ["a.png", "a.png"]}, ("<image>", "x"), "image_count"),
        ({}, ("<image>", "x"), "image_count"),
        ({"image": "none.png"}, ("<image>", "x"), "image_missing"),
        ({"image": "deep"}, ("<image>", "x"), "image_missing"),
        ({"image": "a" * 5000}, ("<image>", "x"), "image_unreadable"),
        ({"image": "a\0.png"}, ("<image>", "x"), "image_unreadable"),
        ({"image": 3}, ("<image>", "x"), "image_missing"),
        ({"image": [None]}, ("<image>", "x"), "image_missing"),
        ({"image": "../secret.png"}, ("<image>", "x"), "image_outside"),
        ({"image": "deep/../../secret.png"}, ("<image>", "x"), "image_outside"),
        ({"image": "https://example.org/a.png"}, ("<image>", "x"), "image_by_url"),
        ({"conversations": []}, (), "no_turns"),
        ({"conversations": None}, (), "no_turns"),
        ({"conversations": [{"from": "human"}]}, (), "bad_turn"),
        ({"conversations": [{"from": "human", "value": None}]}, (), "bad_turn"),
        ({"conversations": ["x"]}, (), "bad_turn"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, (), "role"),
        ({"conversations": [{"from": ["human"], "value": "x"}]}, (), "role"),
        ({"image": "a.png", "conversations": [{"from": "gpt", "value": "x"}]}, (), "image_count"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_are_refused_by_reason(
    folder: Path, columns: dict[str, Any], values: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(RowError) as caught:
        convert(folder, *values, **columns)
    assert caught.value.reason == reason


def test_an_absolute_path_and_a_link_out_of_the_folder_are_refused(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    for name in (str(folder.parent / "secret.png"), "link.png"):
        with pytest.raises(RowError) as caught:
            convert(folder, "<image>", "x", image=name)
        assert caught.value.reason == "image_outside"


def test_pictures_may_lie_in_a_further_folder_that_the_caller_names(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    (tmp_path / "coco" / "train2017" / "1.png").write_bytes(A)
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "x"}]
    FORMAT.write(
        tmp_path / "json" / "a.json", [{"image": "train2017/1.png", "conversations": turns}]
    )
    (row,) = FORMAT.read(tmp_path / "json", images=tmp_path / "coco")
    assert FORMAT.convert(row).images == (Image(A),)


def test_ids_sources_and_what_has_no_column(folder: Path) -> None:
    assert convert(folder, "a", "b", id=5).id == "5"
    assert convert(folder, "a", "b", id="五").id == "五"
    assert convert(folder, "a", "b").id == "train:3"
    found = convert(folder, "a", "b", source="coco", model="", score=1.5)
    assert found.source == "coco"
    assert dict(found.meta) == {"model": "", "score": 1.5}
    extra = [{"from": "human", "value": "a", "time": 3}]
    assert convert(folder, conversations=extra).meta["turn_extras"] == [{"time": 3}]


def test_a_line_that_is_no_json_is_a_refused_row_not_a_lost_one(tmp_path: Path) -> None:
    good = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    lines = [json.dumps(good), "{broken", "", "[1]", json.dumps(good)]
    data = "\n".join(lines).encode() + b'\n{"a": "\xff"}\n'
    (tmp_path / "a.jsonl").write_bytes(data)
    rows = list(FORMAT.read(tmp_path))
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    refused = []
    for row in rows:
        try:
            FORMAT.convert(row)
        except RowError as error:
            refused.append((row.index, error.reason))
    assert refused == [(1, "not_a_row"), (2, "not_a_row"), (4, "not_a_row")]
    assert rows[1].values == "{broken"


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def list_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "a.json"


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON, max_size=8), st.sampled_from([None, 0, 3]), st.integers(1, 30), st.booleans())
def test_a_list_is_read_in_pieces_as_it_would_be_read_whole(
    list_file: Path, items: list[Any], indent: int | None, chunk: int, ascii_only: bool
) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    list_file.write_bytes(b"\xef\xbb\xbf" + text.encode("utf-8"))
    before, llava_json.CHUNK_CHARACTERS = llava_json.CHUNK_CHARACTERS, chunk
    try:
        found = [value for value, _ in FORMAT.values(list_file)]
    finally:
        llava_json.CHUNK_CHARACTERS = before
    assert found == items


@pytest.mark.parametrize(
    "text", ["[{} {}]", "[{},]", "[{}", "[{},", "[1, }", '[{"a": ]', "[", "[12"]
)
def test_a_damaged_list_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json is damaged"):
        list(FORMAT.values(path))


def test_the_share_read_so_far_grows_to_one(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "あ" * 500}, {"from": "gpt", "value": "い"}]
    for name in ("a.json", "a.jsonl"):
        FORMAT.write(tmp_path / name, [{"id": n, "conversations": turns} for n in range(50)])
        shares = [share for _, share in FORMAT.values(tmp_path / name)]
        assert shares == sorted(shares)
        assert 0 < shares[0] <= shares[-1] == 1.0


def test_rows_nested_without_end_do_not_exhaust_the_stack(folder: Path) -> None:
    deep: Any = "bottom"
    for _ in range(900):
        deep = [deep]
    meta = json.dumps(convert(folder, "a", "b", deep=deep).meta["deep"])
    assert "nested too deep" in meta


def test_what_may_not_be_read_is_an_error_about_the_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FORMAT.write(folder / "a.json", [{"conversations": [{"from": "human", "value": "a"}]}])
    found = FORMAT.find(folder)

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", "a.json")

    monkeypatch.setattr("pathlib.Path.open", denied)
    with pytest.raises(InputError, match=r"a\.json cannot be read: Permission denied"):
        list(FORMAT.read_file(found.used[0], folder))
    assert "Permission denied" in FORMAT.find(folder).left_out["a.json"]
