"""Where an answer begins, for templates whose prompt is not how they write history."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from manako.core.conversation import Conversation, Message
from manako.core.errors import RowError
from manako.core.family import Processor
from manako.families._shared.layout import LayoutMaker
from manako.families._shared.text_tokenizer import TextTokenizer
from manako.families._shared.tiny import sentencepiece_tokenizer
from manako.families.qwen2_vl import FAMILY
from manako.verify._subject import Subject
from manako.verify.runner import laws

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for p in m.content %}{{ p.text }}{% endfor %}<|im_end|>\n{% endfor %}"
)
THINKS_FIRST = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
"""The prompt opens a thought that the template never writes into history."""
FORGETS = (
    "{% if add_generation_prompt %}{% set messages = messages[-1:] %}{% endif %}"
    + TURNS
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The prompt leaves all turns but the last out."""

MOVES_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    "{% if loop.last and m.role == 'user' and messages[0].role == 'system' %}"
    "{{ messages[0].content[0].text }}\n\n{% endif %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Mistral's: the system text stands before the last question, until it is answered."""


def opened(tiny_qwen: Path, folder: Path, template: str) -> Processor:
    shutil.copytree(tiny_qwen, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return FAMILY.open(folder)


def talk(*texts: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(
        tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)),  # type: ignore[arg-type]
        id="row",
    )


def test_the_last_answer_is_spliced_to_the_prompt_it_will_be_asked_with(
    tiny_qwen: Path, tmp_path: Path
) -> None:
    processor = opened(tiny_qwen, tmp_path / "thinks", THINKS_FIRST)
    row = talk("question one", "answer one", "question two", "answer two")
    example = processor.encode(row)
    prompt = processor.encode_prompt(Conversation(row.messages[:-1])).input_ids
    assert np.array_equal(example.input_ids[: len(prompt)], prompt)
    assert example.trained[len(prompt)]
    assert "last answer spliced" in example.notes
    runs = processor.token_texts(example.input_ids[example.trained].tolist())
    assert "".join(runs) == "answer one<|im_end|>answer two<|im_end|>"
    assert "".join(processor.token_texts(prompt.tolist())).endswith("<think>\n")


def test_a_prompt_that_leaves_earlier_words_out_is_refused(tiny_qwen: Path, tmp_path: Path) -> None:
    processor = opened(tiny_qwen, tmp_path / "forgets", FORGETS)
    with pytest.raises(RowError, match=r"leaves out words|changes the words") as caught:
        processor.encode(talk("question one", "answer one", "question two", "answer two"))
    assert caught.value.reason == "template_changes_words"


def test_a_system_text_that_only_the_prompt_shows_is_in_the_training_example(
    tiny_qwen: Path, tmp_path: Path
) -> None:
    processor = opened(tiny_qwen, tmp_path / "moves", MOVES_SYSTEM)
    row = talk("question one", "answer one", "question two", "answer two")
    row = Conversation((Message("system", "be brief"), *row.messages), id="row")
    example = processor.encode(row)
    assert example.notes == ("last answer spliced",)
    shown = "".join(processor.token_texts(example.input_ids.tolist()))
    assert shown.index("answer one") < shown.index("be brief\n\nquestion two")
    runs = processor.token_texts(example.input_ids[example.trained].tolist())
    assert "".join(runs) == "answer one<|im_end|>answer two<|im_end|>"


def test_a_system_text_that_nothing_shows_is_refused(tiny_qwen: Path, tmp_path: Path) -> None:
    processor = opened(tiny_qwen, tmp_path / "moves", MOVES_SYSTEM)
    asked = Message("user", "question")
    answer = Message("assistant", "answer", train=False)
    trained = Message("assistant", "first")
    row = Conversation((Message("system", "be brief"), asked, trained, asked, answer), id="row")
    with pytest.raises(RowError, match="leaves the words out of turn 0"):
        processor.encode(row)


