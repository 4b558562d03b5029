"""Answers are those of `transformers`' own `generate`, one by one or together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import BatchError, InputError
from manako.core.example import Pack
from manako.infer.open import Model
from manako.nn.batch import to_tensors

Picture = Callable[[int, int], Image]
TOKENS = 24


@pytest.fixture(scope="module")
def prompts(picture: Picture) -> list[list[Any]]:
    """Pictures before, between, after and without text; lengths from few tokens to many."""
    return [
        ["hello"],
        [picture(56, 56), "画像を説明してください。"],
        ["次の画像は何ですか。", picture(120, 40)],
        [
            picture(56, 84),
            "これは日本の画像です",
            picture(90, 45),
            "これはオーストリアの画像です",
            "違い",
        ],
        [picture(200, 100)],
        ["数えて: " + "1 2 3 " * 30],
        [picture(28, 112), picture(112, 28), picture(56, 56), "三枚?"],
    ]


@pytest.fixture(scope="module")
def alone(model: Model, prompts: list[list[Any]]) -> list[Any]:
    return [model.generate_content(prompt, max_new_tokens=TOKENS) for prompt in prompts]


def test_answers_differ_so_that_comparing_them_means_something(alone: list[Any]) -> None:
    assert len({reply.token_ids for reply in alone}) == len(alone)
    assert all(len(set(reply.token_ids)) > 4 for reply in alone)


@pytest.mark.parametrize("batch_size", [2, 3, 16])
def test_many_at_once_answer_as_one_by_one(
    model: Model, prompts: list[list[Any]], alone: list[Any], batch_size: int
) -> None:
    assert model.generate_batch(prompts, max_new_tokens=TOKENS, batch_size=batch_size) == alone


def test_rows_that_end_early_leave_the_others_as_they_were(
    model: Model, prompts: list[list[Any]], alone: list[Any]
) -> None:
    """Every row ends at a length of its own, so the batch shrinks again and again."""
    enders = tuple({reply.token_ids[place] for place, reply in enumerate(alone)})
    ending = replace(model, processor=replace(model.processor, end_ids=enders))  # type: ignore[type-var]
    expected = [ending.generate_content(prompt, max_new_tokens=TOKENS) for prompt in prompts]
    assert len({len(reply.token_ids) for reply in expected}) > 2
    assert ending.generate_batch(prompts, max_new_tokens=TOKENS) == expected


def test_greedy_is_transformers_generate_with_its_own_tokens_and_positions(
    model: Model, prompts: list[list[Any]], alone: list[Any]
) -> None:
    """Tokens from transformers' tokenizer and template, positions from its own rules."""
    reference = Qwen2VLForConditionalGeneration.from_pretrained(model.folder)
    for prompt, reply in zip(prompts, alone, strict=True):
        inputs = reference_inputs(model, prompt)
        with torch.no_grad():
            ids = reference.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        assert ids[0, inputs["input_ids"].shape[1] :].tolist() == list(reply.token_ids)


def test_a_repetition_penalty_of_the_checkpoint_counts_as_in_transformers(
    model: Model, prompts: list[list[Any]], alone: list[Any]
) -> None:
    reference = Qwen2VLForConditionalGeneration.from_pretrained(model.folder)
    penalised = replace(model, repetition_penalty=1.3)
    together = penalised.generate_batch(prompts, max_new_tokens=TOKENS)
    assert together != alone
    for prompt, reply in zip(prompts, together, strict=True):
        inputs = reference_inputs(model, prompt)
        with torch.no_grad():
            ids = reference.generate(
                **inputs, do_sample=False, max_new_tokens=TOKENS, repetition_penalty=1.3
            )
        assert ids[0, inputs["input_ids"].shape[1] :].tolist() == list(reply.token_ids)


def reference_inputs(model: Model, content: Sequence[Any]) -> dict[str, Any]:
    """Inputs as transformers' processor makes them; pixels are ours (law 6 compares those)."""
    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    parts = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
        for part in content
    ]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    example = model.processor.encode_prompt(Conversation.of(list(content)))
    pieces = text.split("<|image_pad|>")
    text = pieces[0]
    for image, piece in zip(example.images, pieces[1:], strict=True):
        text += "<|image_pad|>" * image.tokens + piece
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if example.images:
        pack = Pack(examples=(example,), pack_tokens=example.tokens)
        tensors = to_tensors(
            model.processor.model_inputs(pack),
            model.processor.pixel_rule,
            device="cpu",
            dtype=torch.float32,
        )
        inputs |= {name: tensors[name] for name in ("pixel_values", "image_grid_thw")}
        inputs["mm_token_type_ids"] = (ids == model.processor.image_token_id).long()
    return inputs


def test_pieces_joined_are_the_reply(
    model: Model, prompts: list[list[Any]], alone: list[Any]
) -> None:
    for prompt, reply in zip(prompts, alone, strict=True):
        stream = model.stream_content(prompt, max_new_tokens=TOKENS)
        pieces = list(stream)
        assert "".join(pieces) == reply.text
        assert all(pieces)
        assert stream.reply == reply


def test_a_stream_that_is_not_read_is_written_when_its_reply_is_asked(model: Model) -> None:
    stream = model.stream_content("hello", max_new_tokens=5)
    assert stream.reply == model.generate_content("hello", max_new_tokens=5)


