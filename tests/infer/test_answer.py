from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.infer import answer as answers
from manako.infer.answer import Answer

END = -1


def make(chunks: Sequence[bytes], **changes: object) -> Answer:
    """An answer whose token i stands for the bytes `chunks[i]`, as in a byte-level tokenizer."""

    def decode(ids: Sequence[int]) -> str:
        return b"".join(chunks[i] for i in ids).decode("utf-8", "replace")

    options = {"prompt_tokens": 3, "max_new_tokens": 1000, "end_ids": (END,), **changes}
    return Answer(decode, **options)  # type: ignore[arg-type]


def write(answer: Answer, ids: Sequence[int]) -> list[str]:
    """Feed tokens until the answer ends; its pieces."""
    pieces = []
    for token_id in ids:
        answer.take(token_id)
        pieces.append(answer.piece())
        if answer.finish_reason:
            break
    return pieces


texts = st.text(alphabet="abあ眼𠮷👋\n", max_size=30)
cuts = st.lists(st.integers(1, 4), max_size=60)


def cut_up(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    chunks, place = [], 0
    for length in lengths:
        chunks.append(data[place : place + length])
        place += length
    return [chunk for chunk in [*chunks, data[place:]] if chunk]


@given(text=texts, lengths=cuts)
def test_pieces_never_split_a_character_and_join_to_the_text(text: str, lengths: list[int]) -> None:
    chunks = cut_up(text.encode(), lengths)
    answer = make(chunks, follow=True)
    pieces = write(answer, [*range(len(chunks)), END])
    assert "".join(pieces) == text == answer.text
    assert not any("\ufffd" in piece for piece in pieces)
    assert answer.finish_reason == "stop"


@given(chunks=st.lists(st.binary(min_size=1, max_size=5), max_size=40))
def test_bytes_that_are_no_text_come_out_as_the_whole_answer_would(chunks: list[bytes]) -> None:
    answer = make(chunks, follow=True)
    pieces = write(answer, [*range(len(chunks)), END])
    assert "".join(pieces) == b"".join(chunks).decode("utf-8", "replace")


@settings(max_examples=200)
@given(
    text=st.text(alphabet="abcあ", max_size=40),
    lengths=cuts,
    stops=st.lists(st.text(alphabet="abcあ", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_stop_strings_end_the_text_before_them(
    text: str, lengths: list[int], stops: list[str]
) -> None:
    chunks = cut_up(text.encode(), lengths)
    answer = make(chunks, stops=stops, follow=True)
    pieces = write(answer, [*range(len(chunks)), END])
    expected, used = text, len(chunks) + 1
    for count in range(1, len(chunks) + 1):
        known = b"".join(chunks[:count]).decode("utf-8", "replace")
        found = [place for stop in stops if (place := known.find(stop)) >= 0]
        if found:
            expected, used = known[: min(found)], count
            break
    assert "".join(pieces) == expected
    assert len(answer.token_ids) == used
    assert (answer.finish_reason == "stop_string") == (used <= len(chunks))


def test_a_long_answer_is_decoded_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_WINDOW_TOKENS", 6)
    text = "眼は心の窓👋です。" * 30
    chunks = cut_up(text.encode(), [1, 2, 3] * 200)
    decoded: list[int] = []

    def decode(ids: Sequence[int]) -> str:
        decoded.append(len(ids))
        return b"".join(chunks[i] for i in ids).decode("utf-8", "replace")

    answer = Answer(decode, prompt_tokens=1, max_new_tokens=10**6, end_ids=(END,), follow=True)
    pieces = write(answer, [*range(len(chunks)), END])
    assert "".join(pieces) == text
    assert len(chunks) > 300
    assert max(decoded) < 40  # between two 👋 no token begins where a character does


def test_the_reply_says_why_it_ended_and_what_it_cost() -> None:
    ended = make([b"a", b"b"])
    write(ended, [0, 1, END])
    reply = ended.reply()
    assert (reply.text, reply.token_ids, reply.finish_reason) == ("ab", (0, 1, END), "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 3)
    assert str(reply) == "ab"

    short = make([b"a", b"b"], max_new_tokens=2)
    write(short, [0, 1, END])
    assert short.reply().finish_reason == "length"


def test_a_stop_string_on_the_last_token_counts_before_the_length() -> None:
    answer = make([b"a", b"b"], max_new_tokens=2, stops=("b",))
    write(answer, [0, 1])
    assert (answer.text, answer.finish_reason) == ("a", "stop_string")
