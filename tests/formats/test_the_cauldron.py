"""The Cauldron: where pictures stand, what has no column, and rows that cannot be read."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from manako.core.conversation import Conversation, Image, Text
from manako.core.errors import InputError, RowError
from manako.formats._shared import RawRow, tiny_png
from manako.formats.the_cauldron import FORMAT

A, B = tiny_png(2, 1), tiny_png(1, 2)


def turn(user: Any, assistant: Any = "はい", **more: Any) -> dict[str, Any]:
    return {"user": user, "assistant": assistant, **more}


def row(*texts: Any, images: Any = (A,), **columns: Any) -> RawRow:
    stored = [
        {"bytes": image, "path": None} if isinstance(image, bytes) else image for image in images
    ]
    return RawRow({"images": stored, "texts": list(texts), **columns}, "ai2d/train-0.parquet", 7)


def convert(*texts: Any, **columns: Any) -> Conversation:
    return FORMAT.convert(row(*texts, **columns))


def test_without_marks_all_pictures_open_the_first_user_turn() -> None:
    conversation = convert(turn("比べて"), turn("もう一度"), images=(A, B))
    assert conversation.messages[0].content == (Image(A), Image(B), Text("比べて"))
    assert conversation.messages[2].content == (Text("もう一度"),)


def test_marks_place_pictures_also_in_later_turns_and_text_is_kept_as_it_is() -> None:
    conversation = convert(turn("<image>\n左 "), turn("では <image><image>?"), images=(A, B, A))
    assert conversation.messages[0].content == (Image(A), Text("\n左 "))
    assert conversation.messages[2].content == (Text("では "), Image(B), Image(A), Text("?"))


@pytest.mark.parametrize(
    ("question", "images"), [("<image><image>", (A,)), ("<image>", (A, B)), ("<image>", ())]
)
def test_any_other_number_of_marks_is_refused(question: str, images: tuple[bytes, ...]) -> None:
    with pytest.raises(RowError, match="marks for") as caught:
        convert(turn(question), images=images)
    assert caught.value.reason == "image_count"


def test_a_mark_in_an_answer_is_text() -> None:
    conversation = convert(turn("HTMLは?", "<image>"))
    assert conversation.messages[1].text == "<image>"


def test_text_only_rows_and_empty_texts_stay() -> None:
    conversation = convert(turn("", ""), images=())
    assert [message.content for message in conversation.messages] == [(Text(""),), (Text(""),)]


def test_sources_of_turns_become_the_source_when_they_agree() -> None:
    assert convert(turn("a", source="ai2d"), turn("b", source="ai2d")).source == "ai2d"
    mixed = convert(turn("a", source="ai2d"), turn("b", source="vqa"))
    assert mixed.source == ""
    assert mixed.meta["turn_sources"] == ["ai2d", "vqa"]
    assert convert(turn("a")).source == ""
    assert dict(convert(turn("a", source=None)).meta) == {}


def test_finevision_columns_are_kept() -> None:
    conversation = convert(turn("a"), source="chartqa", relevance_ratings=[5], relevance_min=5)
    assert conversation.source == "chartqa"
    assert dict(conversation.meta) == {"relevance_ratings": [5], "relevance_min": 5}


def test_what_json_cannot_hold_is_named_in_meta_not_lost() -> None:
    conversation = convert(turn("a", rating=3), thumb=A, day=date(2026, 1, 2), score=float("nan"))
    assert conversation.meta["thumb"]["bytes"] == len(A)
    assert conversation.meta["day"] == "2026-01-02"
    assert conversation.meta["score"] is None
    assert conversation.meta["turn_extras"] == [{"rating": 3}]


def test_ids_are_the_rows_own_or_made_of_file_and_row() -> None:
    assert convert(turn("a")).id == "ai2d/train-0:7"
    assert convert(turn("a"), id=12).id == "12"
    assert convert(turn("a"), id="").id == "ai2d/train-0:7"


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ((), "no_turns"),
        ((turn(None),), "bad_turn"),
        ((turn("a", None),), "bad_turn"),
        ((turn("a"), None), "bad_turn"),
    ],
)
def test_rows_without_words_are_refused_by_reason(texts: Any, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        convert(*texts)
    assert (caught.value.reason, caught.value.row_id) == (reason, "ai2d/train-0:7")


def test_a_picture_given_by_path_is_read_inside_the_folder_only(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(A)
    (tmp_path / "secret.png").write_bytes(B)

    def of(path: str) -> Conversation:
        values = {"images": [{"bytes": None, "path": path}], "texts": [turn("q")]}
        return FORMAT.convert(RawRow(values, "f.parquet", 0, ((tmp_path / "set").resolve(),)))

    assert of("a.png").images == (Image(A),)
    for path, reason in (("../secret.png", "image_outside"), ("b.png", "image_missing")):
        with pytest.raises(RowError) as caught:
            of(path)
        assert caught.value.reason == reason


def test_several_files_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/train-0.parquet", "a/train-1.parquet", ".hidden/x.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        FORMAT.write(tmp_path / name, [dict(row(turn(name)).values)])
    rows = list(FORMAT.read(tmp_path))
    assert [r.file for r in rows] == ["a/train-1.parquet", "b/train-0.parquet"]
    assert [FORMAT.convert(r).id for r in rows] == ["a/train-1:0", "b/train-0:0"]


def test_a_file_with_a_damaged_page_is_an_error_that_names_it(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "train.parquet"
    rows = [dict(row(turn(str(number) * 50)).values) for number in range(500)]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", use_dictionary=False)
    place = pq.read_metadata(path).row_group(0).column(2).data_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"train\.parquet is damaged"):
        list(FORMAT.read(tmp_path))


def test_a_row_that_is_no_utf8_costs_only_itself(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "train.parquet"
    made = [dict(row(turn(f"質問{number}質問")).values) for number in range(5)]
    pq.write_table(pa.Table.from_pylist(made), path, compression="none", use_dictionary=False)
    data = path.read_bytes()
    spoilt = "質問3質問".encode()
    assert data.count(spoilt) == 1
    path.write_bytes(data.replace(spoilt, b"\xff" * len(spoilt)))
    rows = list(FORMAT.read(path))
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    with pytest.raises(RowError) as caught:
        FORMAT.convert(rows[3])
    assert caught.value.reason == "not_a_row"
    assert "utf-8" in rows[3].values
    assert [FORMAT.convert(rows[n]).messages[0].text for n in (2, 4)] == ["質問2質問", "質問4質問"]
