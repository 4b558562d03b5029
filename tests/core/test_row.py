"""The row codec: a Conversation is the same after a stay in the canonical row, to the byte."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from manako.core.conversation import ROLES, Conversation, Image, Message, Text, Video
from manako.core.errors import ImageError, NotInThisVersion, RowError
from manako.core.row import arrow_schema, conversation_of, row_of


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("L", (width, height), 7).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = [png(1, 1), png(5, 3), png(3, 5)]
UTF8 = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
PARTS = st.one_of(
    UTF8.map(Text),
    st.builds(Image, st.sampled_from(PNGS), path=UTF8),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    role: Any = draw(st.sampled_from(ROLES))
    train = draw(st.sampled_from([None, False, True] if role == "assistant" else [None, False]))
    return Message(role, tuple(draw(st.lists(PARTS, max_size=4))), train)


CONVERSATIONS = st.builds(
    Conversation,
    st.lists(messages(), max_size=5).map(tuple),
    id=UTF8,
    source=UTF8,
    meta=st.dictionaries(st.text(max_size=4), JSON, max_size=3),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONVERSATIONS)
def test_there_and_back_is_exact(conversation: Conversation) -> None:
    again = conversation_of(row_of(conversation))
    assert again == conversation
    assert dict(again.meta) == dict(conversation.meta)
    assert [image.path for image in again.images] == [image.path for image in conversation.images]
    assert [m.train for m in again.messages] == [m.train for m in conversation.messages]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(CONVERSATIONS, min_size=1, max_size=4))
def test_there_and_back_through_arrow_is_exact(conversations: list[Conversation]) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist([row_of(c) for c in conversations], arrow_schema())
    assert [conversation_of(row) for row in table.to_pylist()] == conversations


def test_sizes_come_from_the_row_and_a_row_without_bytes_still_has_them() -> None:
    conversation = Conversation((Message("user", (Image(PNGS[1]), Text("?"), Image(PNGS[2]))),))
    row = row_of(conversation)
    assert (row["widths"], row["heights"]) == ([5, 3], [3, 5])
    del row["images"]
    outline = conversation_of(row)
    assert [image.size for image in outline.images] == [(5, 3), (3, 5)]
    assert outline.messages[0].text == "?"
    assert outline.images[0].data == b""


@pytest.mark.parametrize("column", ["id", "source", "meta", "text", "path", "license"])
def test_half_a_character_is_refused_wherever_it_stands(column: str) -> None:
    half = "a\ud83d"
    conversation = Conversation(
        (
            Message(
                "user",
                (
                    Text(half if column == "text" else "x"),
                    Image(PNGS[0], path=half if column == "path" else ""),
                ),
            ),
        ),
        id=half if column == "id" else "row",
        source=half if column == "source" else "",
        meta={"k": half} if column == "meta" else {},
    )
    with pytest.raises(RowError) as caught:
        row_of(conversation, license=half if column == "license" else "")
    assert caught.value.reason == "not_utf8"
    str(caught.value).encode("utf-8")  # the message itself can be printed


def test_meta_that_is_no_json_and_broken_pictures_are_refused() -> None:
    with pytest.raises(RowError, match="meta is no JSON"):
        row_of(Conversation((Message("user", (Text("x"),)),), meta={"k": object()}))
    with pytest.raises(ImageError):
        row_of(Conversation((Message("user", (Image(b"no picture"),)),)))
    with pytest.raises(NotInThisVersion):
        row_of(Conversation((Message("user", (Video((Image(PNGS[0]),), (0.0,)),)),)))


def _row(**changes: Any) -> dict[str, Any]:
    conversation = Conversation((Message("user", (Image(PNGS[0]), Text("x"))),), id="r")
    return {**row_of(conversation), **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": [], "widths": [], "heights": []}, "more image parts"),
        ({"images": [{"bytes": PNGS[0], "path": None}] * 2, "widths": [1, 1], "heights": [1, 1]},
         "more images than"),
        ({"widths": [1, 2]}, "1 images, 2 widths"),
        ({"train": [None, False]}, "`train` has 2 entries for 1 turns"),
        ({"messages": [{"role": "user", "content": [{"type": "audio", "text": None}]}]},
         "part type 'audio'"),
    ],
)  # fmt: skip
def test_a_row_that_contradicts_itself_is_refused_by_its_id(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(RowError, match=says) as caught:
        conversation_of(_row(**changes))
    assert "r" in caught.value.message


@pytest.mark.parametrize("column", ["rejected", "tools", "objects"])
def test_reserved_columns_are_not_silently_ignored(column: str) -> None:
    with pytest.raises(NotInThisVersion, match=column):
        conversation_of(_row(**{column: "[]"}))


def test_the_features_in_the_schema_are_what_datasets_would_write() -> None:
    from datasets import Features, List, Value
    from datasets import Image as ImageFeature

    schema = arrow_schema()
    written = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    features = Features.from_dict(written)
    assert features["images"] == List(ImageFeature())
    assert features["id"] == Value("string")
    assert features.arrow_schema.types == schema.types
    assert list(features) == schema.names
