"""Law 3: trained are the assistant's words and the end of its turn; nothing else, and never zero.

The bug it catches: loss on prompts or image tokens, or an end of turn that is never learned, so
the model does not stop.

Where a template ends no turn (LLaVA 1.5), the family names the token, and it stands after the last
answer only: history has none, because what the model will be asked has none there (law 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from manako.core.conversation import Conversation
from manako.core.example import Example
from manako.verify._subject import Law, Subject, _texts_of, demand, spelled_probe


def _check(subject: Subject) -> str:
    processor: Any = subject.processor
    control = [token.content for token in processor.tokenizer.added().values() if token.special]
    spelled = spelled_probe(control)
    spelled = spelled if subject.family.takes_images else _texts_of(spelled)
    turns = 0
    for probe in [*subject.probes(), spelled]:
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
    for number, ((start, end), answer) in enumerate(zip(runs, answers, strict=True)):
        words = example.input_ids[start:end].tolist()
        if not _is_open(processor, example, end, is_last=number == len(runs) - 1):
            demand(words[-1] in processor.end_ids, f"{probe.id}: the end of turn is not trained")
            words = words[:-1]
        demand(
            not set(words) & {*processor.end_ids, processor.image_token_id},
            f"{probe.id}: a control token stands inside an answer",
        )
        text = processor.tokenizer.decode(words)
        demand(
            text.strip() == answer.strip(),
            f"{probe.id}: trained is {text!r}, the answer says {answer!r}",
        )
    return len(runs)


def _is_open(processor: Any, example: Example, end: int, *, is_last: bool) -> bool:
    """Whether an answer may end without a token: in history, where the template writes none and
    the family ends the last answer by one of its own."""
    if processor.maker.end_token is None or is_last:
        return False
    return not set(example.input_ids[end - 1 : end + 1].tolist()) & set(processor.end_ids)


def _runs(example: Example) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], example.trained.astype(np.int8), [0]])))
    yield from map(tuple, edges.reshape(-1, 2).tolist())


LAW = Law(number=3, title="trained: words and end of turn, nothing else", check=_check)
