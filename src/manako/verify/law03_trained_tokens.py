"""Law 3: trained are the assistant's words and the end of its turn; nothing else, and never zero.

The bug it catches: loss on prompts or image tokens, or an end of turn that is never learned, so
the model does not stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from manako.core.conversation import Conversation
from manako.core.example import Example
from manako.verify._subject import Law, Subject, demand, spelled_probe


def _check(subject: Subject) -> str:
    processor: Any = subject.processor
    control = [token.content for token in processor.tokenizer.added().values() if token.special]
    spelled = [spelled_probe(control)] if subject.family.takes_images else []
    turns = 0
    for probe in [*subject.probes(), *spelled]:
        turns += _check_turns(subject, probe, processor.encode(probe))
    return f"{turns} turns trained: words and end of turn only, spelled control tokens stay text"


def _check_turns(subject: Subject, probe: Conversation, example: Example) -> int:
    processor: Any = subject.processor
    trained_ids = example.input_ids[example.trained]
    demand(trained_ids.size, f"{probe.id}: no token is trained")
    demand(
        not (trained_ids == processor.image_token_id).any(),
        f"{probe.id}: an image token is trained",
    )
    runs = list(_runs(example))
    answers = [message.text for message in probe.messages if message.is_trained]
    demand(len(runs) == len(answers), f"{probe.id}: {len(runs)} runs for {len(answers)} answers")
    for run, answer in zip(runs, answers, strict=True):
        demand(run[-1] in processor.end_ids, f"{probe.id}: the end of turn is not trained")
        demand(
            not set(run[:-1]) & {*processor.end_ids, processor.image_token_id},
            f"{probe.id}: a control token stands inside an answer",
        )
        words = processor.tokenizer.decode(run[:-1])
        demand(
            words.strip() == answer.strip(),
            f"{probe.id}: trained is {words!r}, the answer says {answer!r}",
        )
    return len(runs)


def _runs(example: Example) -> Iterator[list[int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], example.trained.astype(np.int8), [0]])))
    for start, end in edges.reshape(-1, 2):
        yield example.input_ids[start:end].tolist()


LAW = Law(number=3, title="trained: words and end of turn, nothing else", check=_check)
