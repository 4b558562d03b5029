"""generate and chat, with a model that repeats what it was shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_makers import Call, png

from manako.core.conversation import Conversation, Image, Text
from manako.core.errors import InputError


class Parrot:
    """Answers with the parts of the last turn; pictures as ▣. `seen` keeps every prompt."""

    notes = ("on a perch",)

    def __init__(self) -> None:
        self.seen: list[Conversation] = []
        self.settings: dict[str, Any] = {}

    def generate_content(self, prompt: Conversation, **settings: Any) -> Any:
        self.seen.append(prompt)
        self.settings = settings
        words = [part.text if isinstance(part, Text) else "▣" for part in last(prompt)]
        usage = SimpleNamespace(prompt_tokens=7, completion_tokens=3)
        return SimpleNamespace(text="|".join(words), finish_reason="length", usage=usage)

    def stream_content(self, prompt: Conversation, **settings: Any) -> Any:
        reply = self.generate_content(prompt, **settings)

        class Stream:
            def __iter__(self) -> Iterator[str]:
                return iter(reply.text)

        stream: Any = Stream()
        stream.reply = reply
        return stream

    def start_chat(self, system: str | None = None) -> Any:
        from manako.infer.chat import Chat

        return Chat(self, system=system)  # type: ignore[arg-type]


def last(prompt: Conversation) -> tuple[Any, ...]:
    return prompt.messages[-1].content


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Parrot:
    (tmp_path / "a.png").write_bytes(png(8, 4))
    (tmp_path / "b.png").write_bytes(png(4, 8))
    found = Parrot()
    monkeypatch.setattr("manako.verbs.run.load", lambda source, adapter=None: found)
    return found


def test_parts_reach_the_model_in_order(call: Call, parrot: Parrot) -> None:
    result = call("generate", "m", "@a.png", "日本です", "@b.png", "@@x", "違いは?")
    assert result.stdout == "▣|日本です|▣|@x|違いは?\n"
    kinds = [type(part) for part in last(parrot.seen[0])]
    assert kinds == [Image, Text, Image, Text, Text]


def test_a_cut_answer_is_said_to_be_cut(call: Call, parrot: Parrot) -> None:
    assert "--max-new-tokens" in call("generate", "m", "x").stderr


def test_settings_and_system_reach_the_model(call: Call, parrot: Parrot) -> None:
    call(
        "generate", "m", "x", "--temperature", 0.5, "--stop", "。", "--seed", 3, "--system", "短く"
    )
    assert parrot.settings == {
        "max_new_tokens": 256,
        "temperature": 0.5,
        "top_p": 1.0,
        "stop": ("。",),
        "seed": 3,
    }
    assert parrot.seen[0].messages[0].role == "system"


def test_an_answer_as_json(call: Call, parrot: Parrot) -> None:
    found = json.loads(call("generate", "m", "はい", "--json").stdout)
    assert found == {
        "text": "はい",
        "finish_reason": "length",
        "prompt_tokens": 7,
        "completion_tokens": 3,
    }


def test_a_missing_picture_is_an_error_before_the_model_is_opened(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("manako.verbs.run.load", load)
    result = call("generate", "m", "@nothing.png", "x")
    assert result.exit_code == 2
    assert "nothing.png" in result.stderr


def test_chat_remembers_and_takes_pictures_in_place(call: Call, parrot: Parrot) -> None:
    lines = "一行目\n見て @a.png これ\n/image b.png\n何色?\n/quit\nnever\n"
    result = call("chat", "m", input=lines)
    assert result.stdout == "一行目\n見て|▣|これ\n▣|何色?\n"
    assert [len(prompt.messages) for prompt in parrot.seen] == [1, 3, 5]


def test_chat_as_json_is_a_line_per_answer(call: Call, parrot: Parrot) -> None:
    lines = call("chat", "m", "--json", input="a\nb\n").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a", "b"]


def test_chat_says_what_it_cannot_use_and_goes_on(call: Call, parrot: Parrot) -> None:
    lines = b"/fly\n@nothing.png \n\xff\xfe\n\nok\n"
    result = call("chat", "m", input=lines)
    assert result.exit_code == 0
    assert "/fly" in result.stderr
    assert "nothing.png" in result.stderr
    assert "UTF-8" in result.stderr
    assert result.stdout == "ok\n"


def test_chat_forgets_when_told(call: Call, parrot: Parrot) -> None:
    call("chat", "m", "--system", "短く", input="a\n/image a.png\n/reset\nb\n")
    assert [message.role for message in parrot.seen[-1].messages] == ["system", "user"]
    assert last(parrot.seen[-1]) == (Text("b"),)


def test_a_turn_that_fails_keeps_the_picture_that_waits(
    call: Call, parrot: Parrot, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = parrot.stream_content
    failures = iter([InputError("too long"), None])

    def stream(prompt: Conversation, **settings: Any) -> Any:
        if (error := next(failures)) is not None:
            raise error
        return whole(prompt, **settings)

    monkeypatch.setattr(parrot, "stream_content", stream)
    result = call("chat", "m", input="/image a.png\nx\nagain\n")
    assert "too long" in result.stderr
    assert result.stdout == "▣|again\n"
