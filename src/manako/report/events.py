"""The writing side: a conversation, its tokens and pictures as one event and its files.

A sample event (kind `sample`) of a record:

    number      place in the data set, from 0
    id, source  of the conversation
    messages    [{role, trained, parts: [{type: text, text} | {type: image, image: K}
                | {type: video, frames: N}]}]
    images      [{file, width, height, bytes, path?, seen?: {file, width, height, rows, columns,
                tokens}} | {error}]; K above points into this list, `width` and `height` are pixels
    tokens      only with a model: [{id, text, trained, control?, pieces?} | {image: K, id, count}]
                `pieces: n` on the first of n tokens that together make `text` (bytes of one
                character); the other n - 1 have an empty text
    lengths     only with a model: fields of `core.example.Lengths`, and `tokens`
    notes       what the template left out or changed
    refused     why the row cannot be encoded; then there are no tokens

A prediction event (kind `prediction`): `id`, `group` (kind of question), `messages` and `images` as
above (the prompt), `expected`, `answer`, `correct`, and `finish_reason` where it is known.

`file` is relative to the folder of the record and named by content, so a picture that several
events show is stored once, and no name from the data reaches the disk.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation, Image, Message, Text, Video
from manako.core.errors import ImageError, InputError, ManakoError
from manako.core.files import PARTIAL_MARK, write_error
from manako.core.record import write_record

if TYPE_CHECKING:
    from manako.core.example import Example, ImageInput
    from manako.core.family import Processor, Seen

RECORD_NAME = "record.jsonl"
PICTURES_FOLDER = "pictures"
MAX_PIECES = 8
"""Tokens tried together when bytes make no whole character; four bytes are the longest character."""
CONTROL_TOKEN = re.compile(r"<\|[^|<>]+\|>|</?s>|<(bos|eos|pad|unk|(start|end)_of_\w+)>|\[/?INST\]")
"""Common spellings of control tokens, used where the caller does not say which ids they are."""
BYTES_OF_KIND = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"RIFF", "webp"),
)


@dataclass(frozen=True)
class Entry:
    """An event, and the files it names: path relative to the record's folder → bytes."""

    event: dict[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Encoded:
    """What a processor made of a conversation, in the words that a page shows.

    texts: one per token of `example`. decode: text of several ids together, so that bytes that
    make one character are shown as that character. control_ids: ids of control tokens; None
    recognises the common spellings.
    """

    example: Example
    texts: Sequence[str]
    seen: Sequence[Seen] = ()
    decode: Callable[[Sequence[int]], str] | None = None
    control_ids: frozenset[int] | None = None


def sample_entry(
    conversation: Conversation,
    *,
    number: int,
    encoded: Encoded | None = None,
    refused: str = "",
) -> Entry:
    """The sample event of one conversation, with its pictures."""
    event, files = _conversation_fields("sample", conversation)
    event["number"] = number
    if refused:
        event["refused"] = refused
    if encoded is not None:
        _add_seen(event["images"], files, encoded)
        example = encoded.example
        event["tokens"] = token_events(encoded)
        event["lengths"] = {"tokens": example.tokens, **asdict(example.lengths)}
        event["notes"] = list(example.notes)
    return Entry(event, files)


def encode_sample(conversation: Conversation, processor: Processor, *, number: int) -> Entry:
    """The sample event as `processor` encodes it; a row that it refuses says why instead."""
    try:
        example = processor.encode(conversation)
        encoded = Encoded(
            example,
            processor.token_texts(example.input_ids.tolist()),
            [processor.see(image) for image in conversation.images],
            decode=lambda ids: processor.parse(ids).text,
        )
    except ManakoError as error:
        return sample_entry(conversation, number=number, refused=str(error))
    return sample_entry(conversation, number=number, encoded=encoded)


def prediction_entry(
    prompt: Conversation,
    *,
    group: str,
    expected: str,
    answer: str,
    correct: bool,
    finish_reason: str = "",
) -> Entry:
    """The prediction event of one question; `group` is its kind, by which pages filter."""
    event, files = _conversation_fields("prediction", prompt)
    event |= {"group": group, "expected": expected, "answer": answer, "correct": correct}
    if finish_reason:
        event["finish_reason"] = finish_reason
    return Entry(event, files)


def write_entries(
    folder: Path, entries: Iterable[Entry], *, verb: str, name: str = RECORD_NAME, **header: Any
) -> Path:
    """Write pictures, then the record that names them, into `folder`; the record's path."""
    events = []
    for entry in entries:
        for file, data in entry.files.items():
            _write_once(folder / file, data)
        events.append(entry.event)
    path = folder / name
    write_record(path, verb, events, **header)
    return path


def token_events(encoded: Encoded) -> list[dict[str, Any]]:
    """Tokens in order; each run of image tokens is one entry with its `count`."""
    example = encoded.example
    ids = example.input_ids.tolist()
    if len(encoded.texts) != len(ids):
        raise InputError(f"{len(encoded.texts)} token texts for {len(ids)} tokens")
    picture_of = _picture_of_token(ids, example.images)
    texts, pieces = _whole_characters(ids, encoded.texts, picture_of, encoded.decode)
    events: list[dict[str, Any]] = []
    for place, token_id in enumerate(ids):
        if place in picture_of:
            _count_image_token(events, picture_of[place], token_id)
            continue
        is_trained = bool(example.trained[place])
        event: dict[str, Any] = {"id": token_id, "text": texts[place], "trained": is_trained}
        if _is_control(token_id, texts[place], encoded.control_ids):
            event["control"] = True
        if place in pieces:
            event["pieces"] = pieces[place]
        events.append(event)
    return events


def _count_image_token(events: list[dict[str, Any]], picture: int, token_id: int) -> None:
    last = events[-1] if events else {}
    if last.get("image") == picture and last["id"] == token_id:
        last["count"] += 1
    else:
        events.append({"image": picture, "id": token_id, "count": 1})


def _is_control(token_id: int, text: str, control_ids: frozenset[int] | None) -> bool:
    if control_ids is not None:
        return token_id in control_ids
    return CONTROL_TOKEN.fullmatch(text) is not None


def _picture_of_token(ids: list[int], images: Sequence[ImageInput]) -> dict[int, int]:
    """Place of each image token → number of its picture; marks between them stay text."""
    picture_of = {}
    for number, image in enumerate(images):
        left, place = image.tokens, image.start
        image_id = ids[image.start] if image.tokens else -1
        while left and place < len(ids):
            if ids[place] == image_id:
                picture_of[place] = number
                left -= 1
            place += 1
    return picture_of


def _whole_characters(
    ids: list[int],
    texts: Sequence[str],
    picture_of: Mapping[int, int],
    decode: Callable[[Sequence[int]], str] | None,
) -> tuple[list[str], dict[int, int]]:
    """Texts in which bytes of one character stand as that character on their first token.

    Also the place of each such first token → how many tokens it takes together.
    """
    joined, pieces, place = list(texts), {}, 0
    while place < len(ids):
        count = _pieces_at(place, ids, texts, picture_of, decode) if decode else 1
        if count > 1 and decode:
            joined[place] = decode(ids[place : place + count])
            joined[place + 1 : place + count] = [""] * (count - 1)
            pieces[place] = count
        place += count
    return joined, pieces


def _pieces_at(
    place: int,
    ids: list[int],
    texts: Sequence[str],
    picture_of: Mapping[int, int],
    decode: Callable[[Sequence[int]], str],
) -> int:
    """Tokens from `place` that together make whole characters; 1 when none do or one is enough."""
    if "\ufffd" not in texts[place]:
        return 1
    for count in range(2, min(MAX_PIECES, len(ids) - place) + 1):
        end = place + count - 1
        if end in picture_of or "\ufffd" not in texts[end]:
            return 1
        text = decode(ids[place : place + count])
        if text and "\ufffd" not in text:
            return count
    return 1


def _conversation_fields(
    kind: str, conversation: Conversation
) -> tuple[dict[str, Any], dict[str, bytes]]:
    files: dict[str, bytes] = {}
    images = [_image_event(image, files) for image in conversation.images]
    messages, place = [], 0
    for message in conversation.messages:
        messages.append(_message_event(message, first_image=place))
        place += len(message.images)
    event = {
        "kind": kind,
        "id": conversation.id,
        "source": conversation.source,
        "messages": messages,
        "images": images,
    }
    return event, files


def _message_event(message: Message, *, first_image: int) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, Text):
            parts.append({"type": "text", "text": part.text})
        elif isinstance(part, Video):
            parts.append({"type": "video", "frames": len(part.frames)})
        else:
            parts.append({"type": "image", "image": first_image})
            first_image += 1
    return {"role": message.role, "trained": message.is_trained, "parts": parts}