NO_END = (
    "{% for m in messages %}{{ m.role.upper() }}: "
    "{% for p in m.content %}{% if p.type == 'image' %}<|image_pad|>"
    "{% else %}{{ p.text }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""As LLaVA 1.5's: no token ends a turn."""


def test_an_answer_that_the_template_does_not_end_is_ended_by_the_family(
    tiny_qwen: Path, tmp_path: Path
) -> None:
    processor: Any = opened(tiny_qwen, tmp_path / "no_end", NO_END)
    row = talk("one", "first", "two", "second\nline")
    with pytest.raises(RowError, match="writes no end-of-turn token after turn 1"):
        processor.encode(row)
    processor = FAMILY.open(tmp_path / "no_end")
    processor.maker.end_token = "<|im_end|>"
    example = processor.encode(row)
    shown = "".join(processor.token_texts(example.input_ids.tolist()))
    assert shown == ("USER: one ASSISTANT: first USER: two ASSISTANT: second\nline<|im_end|> ")
    trained = "".join(processor.token_texts(example.input_ids[example.trained].tolist()))
    assert trained == " first second\nline<|im_end|>"
    assert example.notes == ("end of turn appended",)
    prompt = processor.encode_prompt(Conversation(row.messages[:-1])).input_ids
    assert np.array_equal(example.input_ids[: len(prompt)], prompt)


def test_no_end_is_appended_where_the_template_writes_one_or_nothing_is_trained_last(
    tiny_qwen: Path, tmp_path: Path
) -> None:
    processor: Any = FAMILY.open(tiny_qwen)
    row = talk("one", "first")
    expected = processor.encode(row).input_ids.tolist()
    processor = FAMILY.open(tiny_qwen)
    processor.maker.end_token = "<|endoftext|>"
    assert processor.encode(row).input_ids.tolist() == expected
    processor = opened(tiny_qwen, tmp_path / "no_end", NO_END)
    processor.maker.end_token = "<|im_end|>"
    first = talk("one", "first").messages
    untrained = Conversation((*first, Message("user", "x"), Message("assistant", "y", train=False)))
    example = processor.encode(untrained)
    assert "".join(processor.token_texts(example.input_ids[example.trained].tolist())) == " first"
    assert example.notes == ()


@pytest.mark.parametrize(("wrong", "law"), [("dropped", 3), ("in history", 2), ("other", 1)])
def test_laws_see_an_end_that_is_missing_in_history_or_another(
    tiny_qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, law: int
) -> None:
    """What the layout says of itself is not believed: the checkpoint's template and tokenizer say
    where an end belongs."""
    from manako.families._shared import layout

    opened(tiny_qwen, tmp_path / "no_end", NO_END)
    subject = Subject(tmp_path / "no_end")
    processor: Any = subject.processor
    processor.maker.end_token = "<|im_end|>"
    monkeypatch.setattr(subject, "probes", lambda: [talk("one", "first", "two", "second")])
    assert all(subject.verdict(laws()[number - 1]).state == "holds" for number in (1, 2, 3, 4))
    original = layout.LayoutMaker._ended

    def broken(self: Any, conversation: Any, rendering: Any, flat: Any, notes: Any) -> Any:
        ended, said = original(self, conversation, rendering, flat, notes)
        if wrong == "dropped":
            return flat, said
        if wrong == "other":
            return layout._Flat([ended.text.replace("<|im_end|>", "<|endoftext|>")]), said
        first = next(place for place in sorted(flat.marks) if place > 10)
        return layout._Flat(
            [ended.text[: first + 1] + "<|im_end|>" + ended.text[first + 1 :]]
        ), said

    monkeypatch.setattr(layout.LayoutMaker, "_ended", broken)
    subject = Subject(tmp_path / "no_end")
    processor = subject.processor
    processor.maker.end_token = "<|im_end|>"
    monkeypatch.setattr(subject, "probes", lambda: [talk("one", "first", "two", "second")])
    assert subject.verdict(laws()[law - 1]).state == "fails"


BLANKS = ("prepend", "first", "always", "none")
TEXTS = ("USER: ", "\nWhat is this?", " これは 日本の画像です", "  two blanks", "▁", "x")


def sentencepiece(folder: Path, blanks: str) -> TextTokenizer:
    """As Llama 2's tokenizer.json: converted with a normaliser, or later with a Metaspace."""
    made = sentencepiece_tokenizer(
        vocabulary=600,
        first=["<unk>", "<s>", "</s>"],
        control=["<image>"],
        prefix_space=blanks == "prepend",
        start="<s>",
    )
    if blanks in ("first", "always"):
        made.normalizer = None
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=blanks, split=False)
    made.save(str(folder / "tokenizer.json"))
    return TextTokenizer(folder / "tokenizer.json")


