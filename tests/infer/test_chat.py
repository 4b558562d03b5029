from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import InputError, MissingFileError
from manako.infer.open import Model

Picture = Callable[[int, int], Image]


def test_turns_of_a_chat_answer_as_one_conversation_does(model: Model, picture: Picture) -> None:
    chat = model.start_chat(system="短く答えてください。")
    first = chat.send([picture(56, 56), "何ですか"], max_new_tokens=6)
    second = chat.send(["次は", picture(84, 28)], max_new_tokens=6)
    history = (
        Message("system", (Text("短く答えてください。"),)),
        Message("user", (picture(56, 56), Text("何ですか"))),
    )
    assert first == model.generate_content(Conversation(history), max_new_tokens=6)
    history += (
        Message("assistant", (Text(first.text),)),
        Message("user", (Text("次は"), picture(84, 28))),
    )
    assert second == model.generate_content(Conversation(history), max_new_tokens=6)
    assert chat.conversation.messages == (*history, Message("assistant", (Text(second.text),)))


def test_a_streamed_turn_is_a_turn(model: Model) -> None:
    sent, streamed = model.start_chat(), model.start_chat()
    for words in ("one", "two"):
        reply = sent.send(words, max_new_tokens=6)
        assert "".join(streamed.stream(words, max_new_tokens=6)) == reply.text
    assert sent.conversation == streamed.conversation


def test_a_turn_that_fails_or_is_left_leaves_no_trace(model: Model) -> None:
    chat = model.start_chat()
    chat.send("one", max_new_tokens=3)
    before = chat.conversation
    with pytest.raises(MissingFileError):
        chat.send([Path("/no/such.png"), "a"])
    with pytest.raises(InputError):
        chat.send("")
    with pytest.raises(InputError):
        chat.send("two", max_new_tokens=0)
    next(chat.stream("two", max_new_tokens=20))
    assert chat.conversation == before


def test_reset_forgets_all_but_the_system_turn(model: Model) -> None:
    chat = model.start_chat(system="be brief")
    first = chat.send("one", max_new_tokens=4)
    chat.reset()
    assert [turn.role for turn in chat.conversation.messages] == ["system"]
    assert chat.send("one", max_new_tokens=4) == first


def test_an_empty_system_turn_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match="system"):
        model.start_chat(system=" ")
