"""Law 2: the last trained answer starts exactly where the generation prompt ends.

The bug it catches: a blank or a header that stands in the prompt in one and in the answer in the
other, so that the model is never trained on what it will be asked to continue.
"""

from __future__ import annotations

import numpy as np

from manako.core.conversation import Conversation
from manako.verify._subject import Law, Subject, breaking_probe, demand


def _check(subject: Subject) -> str:
    checked = 0
    for probe in [*subject.probes(), breaking_probe()]:
        example = subject.processor.encode(probe)
        asked = Conversation(probe.messages[:-1], id=probe.id)
        prompt = subject.processor.encode_prompt(asked).input_ids
        demand(
            np.array_equal(example.input_ids[: len(prompt)], prompt),
            f"{probe.id}: the prompt is no beginning of the training example",
        )
        answer = np.flatnonzero(example.trained[len(prompt) :])
        demand(
            answer.size and answer[0] == 0,
            f"{probe.id}: the first trained token of the last answer is not the one after the prompt",
        )
        checked += 1
    return f"{checked} of {checked} probes start at the end of the prompt"


LAW = Law(number=2, title="the answer starts where the prompt ends", check=_check)