@pytest.mark.parametrize("blanks", BLANKS)
def test_stretches_between_control_tokens_have_the_ids_of_the_whole_text(
    tmp_path: Path, blanks: str
) -> None:
    from tokenizers import Tokenizer

    tokenizer = copy.deepcopy(sentencepiece(tmp_path, blanks))
    whole = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    image = tokenizer.id_of("<image>")
    for first in TEXTS:
        for second in TEXTS:
            ids = [
                *tokenizer.encode(first)[0],
                image,
                *tokenizer.encode(second, at="after_token")[0],
            ]
            assert ids == whole.encode(f"{first}<image>{second}", add_special_tokens=False).ids
        begun = [tokenizer.id_of("<s>"), *tokenizer.encode(first, at="after_token")[0]]
        assert begun == whole.encode(f"<s>{first}", add_special_tokens=False).ids


@pytest.mark.parametrize("blanks", BLANKS)
def test_text_cut_inside_gets_no_blank_of_its_own(tmp_path: Path, blanks: str) -> None:
    tokenizer = sentencepiece(tmp_path, blanks)
    for text in ("USER: hi ASSISTANT: これは", "a\nb"):
        ids, offsets = tokenizer.encode(text)
        for number, (start, _) in enumerate(offsets):
            if number and start >= offsets[number - 1][1]:
                cut = [
                    *tokenizer.encode(text[:start])[0],
                    *tokenizer.encode(text[start:], at="inside")[0],
                ]
                assert cut == ids
        assert "".join(tokenizer.decode([i], at="inside") for i in ids if i > 258).isprintable()


def test_a_token_over_the_end_of_the_prompt_is_cut_there(tmp_path: Path) -> None:
    """Line breaks at the head of an answer would make one token with the prompt's own; what the
    model is asked with ends in the prompt's."""
    breaks = ["a\n\n\nb", "一\n\n\n二", "\n\n\n"] * 50
    FAMILY.make_tiny(tmp_path / "model", corpus=breaks)
    processor = FAMILY.open(tmp_path / "model")
    assert "\n\n\n" in processor.token_texts(range(300))
    row = talk("one", "\n\nfirst", "two", "\n\nsecond")
    example = processor.encode(row)
    asked = processor.encode_prompt(Conversation(row.messages[:-1])).input_ids
    assert np.array_equal(example.input_ids[: len(asked)], asked)
    answer = processor.token_texts(example.input_ids[len(asked) :].tolist())
    assert "".join(answer) == "\n\nsecond<|im_end|>\n"
    assert example.trained[len(asked)]
    assert not example.trained[len(asked) - 1]


def made_with(processor: Any, **options: Any) -> Any:
    """The layouts of a processor with other rules."""
    return LayoutMaker(
        processor.maker.renderer,
        processor.tokenizer,
        image_mark=processor.maker.image_mark,
        end_ids=processor.end_ids,
        **options,
    )


def test_no_token_reaches_over_a_place_where_the_reference_encodes_anew(tiny_qwen: Path) -> None:
    """In history too, and whether or not the answer before is trained."""
    processor: Any = FAMILY.open(tiny_qwen)
    row = talk("one", "first", "two", "second")
    untrained = Message("assistant", row.messages[1].content, train=False)
    anew = made_with(processor, breaks=("<|im_start|>assi",))
    for messages in (row.messages, (row.messages[0], untrained, *row.messages[2:])):
        asked = Conversation(messages, id="row")
        pieces = anew.pieces(processor.maker.renderer.render(asked).text)
        assert len([piece for piece in pieces if piece.startswith("stant")]) == 2
        apart = [i for piece in pieces for i in reference(tiny_qwen, piece)]
        assert list(anew.training(asked).ids) == apart
        assert list(processor.maker.training(asked).ids) != apart
        assert list(copy.deepcopy(anew).training(asked).ids) == apart  # as a worker gets it


def reference(folder: Path, text: str) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def test_a_content_may_hold_tokens_that_the_family_names_and_no_others(tiny_qwen: Path) -> None:
    processor: Any = FAMILY.open(tiny_qwen)
    spoken = made_with(processor, spoken=("<|vision_start|>",))
    row = talk("a <|vision_start|>b<|im_end|>", "c<|vision_start|><|vision_end|>")
    ids, plain = spoken.training(row), processor.maker.training(row)
    mark, end = (
        processor.tokenizer.id_of(token) for token in ("<|vision_start|>", "<|vision_end|>")
    )
    assert (ids.ids.count(mark), plain.ids.count(mark)) == (2, 0)
    assert end not in ids.ids
    assert processor.tokenizer.decode(ids.ids) == processor.tokenizer.decode(plain.ids)
    assert [i for i, trained in zip(ids.ids, ids.trained, strict=True) if trained].count(mark) == 1
    assert copy.deepcopy(spoken).training(row) == ids
