"""Law 4: what is rendered for training parses back to the message as it stands in the text.

The bug it catches: training and inference that disagree on where an answer begins and ends.
"""

from __future__ import annotations

from manako.core.conversation import Conversation
from manako.verify._subject import Law, Subject, demand


def _check(subject: Subject) -> str:
    exact, changed = 0, []
    for probe in subject.probes():
        example = subject.processor.encode(probe)
        asked = Conversation(probe.messages[:-1], id=probe.id)
        start = subject.processor.encode_prompt(asked).tokens
        parsed = subject.processor.parse(example.input_ids[start:].tolist()).text
        answer = probe.messages[-1].text
        demand(
            parsed.strip() == answer.strip(),
            f"{probe.id}: parsed {parsed!r}, the message says {answer!r}",
        )
        if parsed == answer:
            exact += 1
        else:
            changed.append(probe.id)
    by_template = f"; blanks changed by the template: {', '.join(changed)}" if changed else ""
    return f"{exact} of {len(subject.probes())} answers come back exactly{by_template}"


LAW = Law(number=4, title="rendered and parsed, an answer is the same", check=_check)
