"""The canonical row: a Conversation as it lies in Parquet, exact there and back.

Columns and types are fixed by the plan of the store; the file-level schema carries the
`huggingface` features, without which `datasets` and TRL read the pictures as plain dicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation, Image, Message, Part, Text
from manako.core.errors import NotInThisVersion, RowError

if TYPE_CHECKING:
    import pyarrow as pa

UNREAD_COLUMNS = ("rejected", "tools", "objects")
"""Reserved columns that nothing in this version fills or reads."""


def row_of(conversation: Conversation, *, license: str = "", language: str = "") -> dict[str, Any]:
    """A canonical row. Raises `RowError` for what Parquet cannot hold, `ImageError` for pictures
    whose header cannot be read."""
    images = conversation.images
    overrides = [message.train for message in conversation.messages]
    sizes = [image.size for image in images]
    row = {
        "id": conversation.id,
        "images": [{"bytes": image.data, "path": image.path or None} for image in images],
        "messages": [_message_row(message, conversation.id) for message in conversation.messages],
        "train": overrides if any(override is not None for override in overrides) else None,
        "rejected": None,
        "tools": None,
        "widths": [width for width, _ in sizes],
        "heights": [height for _, height in sizes],
        "source": conversation.source,
        "license": license,
        "language": language,
        "objects": None,
        "meta": _meta_text(conversation),
    }
    _check_texts(row, conversation, images)
    return row


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The Conversation of a canonical row. Raises `RowError` when it contradicts itself.

    The stored `widths` and `heights` are taken for the pictures' sizes, so no header is read again.
    A row read without its `images` column gives pictures without bytes that still know their sizes:
    enough to measure, nothing to decode.
    """
    row_id = row.get("id") or ""
    for column in UNREAD_COLUMNS:
        if row.get(column) is not None:
            raise NotInThisVersion(f"row {row_id}: column {column!r} is not in this version")
    pictures = iter(_images_of(row, row_id))
    overrides = row.get("train") or [None] * len(row["messages"])
    if len(overrides) != len(row["messages"]):
        raise RowError(
            f"row {row_id}: `train` has {len(overrides)} entries for {len(row['messages'])} turns",
            row_id=row_id,
        )
    messages = tuple(
        Message(turn["role"], _parts(turn["content"], pictures, row_id), train)
        for turn, train in zip(row["messages"], overrides, strict=True)
    )
    if next(pictures, None) is not None:
        raise RowError(
            f"row {row_id}: more images than image parts in its messages",
            row_id=row_id,
            reason="image_count",
        )
    meta = json.loads(row.get("meta") or "{}")
    return Conversation(messages, id=row_id, source=row.get("source") or "", meta=meta)


def _message_row(message: Message, row_id: str) -> dict[str, Any]:
    return {"role": message.role, "content": [_part_row(p, row_id) for p in message.content]}


def _part_row(part: Part, row_id: str) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image", "text": None}
    raise NotInThisVersion(f"row {row_id}: videos are not stored in this version")


def _check_texts(
    row: Mapping[str, Any], conversation: Conversation, images: tuple[Image, ...]
) -> None:
    """Refuse lone surrogates: UTF-8, and so Parquet, cannot hold them."""
    texts = [row["id"], row["source"], row["license"], row["language"], row["meta"]]
    texts += [image.path for image in images]
    texts += [
        part.text
        for message in conversation.messages
        for part in message.content
        if isinstance(part, Text)
    ]
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError as error:
        around = error.object[max(error.start - 20, 0) : error.start + 20]
        raise RowError(
            f"row {row['id']!a} holds half of a character (lone surrogate): {around!a}",
            row_id=row["id"],
            reason="not_utf8",
        ) from error


def _meta_text(conversation: Conversation) -> str:
    if not conversation.meta:
        return "{}"
    try:
        return json.dumps(dict(conversation.meta), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(
            f"row {conversation.id}: meta is no JSON: {error}",
            row_id=conversation.id,
            reason="meta",
        ) from error


def _images_of(row: Mapping[str, Any], row_id: str) -> list[Image]:
    widths, heights = row.get("widths"), row.get("heights")
    stored = row.get("images")
    if stored is None:
        stored = [{"bytes": b"", "path": None}] * len(widths or ())
    images = [Image(image["bytes"] or b"", path=image.get("path") or "") for image in stored]
    if widths is None or heights is None:
        return images
    if not len(images) == len(widths) == len(heights):
        raise RowError(
            f"row {row_id}: {len(images)} images, {len(widths)} widths, {len(heights)} heights",
            row_id=row_id,
            reason="image_count",
        )
    for image, size in zip(images, zip(widths, heights, strict=True), strict=True):
        image.__dict__["size"] = size  # fills the cached property
    return images


def _parts(content: Any, pictures: Any, row_id: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    for part in content:
        if part["type"] == "image":
            picture = next(pictures, None)
            if picture is None:
                raise RowError(
                    f"row {row_id}: more image parts in its messages than images",
                    row_id=row_id,
                    reason="image_count",
                )
            parts.append(picture)
        elif part["type"] == "text":
            parts.append(Text(part["text"] or ""))
        else:
            raise RowError(f"row {row_id}: part type {part['type']!r} is unknown", row_id=row_id)
    return tuple(parts)


def arrow_schema() -> pa.Schema:
    """The canonical Arrow schema with its `huggingface` metadata."""
    import pyarrow as pa

    text = pa.string()
    turns = pa.list_(
        pa.struct({"role": text, "content": pa.list_(pa.struct({"type": text, "text": text}))})
    )
    schema = pa.schema(
        {
            "id": text,
            "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": text})),
            "messages": turns,
            "train": pa.list_(pa.bool_()),
            "rejected": turns,
            "tools": text,
            "widths": pa.list_(pa.int32()),
            "heights": pa.list_(pa.int32()),
            "source": text,
            "license": text,
            "language": text,
            "objects": text,
            "meta": text,
        }
    )
    features = {"info": {"features": _features()}}
    return schema.with_metadata({"huggingface": json.dumps(features)})


def _features() -> dict[str, Any]:
    """The schema in the words of `datasets` 5 (`Features.to_dict()`), written without it."""
    text = {"dtype": "string", "_type": "Value"}
    turns = _list({"role": text, "content": _list({"type": text, "text": text})})
    sides = _list({"dtype": "int32", "_type": "Value"})
    return {
        "id": text,
        "images": _list({"_type": "Image"}),
        "messages": turns,
        "train": _list({"dtype": "bool", "_type": "Value"}),
        "rejected": turns,
        "tools": text,
        "widths": sides,
        "heights": sides,
        "source": text,
        "license": text,
        "language": text,
        "objects": text,
        "meta": text,
    }


def _list(feature: dict[str, Any]) -> dict[str, Any]:
    return {"feature": feature, "_type": "List"}
