"""Where an answer begins, for templates whose prompt is not how they write history."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from manako.core.conversation import Conversation, Message
from manako.core.errors import RowError
from manako.core.family import Processor
from manako.families.qwen2_vl import FAMILY

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
