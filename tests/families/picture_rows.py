"""Conversations and packs that the tests of families share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from manako.core.conversation import Conversation, Message, Text
from manako.core.example import Example, Pack
from manako.core.family import Family
from manako.nn import attention
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model

ODD_SIZES = (
    (1, 1), (1, 2), (2, 1), (1, 4000), (4000, 1), (2, 3000), (3, 500), (500, 3), (13, 27), (27, 13),
    (27, 28), (28, 28), (29, 28), (28, 29), (55, 57), (56, 28), (28, 56), (56, 56), (57, 56),
    (84, 28), (28, 84), (85, 29), (100, 99), (99, 100), (111, 57), (120, 40), (40, 120), (123, 321),
    (140, 140), (168, 168), (169, 167), (200, 100), (100, 200), (333, 100), (301, 299), (448, 447),
    (511, 257), (640, 33), (33, 640), (640, 480), (480, 640), (999, 7), (1240, 1754),
)  # fmt: skip


def asked(*content: Any, answer: str = "はい。") -> Conversation:
    """A question of texts and pictures, and its answer."""
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))))


def inputs_of(folder: Path, family: Family, examples: Sequence[Example]) -> dict[str, Any]:
    """A pack as training gives it to the model."""
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, family.open(folder), device="cpu", dtype=torch.float32).inputs


def gap_of_packing(folder: Path, family: Family, rows: Sequence[Conversation]) -> float:
    """Worst difference between logits packed and one by one in the model's own attention, in
    units of their spread."""
    processor = family.open(folder)
    examples = [processor.encode(row) for row in rows]
    packed, alone = load_model(folder, family), load_model(folder, family)
    attention.use_segments(packed)
    with torch.no_grad():
        found = packed(**inputs_of(folder, family, examples)).logits[0]
        singles = []
        for example in examples:
            inputs = inputs_of(folder, family, [example])
            own = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
            singles.append(alone(**own).logits[0])
    expected = torch.cat(singles)
    return float((found - expected).abs().max() / expected.std())


def same_as_generate(folder: Path, family: Family, prompts: Sequence[list[Any]]) -> None:
    """Greedy answers, together and alone, are those of transformers' own `generate`."""
    from manako.infer.open import open_model
    from manako.nn.checkpoint import model_class

    ours = open_model(folder)
    together = ours.generate_batch(list(prompts), max_new_tokens=8)
    reference = model_class(family).from_pretrained(folder).eval()
    for prompt, reply in zip(prompts, together, strict=True):
        alone = ours.generate_content(prompt, max_new_tokens=8)
        example = ours.processor.encode_prompt(Conversation.of(prompt))
        inputs = inputs_of(folder, family, [example])
        for name in ("segments", "position_ids", "logits_to_keep", "use_cache"):
            inputs.pop(name)
        inputs.pop("frames_per_video", None)  # ours; transformers takes one video without it
        answer = reference.generate(**inputs, do_sample=False, max_new_tokens=8)[
            0, example.tokens :
        ]
        assert reply.token_ids == alone.token_ids
        assert answer[: len(reply.token_ids)].tolist() == list(reply.token_ids)