def test_a_stream_refuses_a_bad_prompt_at_once(model: Model) -> None:
    with pytest.raises(InputError, match="empty"):
        model.stream_content("")


def test_stop_strings_cut_the_same_alone_together_and_streamed(
    model: Model, prompts: list[list[Any]], alone: list[Any]
) -> None:
    long = max(alone, key=lambda reply: len(reply.text))
    place = len(long.text) // 2
    stop = next(c for c in long.text[place:] if c != "\ufffd")
    singles = [
        model.generate_content(prompt, max_new_tokens=TOKENS, stop=stop) for prompt in prompts
    ]
    assert any(reply.finish_reason == "stop_string" for reply in singles)
    for reply, full in zip(singles, alone, strict=True):
        assert reply.text == full.text.split(stop)[0]
    assert model.generate_batch(prompts, max_new_tokens=TOKENS, stop=[stop]) == singles
    for prompt, reply in zip(prompts, singles, strict=True):
        stream = model.stream_content(prompt, max_new_tokens=TOKENS, stop=(stop,))
        assert "".join(stream) == reply.text
        assert stream.reply.finish_reason == reply.finish_reason


def test_the_end_of_turn_token_ends_an_answer_and_is_no_text(
    model: Model, alone: list[Any]
) -> None:
    third = alone[0].token_ids[2]
    ending = replace(model, processor=replace(model.processor, end_ids=(third,)))  # type: ignore[type-var]
    reply = ending.generate_content("hello", max_new_tokens=TOKENS)
    expected = alone[0].token_ids[: alone[0].token_ids.index(third) + 1]
    assert (reply.finish_reason, reply.token_ids) == ("stop", expected)
    assert reply.text == model.processor.parse(expected[:-1]).text
    assert reply.usage.completion_tokens == len(expected)


def test_drawing_repeats_with_a_seed_alone_and_together(
    model: Model, prompts: list[list[Any]], alone: list[Any]
) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 8, "temperature": 1.0, "top_p": 0.9}
    first = model.generate_batch(prompts, seed=7, batch_size=3, **settings)
    assert first == model.generate_batch(prompts, seed=7, batch_size=16, **settings)
    assert first == [
        model.generate_content(prompt, seed=7 + number, **settings)
        for number, prompt in enumerate(prompts)
    ]
    assert first != model.generate_batch(prompts, seed=8, **settings)
    same = model.generate_batch(["hello"] * 6, seed=0, **settings)
    assert len({reply.token_ids for reply in same}) > 1


def test_an_answer_ends_where_the_context_does(model: Model) -> None:
    words = "a" * 1980
    tokens = model.generate_content(words, max_new_tokens=1).usage.prompt_tokens
    reply = model.generate_content(words, max_new_tokens=500)
    assert reply.usage.prompt_tokens == tokens
    assert (reply.usage.completion_tokens, reply.finish_reason) == (
        model.context_tokens - tokens,
        "length",
    )


def test_usage_counts_image_tokens_and_every_written_token(model: Model, picture: Picture) -> None:
    asked = [picture(112, 56), "a"]
    reply = model.generate_content(asked, max_new_tokens=4)
    example = model.processor.encode_prompt(Conversation.of(asked))
    assert reply.usage.prompt_tokens == example.tokens
    assert reply.usage.completion_tokens == len(reply.token_ids)


def test_a_string_a_list_and_a_conversation_ask_the_same(model: Model) -> None:
    conversation = Conversation((Message("user", (Text("hello"),)),))
    replies = [
        model.generate_content(content, max_new_tokens=6)
        for content in ("hello", ["hello"], ("hello",), conversation, conversation.messages)
    ]
    assert len(set(replies)) == 1


def test_no_prompts_give_no_replies(model: Model) -> None:
    assert model.generate_batch([]) == []
    with pytest.raises(InputError, match="batch_size"):
        model.generate_batch(["a"], batch_size=0)


def test_progress_is_told_after_every_batch(model: Model) -> None:
    told: list[tuple[int, int]] = []
    model.generate_batch(
        ["a", "b", "c"], max_new_tokens=1, batch_size=2, progress=lambda *now: told.append(now)
    )
    assert told == [(2, 3), (3, 3)]


def test_other_picture_limits_change_what_is_seen(model: Model, picture: Picture) -> None:
    asked = [picture(200, 200), "a"]
    small = model.with_pixel_limits(max_pixels=28 * 28 * 4)
    few = small.generate_content(asked, max_new_tokens=1).usage.prompt_tokens
    assert few < model.generate_content(asked, max_new_tokens=1).usage.prompt_tokens


def test_a_processor_that_leaves_a_key_out_is_an_error(model: Model, picture: Picture) -> None:
    class Forgetful(type(model.processor)):  # type: ignore[misc]
        def image_inputs(self, images: Any) -> dict[str, Any]:
            made = super().image_inputs(images)
            del made["image_grid_thw"]
            return made  # type: ignore[no-any-return]

    fields = {name: getattr(model.processor, name) for name in model.processor.__dataclass_fields__}  # type: ignore[attr-defined]
    forgetful = replace(model, processor=Forgetful(**fields))
    with pytest.raises(BatchError, match="image_grid_thw"):
        forgetful.generate_content([picture(56, 56), "a"])