def _image_event(image: Image, files: dict[str, bytes]) -> dict[str, Any]:
    try:
        width, height = image.size
    except ImageError as error:
        return {"error": error.message}
    file = _add_file(files, image.data)
    event = {"file": file, "width": width, "height": height, "bytes": len(image.data)}
    return event | ({"path": image.path} if image.path else {})


def _add_seen(images: list[dict[str, Any]], files: dict[str, bytes], encoded: Encoded) -> None:
    for event, seen, cost in zip(images, encoded.seen, encoded.example.images, strict=True):
        height, width = seen.pixels.shape[:2]
        event["seen"] = {
            "file": _add_file(files, _png(seen)),
            "width": width,
            "height": height,
            "rows": seen.rows,
            "columns": seen.columns,
            "tokens": cost.tokens,
        }


def _png(seen: Seen) -> bytes:
    from PIL import Image as PillowImage

    buffer = io.BytesIO()
    PillowImage.fromarray(seen.pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _add_file(files: dict[str, bytes], data: bytes) -> str:
    kind = next((kind for start, kind in BYTES_OF_KIND if data.startswith(start)), "bin")
    file = f"{PICTURES_FOLDER}/{hashlib.sha256(data).hexdigest()[:20]}.{kind}"
    files[file] = data
    return file


def _write_once(path: Path, data: bytes) -> None:
    """Write a picture unless it is there: its name tells its content, its size that it is whole.

    Renamed into place but not flushed one by one, which takes longer than all the rest where there
    are hundreds: the record that names them comes last, and the same command makes them again.
    """
    try:
        if path.is_file() and path.stat().st_size == len(data):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}{PARTIAL_MARK}{os.getpid()}")
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise write_error(path, error) from error
