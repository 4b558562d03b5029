"""LLaVA's JSON: a list of rows (`.json`) or one row a line (`.jsonl`), pictures in files beside it.

    {"id": str | int, "image": str | [str, ...] (optional),
     "conversations": [{"from": "human" | "gpt" | "system", "value": str}, ...]}

Rules here:
- `<image>` in a human turn is the place of the next picture; marks in other turns are text;
- pictures without any mark stand at the head of the first human turn, in order;
- any other difference between marks and pictures refuses the row (`image_count`);
- LLaVA writes a mark on a line of its own before or after the question, so one newline after a mark
  goes with it, and one newline before a mark that ends its turn; all other text stays as it is.
Picture paths are taken from the JSON file's folder, then the data set's folder; what leads out of
it, is missing or unreadable refuses the row by name. A line that is no JSON is refused like a row; a
damaged `.json` list is an error, because what follows the damage cannot be told apart.

Layout and convention: haotian-liu/LLaVA, docs/Finetune_Custom_Data.md and llava/train/train.py
(`preprocess_multimodal`), Apache-2.0. There the picture always moves to the front of its turn; here
it stays where its mark stands.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from manako.core.conversation import Conversation, Image, Message, Part, Role, Text
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

ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
KNOWN_COLUMNS = frozenset({"id", "image", "conversations", "source"})
KNOWN_FIELDS = frozenset({"from", "value"})
MARK = re.compile(rf"\n{IMAGE_MARK}\Z|{IMAGE_MARK}\n?")
CHUNK_CHARACTERS = 2**20
PROBED_ROWS = 10
SPACE = re.compile(r"[ \t\r\n]*")


def refusal(file: Path) -> str:
    """Why `file` does not hold this format's rows; empty when it does."""
    try:
        first = [row for row, _ in islice(values(file), PROBED_ROWS)]
    except InputError as error:
        return error.message
    rows = [row for row in first if isinstance(row, Mapping)]
    if not rows:
        return "it holds no JSON objects" if first else "it holds no rows"
    for row in rows:
        turns = row.get("conversations")
        if isinstance(turns, list) and turns and isinstance(turns[0], Mapping):
            if turns[0].keys() >= KNOWN_FIELDS:
                return ""
            return f"`conversations` has the fields {', '.join(turns[0])}, not from and value"
    return f"its rows have no `conversations` (their columns: {', '.join(list(rows[0])[:12])})"


def values(file: Path) -> Iterator[tuple[Any, float]]:
    """The rows of a file; a line that is no JSON comes as its text.

    Raises `InputError` for a file that is neither a list nor lines of JSON.
    """
    with file.open("rb") as stream:
        head = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"["):
        yield from _list_items(file)
    elif head.startswith(b"{") or file.suffix.lower() == ".jsonl":
        yield from _lines(file)
    elif head:
        raise InputError(f"{file.name} is neither a list nor lines of JSON")


def _lines(file: Path) -> Iterator[tuple[Any, float]]:
    size = max(file.stat().st_size, 1)
    done = 0
    with file.open("rb") as stream:
        for line in stream:
            done += len(line)
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                row = line.decode("utf-8", errors="replace").strip()
            yield row, done / size


def _list_items(file: Path) -> Iterator[tuple[Any, float]]:
    """Items of a JSON list one by one: the file may be larger than the memory."""
    decoder = json.JSONDecoder()
    size = max(file.stat().st_size, 1)
    with file.open(encoding="utf-8-sig") as stream:
        text = _more(stream, "", file)
        place = _skip_space(text, 0) + 1
        is_first = True
        while True:
            place = _skip_space(text, place)
            if text[place : place + 1] == "]":
                return
            try:
                start = place if is_first else _skip_space(text, place + 1)
                value, end = decoder.raw_decode(text, start)
                # A number at the end of the text may go on, so what follows an item must be seen.
                after = _skip_space(text, end)
                if text[after : after + 1] not in (",", "]"):
                    raise json.JSONDecodeError("expected ',' or ']' after an item", text, after)
            except (ValueError, RecursionError) as error:
                longer = _more(stream, text[place:], file)
                if len(longer) == len(text) - place:
                    raise InputError(f"{file} is damaged: {error}") from error
                text, place = longer, 0
                continue
            place, is_first = end, False
            yield value, min(os.lseek(stream.fileno(), 0, os.SEEK_CUR) / size, 1.0)


def _more(stream: Any, text: str, file: Path) -> str:
    """`text` and what follows in the file; twice as much each time, so that a long item is cheap."""
    try:
        return text + str(stream.read(max(CHUNK_CHARACTERS, len(text))))
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no UTF-8 text: {error}") from error


