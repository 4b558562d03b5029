"""The conversation: what becomes text, what becomes a picture, and what is refused."""

from __future__ import annotations

import base64
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from manako.core.conversation import Conversation, Image, Message, Text, Video, parts_of
from manako.core.errors import ImageError, InputError, MissingFileError, NotInThisVersion


def png(width: int = 5, height: int = 3) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    path = tmp_path / "絵.png"
    path.write_bytes(png())
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path,
        lambda path: path.read_bytes(),
        lambda path: bytearray(path.read_bytes()),
        Pillow.open,
        lambda path: np.asarray(Pillow.open(path)),
        lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
        Image.of,
    ],
    ids=["path", "bytes", "bytearray", "pil", "array", "data url", "image"],
)
def test_a_picture_in_any_form_is_one_part_alone_or_in_a_list(
    picture_file: Path, make: Any
) -> None:
    alone = parts_of(make(picture_file))
    listed = parts_of(["これは?", make(picture_file)])
    assert len(alone) == 1
    assert isinstance(alone[0], Image)
    assert alone[0].size == (5, 3)
    assert listed == (Text("これは?"), alone[0])


def test_a_string_in_a_list_is_always_text(picture_file: Path) -> None:
    assert parts_of([str(picture_file)]) == (Text(str(picture_file)),)


def test_image_of_a_string_is_a_file_and_never_text(picture_file: Path) -> None:
    assert Image.of(str(picture_file)).path == str(picture_file)
    with pytest.raises(MissingFileError, match="no such image file: 絵はどこ"):
        Image.of("絵はどこ")
    with pytest.raises(MissingFileError):
        Image.of("あ" * 5000)  # longer than any file name may be
    with pytest.raises(MissingFileError):
        Image.of(picture_file.parent)


@pytest.mark.parametrize("thing", [3, {"type": "text"}, object(), np.zeros((2, 2, 2, 2), np.uint8)])
def test_what_is_no_picture_is_refused(thing: Any) -> None:
    with pytest.raises(ImageError):
        parts_of([thing])


def test_a_mapping_is_not_read_as_its_keys() -> None:
    with pytest.raises(ImageError, match="dict"):
        parts_of({"type": "text", "text": "a"})


def test_data_url_with_broken_base64_and_urls_are_refused() -> None:
    with pytest.raises(ImageError, match="base64"):
        Image.of("data:image/png;base64,@@@")
    with pytest.raises(NotInThisVersion):
        Image.of("https://example.org/a.png")


def test_images_are_equal_by_content_not_by_name() -> None:
    assert Image(png(), path="a") == Image(png(), path="b")
    assert Image(png(5, 3)) != Image(png(3, 5))
    assert len({Image(png(), path="a"), Image(png(), path="b")}) == 1


def test_roles_and_training_are_checked() -> None:
    with pytest.raises(InputError, match="role 'robot'"):
        Message("robot", "x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="only assistant turns"):
        Message("user", "x", train=True)  # type: ignore[arg-type]
    assert Message("assistant", "x").is_trained  # type: ignore[arg-type]
    assert not Message("assistant", "x", train=False).is_trained  # type: ignore[arg-type]
    assert not Message("user", "x").is_trained  # type: ignore[arg-type]


def test_text_must_be_text_and_videos_need_times() -> None:
    with pytest.raises(InputError, match="int"):
        Text(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one time per frame"):
        Video((Image(png()),), ())


def test_a_conversation_survives_pickling_and_cannot_be_changed() -> None:
    conversation = Conversation(
        (Message("user", (Image(png()), Text("何?"))), Message("assistant", (Text("赤"),))),
        id="a",
        source="s",
        meta={"k": [1, None]},
    )
    again = pickle.loads(pickle.dumps(conversation))  # noqa: S301 (our own bytes)
    assert again == conversation
    assert hash(again) == hash(conversation)
    with pytest.raises(TypeError):
        conversation.meta["k"] = 2  # type: ignore[index]
    with pytest.raises(AttributeError):
        conversation.id = "b"  # type: ignore[misc]


def test_of_takes_parts_messages_and_conversations() -> None:
    message = Message("user", (Text("a"),))
    conversation = Conversation((message,))
    assert Conversation.of("a") == conversation
    assert Conversation.of(["a"]) == conversation
    assert Conversation.of([message]) == conversation
    assert Conversation.of(conversation) is conversation


def test_last_trained_is_the_last_answer_that_counts() -> None:
    user, answer = Message("user", (Text("q"),)), Message("assistant", (Text("a"),))
    muted = Message("assistant", (Text("b"),), train=False)
    assert Conversation((user, answer, user, muted)).last_trained == 1
    assert Conversation((user, muted)).last_trained is None
