"""Conversations that an export is tried on, and what a model makes of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation, Image, Message, Part, Text
from manako.core.errors import InputError
from manako.core.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from manako.core.family import Family
    from manako.infer.model import Model

COMPARED_POSITIONS = 16
"""Logits of that many last positions of each prompt are compared; every one of them has attended
to all pictures, and a vocabulary of 150,000 stays within 10 MB a probe."""
ANSWER_TOKENS = 16
LOGITS_FILE = "logits.safetensors"
ANSWERS_FILE = "answers.json"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a model makes of one probe.

    logits: float32 [n, V] of the last n positions of the prompt; answer: greedy token ids.
    """

    logits: Tensor
    answer: tuple[int, ...]


def default_probes(family: Family) -> list[Conversation]:
    """Text alone, a picture before a question, two pictures with text between them."""
    asked: list[list[Any]] = [["日本の首都はどこですか。"], ["Count from one to ten."]]
    if family.takes_images:
        wide, tall = _picture(168, 84), _picture(56, 140)
        asked += [
            [wide, "この画像を説明してください。"],
            ["What is this?", tall],
            [tall, "これは一枚目です。", wide, "これは二枚目です。違いを説明してください。"],
        ]
    return [Conversation.of(content) for content in asked]


def look(model: Model, probes: Sequence[Conversation]) -> list[Seen]:
    """Logits and greedy answers of a model for each probe."""
    return [_look(model, probe) for probe in probes]


def _look(model: Model, probe: Conversation) -> Seen:
    import torch

    from manako.infer.decode import prepare

    example = model.processor.encode_prompt(probe)
    prompts = prepare([example], model.processor, max_new_tokens=1, network=model.network)
    with torch.no_grad():
        output = model.network(**prompts.inputs, use_cache=False, logits_to_keep=COMPARED_POSITIONS)
    reply = model.generate_content(probe, max_new_tokens=ANSWER_TOKENS)
    return Seen(logits=output.logits[0].float().cpu(), answer=reply.token_ids)


def largest_gap(found: Sequence[Seen], expected: Sequence[Seen]) -> float:
    """Largest difference of two logits over all probes, in standard deviations of the expected
    logits of its probe; infinite where a logit is no number."""
    gaps = []
    for a, b in zip(found, expected, strict=True):
        gap = float((a.logits - b.logits).abs().max() / b.logits.std())
        gaps.append(gap if gap == gap else float("inf"))
    return max(gaps)


def same_answers(found: Sequence[Seen], expected: Sequence[Seen]) -> int:
    """Of how many probes the greedy answer is the same."""
    return sum(a.answer == b.answer for a, b in zip(found, expected, strict=True))


def save_seen(folder: Path, seen: Sequence[Seen]) -> None:
    """Write what was seen, for another process to read."""
    from manako.nn.checkpoint import write_tensors

    write_tensors(folder / LOGITS_FILE, {str(n): one.logits for n, one in enumerate(seen)})
    answers = json.dumps([one.answer for one in seen])
    (folder / ANSWERS_FILE).write_text(answers, encoding="utf-8")


def read_seen(folder: Path) -> list[Seen]:
    """What another process saw."""
    from manako.nn.checkpoint import read_tensors

    logits = read_tensors(folder / LOGITS_FILE)
    answers = read_json(folder / ANSWERS_FILE)
    return [
        Seen(logits=logits[str(number)], answer=tuple(answer))
        for number, answer in enumerate(answers)
    ]


def probes_to_json(probes: Sequence[Conversation]) -> str:
    """Probes as text; pictures as data URLs."""
    return json.dumps(
        [
            [[turn.role, [_part_to_json(part) for part in turn.content]] for turn in probe.messages]
            for probe in probes
        ],
        ensure_ascii=False,
    )


def probes_from_json(text: str) -> list[Conversation]:
    """The probes that `probes_to_json` wrote."""
    return [
        Conversation(
            tuple(
                Message(role, tuple(_part_from_json(*part) for part in content))
                for role, content in turns
            )
        )
        for turns in json.loads(text)
    ]


def _part_to_json(part: Part) -> tuple[str, str]:
    if isinstance(part, Text):
        return "text", part.text
    if isinstance(part, Image):
        return "image", base64.b64encode(part.data).decode("ascii")
    raise InputError("a probe holds a film; probes are of texts and pictures")


def _part_from_json(kind: str, value: str) -> Part:
    return Text(value) if kind == "text" else Image(base64.b64decode(value))


def _picture(width: int, height: int) -> Image:
    """A picture of waves and an edge, the same on every machine."""
    import numpy as np

    y, x = np.mgrid[:height, :width]
    channels = [x * 5 + y, x + y * 3, (x // 28 + y // 28) % 2 * 200]
    return Image.of(np.stack(channels, axis=-1).astype(np.uint8))