def _skip_space(text: str, place: int) -> int:
    match = SPACE.match(text, place)
    return match.end() if match else place


def convert(row: RawRow) -> Conversation:
    """One row, by the rules at the head of this file."""
    columns = mapping_of(row)
    row_id = id_of(row, columns)
    turns = columns.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise RowError(
            f"row {row_id} has no turn in `conversations`", reason="no_turns", row_id=row_id
        )
    read = [_turn(turn, row_id) for turn in turns]
    images = [load_image(row, name) for name in _image_names(columns.get("image"), row_id)]
    contents = _place_images(read, images, row_id)
    meta = left_over(columns, KNOWN_COLUMNS)
    if any(not turn.keys() <= KNOWN_FIELDS for turn in turns):
        meta["turn_extras"] = [left_over(turn, KNOWN_FIELDS) for turn in turns]
    source = columns.get("source")
    if source is not None and not isinstance(source, str):
        meta["source"] = source
    return Conversation(
        tuple(Message(role, parts) for (role, _), parts in zip(read, contents, strict=True)),
        id=row_id,
        source=source if isinstance(source, str) else "",
        meta=meta,
    )


def _turn(turn: Any, row_id: str) -> tuple[Role, str]:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
        raise RowError(
            f"row {row_id}: a turn has no text in `value`", reason="bad_turn", row_id=row_id
        )
    speaker = turn.get("from")
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise RowError(
            f"row {row_id}: a turn is from {speaker!r}, expected {', '.join(ROLES)}",
            reason="role",
            row_id=row_id,
        )
    return ROLES[speaker], turn["value"]


def _image_names(image: Any, row_id: str) -> list[str]:
    names = [image] if isinstance(image, str) else ([] if image is None else image)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowError(
            f"row {row_id}: `image` is {str(image)[:80]!r}, expected a path or a list of paths",
            reason="image_missing",
            row_id=row_id,
        )
    return [] if names == [""] else names


def _place_images(
    turns: Sequence[tuple[Role, str]], images: Sequence[Image], row_id: str
) -> list[tuple[Part, ...]]:
    """The parts of each turn: pictures at their marks, or all before the first human text."""
    marks = sum(text.count(IMAGE_MARK) for role, text in turns if role == "user")
    first = next((i for i, (role, _) in enumerate(turns) if role == "user"), None)
    if marks not in (0, len(images)) or (images and first is None):
        raise RowError(
            f"row {row_id}: {marks} {IMAGE_MARK} marks in human turns for {len(images)} images",
            reason="image_count",
            row_id=row_id,
        )
    if not marks:
        return [(*(images if i == first else ()), Text(text)) for i, (_, text) in enumerate(turns)]
    pictures = iter(images)
    return [
        _split_at_marks(text, pictures) if role == "user" else (Text(text),) for role, text in turns
    ]


def _split_at_marks(text: str, pictures: Iterator[Image]) -> tuple[Part, ...]:
    head, *rest = MARK.split(text)
    parts: list[Part] = [Text(head)] if head or not rest else []
    for piece in rest:
        parts.append(next(pictures))
        if piece:
            parts.append(Text(piece))
    return tuple(parts)


def write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows into a `.json` list, or a line each for any other name."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    is_list = file.suffix.lower() == ".json"
    text = "[" + ",\n".join(lines) + "]\n" if is_list else "\n".join(lines) + "\n"
    file.write_text(text, encoding="utf-8")


FORMAT = Format(
    name="llava_json",
    suffixes=(".json", ".jsonl"),
    refusal=refusal,
    values=values,
    convert=convert,
    write=write,
    fixture=Fixture(
        rows=(
            {
                "id": "000001",
                "image": "pictures/white.png",
                "conversations": [
                    {"from": "human", "value": "<image>\n何色ですか。"},
                    {"from": "gpt", "value": "白です。"},
                    {"from": "human", "value": "Is it large?"},
                    {"from": "gpt", "value": "No."},
                ],
            },
            {
                "id": 2,
                "image": ["pictures/white.png", "pictures/black.png"],
                "conversations": [
                    {"from": "system", "value": "短く答えてください。"},
                    {"from": "human", "value": "<image>と<image>の違いは?"},
                    {"from": "gpt", "value": "明るさです。"},
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
            (
                ("system", "短く答えてください。"),
                ("user", "との違いは?"),
                ("assistant", "明るさです。"),
            ),
        ),
        files={"pictures/white.png": tiny_png(6, 4), "pictures/black.png": tiny_png(5, 3, grey=0)},
    ),
)
