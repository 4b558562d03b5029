"""Law 13: a batch key that the model needs and lacks is an error.

The bug it catches: models that do silently without a key, and answer with wrong positions.
"""

from __future__ import annotations

from typing import Any

from manako.core.errors import BatchError
from manako.verify._subject import Law, NotApplicable, Subject, demand


def _check(subject: Subject) -> str:
    if not subject.family.required_inputs:
        raise NotApplicable("the family needs no keys besides ids and positions")
    processor: Any = subject.processor
    probe = next(probe for probe in subject.probes() if probe.images)
    inputs = processor.model_inputs(subject.pack([processor.encode(probe)]))
    for key in subject.family.required_inputs:
        demand(key in inputs, f"{key} is not among the model's inputs")
        demand(
            _is_refused(processor, {name: v for name, v in inputs.items() if name != key}, key),
            f"a batch without {key} is accepted",
        )
    return f"missing {', '.join(subject.family.required_inputs)}: each an error"


def _is_refused(processor: Any, inputs: dict[str, Any], key: str) -> bool:
    try:
        processor.require(inputs)
    except BatchError as error:
        return key in error.message
    return False


LAW = Law(number=13, title="a missing batch key is an error", check=_check)
