"""Rows longer than a pack: one policy, the same in `measure` and `encode`, and nothing torn."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loader_fakes import FakeImages
from PIL import Image as PillowImage

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import RowError, TooLongError
from manako.core.recipe import TooLong
from manako.data.too_long import Fitted


def picture(width: int, height: int) -> Image:
    buffer = io.BytesIO()
    PillowImage.new("1", (width, height)).save(buffer, format="PNG")
    return Image(buffer.getvalue())


BIG, SMALL = picture(100, 90), picture(40, 10)


def row(*content: Any, answer: str = "answer", system: str = "") -> Conversation:
    messages = [Message("system", (Text(system),))] if system else []
    messages += [Message("user", content), Message("assistant", (Text(answer),))]
    return Conversation(tuple(messages), id="r")


def fitted(policy: TooLong, pack_tokens: int, processor: FakeImages | None = None) -> Fitted:
    return Fitted(
        processor=processor or FakeImages(),  # type: ignore[arg-type]
        pack_tokens=pack_tokens,
        policy=policy,
    )


@pytest.mark.parametrize("policy", ["error", "drop", "shrink_images", "trim_text"])
def test_a_row_that_fits_is_left_alone(policy: TooLong) -> None:
    conversation = row(BIG, Text("question"))
    plain = FakeImages().encode(conversation)
    example = fitted(policy, plain.tokens).encode(conversation)
    assert (example.tokens, example.notes) == (plain.tokens, ())


def test_error_stops_the_run_and_names_the_row() -> None:
    with pytest.raises(TooLongError, match="row r has 104 tokens, above the 50") as found:
        fitted("error", 50).measure(row(BIG, Text("question")))
    assert found.value.row_id == "r"
    assert "too_long" in found.value.next_step


@pytest.mark.parametrize("verb", ["measure", "encode"])
def test_drop_refuses_the_row_alone(verb: str) -> None:
    with pytest.raises(RowError, match="too_long: drop") as found:
        getattr(fitted("drop", 50), verb)(row(BIG, Text("question")))
    assert not isinstance(found.value, TooLongError)
    assert (found.value.reason, found.value.row_id) == ("too_long", "r")


def test_pictures_shrink_to_the_largest_limit_that_fits() -> None:
    """14 tokens of text leave 36 of 50 for the pictures: 4 for the small, 32 for the large."""
    conversation = row(BIG, SMALL, Text("question"))
    example = fitted("shrink_images", 50).encode(conversation)
    assert example.tokens == 50
    assert example.notes == ("pictures limited to 3299 pixels each to fit a pack",)
    assert fitted("shrink_images", 50).measure(conversation).tokens == 50


@given(st.integers(1, 120))
def test_shrunk_rows_fit_or_are_refused_and_one_more_pixel_would_not_do(pack_tokens: int) -> None:
    conversation = row(BIG, SMALL, Text("question"))
    processor = FakeImages()
    least = processor.with_pixel_limits(min_pixels=None, max_pixels=processor.least_pixels)
    if least.measure(conversation).tokens > pack_tokens:
        with pytest.raises(RowError, match="too_long: shrink_images"):
            fitted("shrink_images", pack_tokens).encode(conversation)
        return
    example = fitted("shrink_images", pack_tokens).encode(conversation)
    assert example.tokens <= pack_tokens
    if example.notes:
        limit = int(example.notes[0].split()[3])
        above = processor.with_pixel_limits(min_pixels=None, max_pixels=limit + 1)
        assert above.measure(conversation).tokens > pack_tokens


def test_text_that_is_too_long_by_itself_is_no_matter_of_pictures() -> None:
    with pytest.raises(RowError, match="too_long: shrink_images"):
        fitted("shrink_images", 50).measure(row(SMALL, Text("q" * 200)))
    with pytest.raises(RowError, match="too_long: shrink_images"):
        fitted("shrink_images", 50).measure(row(Text("q" * 200)))


def test_the_end_of_the_longest_untrained_text_is_cut() -> None:
    conversation = row(SMALL, Text("abc" * 20), Text("stays"), answer="answer", system="system")
    seen: list[Conversation] = []

    class Seeing(FakeImages):
        def encode(self, conversation: Conversation) -> Any:
            seen.append(conversation)
            return super().encode(conversation)

    example = fitted("trim_text", 50, Seeing()).encode(conversation)
    assert example.tokens == 50
    assert example.notes == ("text cut after 29 of 60 characters to fit a pack",)
    assert seen[0].messages[0] == conversation.messages[0]
    assert seen[0].messages[2] == conversation.messages[2]
    assert seen[0].messages[1].content == (SMALL, Text(("abc" * 20)[:29]), Text("stays"))


def test_answers_and_pictures_are_never_cut() -> None:
    long_answer = row(SMALL, Text("question"), answer="a" * 100)
    with pytest.raises(RowError, match="too_long: trim_text"):
        fitted("trim_text", 50).measure(long_answer)
    with pytest.raises(RowError, match="too_long: trim_text"):
        fitted("trim_text", 50).measure(row(BIG, Text("question")))


def test_a_text_is_not_cut_to_nothing() -> None:
    with pytest.raises(RowError, match="too_long: trim_text"):
        fitted("trim_text", 6).measure(row(Text("question")))
    assert fitted("trim_text", 7).measure(row(Text("question"))).tokens == 7


def test_an_answer_that_is_not_trained_may_be_cut() -> None:
    context = Message("assistant", (Text("c" * 100),), train=False)
    last = Message("assistant", (Text("answer"),))
    conversation = Conversation((context, Message("user", (Text("q"),)), last), id="r")
    assert fitted("trim_text", 50).measure(conversation).tokens == 50


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("か\u3099" * 40, "か\u3099"),  # a voicing mark that stands alone
        ("👩\u200d🔬" * 40, "👩\u200d🔬"),  # joined into one picture
        ("葛\U000e0100" * 40, "葛\U000e0100"),  # a kanji and the variant that is meant
        ("☺\ufe0f" * 40, "☺\ufe0f"),
        ("👋🏽" * 40, "👋🏽"),
    ],
    ids=["voicing mark", "joined emoji", "kanji variant", "emoji variant", "skin tone"],
)
@pytest.mark.parametrize("pack_tokens", [30, 31, 32])
def test_no_character_is_torn(text: str, whole: str, pack_tokens: int) -> None:
    processor = fitted("trim_text", pack_tokens)
    found = processor._fit(row(Text(text))).conversation.messages[0].text
    assert found
    assert found.replace(whole, "") == ""


def test_it_can_be_sent_to_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(fitted("drop", 50)))  # noqa: S301 - made the line before
    assert copy == fitted("drop", 50)
    assert copy.fingerprint == {}


def test_with_a_real_processor_measure_and_encode_agree(tiny_qwen: Any) -> None:
    from manako.families.qwen2_vl import FAMILY

    processor = FAMILY.open(tiny_qwen)
    conversation = row(picture(400, 300), Text("何が見えますか。" * 5), answer="猫です。")
    whole = processor.measure(conversation).tokens
    for policy in ("shrink_images", "trim_text"):
        policy_fitted = Fitted(processor=processor, pack_tokens=whole - 15, policy=policy)
        example = policy_fitted.encode(conversation)
        assert example.tokens == policy_fitted.measure(conversation).tokens <= whole - 15
        assert example.notes
        assert example.lengths.trained_tokens == processor.measure(conversation).trained_tokens
