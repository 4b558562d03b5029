"""The Cauldron and its kin (Cauldron-JA, Docmatix, FineVision): Parquet, question and answer pairs.

    images  list<struct<bytes: binary, path: string>>
    texts   list<struct<user: string, assistant: string, source: string>>

The format says nothing about where a picture stands. Rules here:
- no `<image>` in the user texts: all pictures stand at the head of the first user turn, in order;
- as many `<image>` marks in the user texts as pictures: each mark is the place of one picture, the
  text around it stays as it is;
- any other number: the row is refused (`image_count`).
Marks in answers are text. `source` becomes the row's source when all turns agree (or when the row
has a `source` column, as FineVision has); differing ones stay in `meta["turn_sources"]`, further
fields of a turn in `meta["turn_extras"]`, further columns under their own names. Rows without an
`id` get `<file without suffix>:<row index>`.

Layout: data set card and viewer of HuggingFaceM4/the_cauldron; FineVision's feature dump.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from manako.core.conversation import Conversation, Image, Message, Part, Text
from manako.core.errors import InputError, RowError
from manako.formats._shared import (
    IMAGE_MARK,
    Fixture,
    Format,
    RawRow,
    id_of,
    left_over,
    load_image,
    mapping_of,
    tiny_png,
)

BATCH_ROWS = 64
"""Rows read at once: enough to be fast, few enough for rows with many large pictures."""
KNOWN_COLUMNS = frozenset({"id", "images", "texts", "source"})
KNOWN_FIELDS = frozenset({"user", "assistant", "source"})


def refusal(file: Path) -> str:
    """Why `file` has not this format's columns; empty when it has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        return f"it is no readable Parquet file: {error}"
    if "texts" not in schema.names:
        return f"it has no column `texts` (its columns: {', '.join(schema.names[:12])})"
    turn = _item_type(schema.field("texts").type)
    if turn is None or not {"user", "assistant"} <= {field.name for field in turn}:
        return f"`texts` is {schema.field('texts').type}, not a list of user and assistant"
    if "images" in schema.names:
        picture = _item_type(schema.field("images").type)
        if picture is None or "bytes" not in {field.name for field in picture}:
            return f"`images` is {schema.field('images').type}, not a list of bytes and path"
    return ""


def _item_type(kind: Any) -> Any:
    """The struct type of a list's items, None when `kind` is no list of structs."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return kind.value_type if is_list and pa.types.is_struct(kind.value_type) else None


def values(file: Path) -> Iterator[tuple[Any, float]]:
    """The rows of a Parquet file. Raises `InputError` where the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, memory_map=True) as parquet:
            total, done = parquet.metadata.num_rows, 0
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS):
                done += batch.num_rows
                for row in _rows_of(batch):
                    yield row, done / total
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file} is damaged: {error}", next_step="fetch the file again, or take it away"
        ) from error


def _rows_of(batch: Any) -> Iterator[Any]:
    """The rows of a batch; one with a value that Python cannot hold comes as the reason why."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # bytes that are no UTF-8, dates beyond the calendar
        for place in range(batch.num_rows):
            try:
                row = batch.slice(place, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                row = f"a value of this row cannot be read: {error}"
            yield row


def convert(row: RawRow) -> Conversation:
    """One row, by the rules at the head of this file."""
    columns = mapping_of(row)
    row_id = id_of(row, columns)
    turns = columns.get("texts")
    if not isinstance(turns, list) or not turns:
        raise RowError(f"row {row_id} has no turn in `texts`", reason="no_turns", row_id=row_id)
    pictures = iter(images := [_picture(row, image) for image in columns.get("images") or ()])
    pairs = [_pair(turn, row_id) for turn in turns]
    marks = sum(question.count(IMAGE_MARK) for question, _ in pairs)
    if marks not in (0, len(images)):
        raise RowError(
            f"row {row_id}: {marks} {IMAGE_MARK} marks for {len(images)} images",
            reason="image_count",
            row_id=row_id,
        )
    messages: list[Message] = []
    for place, (question, answer) in enumerate(pairs):
        if marks:
            content = _split_at_marks(question, pictures)
        else:
            content = (*(images if place == 0 else ()), Text(question))
        messages += (Message("user", content), Message("assistant", (Text(answer),)))
    source, meta = _source_and_meta(columns, turns)
    return Conversation(tuple(messages), id=row_id, source=source, meta=meta)


def _picture(row: RawRow, stored: Any) -> Image:
    data, path = (stored or {}).get("bytes"), (stored or {}).get("path")
    if data is None and path:
        return load_image(row, path)
    return Image(data or b"", path=path or "")


def _pair(turn: Any, row_id: str) -> tuple[str, str]:
    if isinstance(turn, dict):
        question, answer = turn.get("user"), turn.get("assistant")
        if isinstance(question, str) and isinstance(answer, str):
            return question, answer
    raise RowError(
        f"row {row_id}: a turn lacks the text of user or assistant",
        reason="bad_turn",
        row_id=row_id,
    )


def _split_at_marks(question: str, pictures: Iterator[Image]) -> tuple[Part, ...]:
    head, *rest = question.split(IMAGE_MARK)
    parts: list[Part] = [Text(head)] if head or not rest else []
    for text in rest:
        parts.append(next(pictures))
        if text:
            parts.append(Text(text))
    return tuple(parts)


def _source_and_meta(
    columns: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    meta = left_over(columns, KNOWN_COLUMNS)
    of_turns = [turn.get("source") for turn in turns]
    distinct = set(of_turns)
    source = columns.get("source")
    if not isinstance(source, str):
        source = (of_turns[0] or "") if len(distinct) == 1 else ""
    if distinct - {source, None}:
        meta["turn_sources"] = of_turns
    if any(not turn.keys() <= KNOWN_FIELDS for turn in turns):
        meta["turn_extras"] = [left_over(turn, KNOWN_FIELDS) for turn in turns]
    return source, meta


def write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows into one Parquet file, columns inferred."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(
        pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), file
    )


FORMAT = Format(
    name="the_cauldron",
    suffixes=(".parquet",),
    refusal=refusal,
    values=values,
    convert=convert,
    write=write,
    fixture=Fixture(
        rows=(
            {
                "images": [{"bytes": tiny_png(6, 4), "path": None}],
                "texts": [
                    {"user": "何色ですか。", "assistant": "白です。", "source": "fixture"},
                    {"user": "Is it large?", "assistant": "No.", "source": "fixture"},
                ],
            },
            {
                "images": [
                    {"bytes": tiny_png(3, 5), "path": "a.png"},
                    {"bytes": tiny_png(5, 3, grey=0), "path": "b.png"},
                ],
                "texts": [
                    {
                        "user": "<image>と<image>の違いは?",
                        "assistant": "明るさです。",
                        "source": "fixture",
                    },
                ],
            },
        ),
        turns=(
            (
                ("user", "何色ですか。"),
                ("assistant", "白です。"),
                ("user", "Is it large?"),
                ("assistant", "No."),
            ),
            (("user", "との違いは?"), ("assistant", "明るさです。")),
        ),
    ),
)
