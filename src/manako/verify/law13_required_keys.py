"""Law 13: a batch key that the model needs and lacks is an error.

The bug it catches: models that do silently without a key, and answer with wrong positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manako.core.conversation import Conversation
from manako.core.errors import BatchError
from manako.verify._subject import Law, NotApplicable, Subject, demand


def _check(subject: Subject) -> str:
    if not subject.family.required_inputs:
        raise NotApplicable("the family needs no keys besides ids and positions")
    family, probes = subject.family, subject.probes()
    pictures = next(probe for probe in probes if probe.images and not probe.videos)
    _check_keys(subject, pictures, family.required_inputs)
    if family.takes_videos:
        film = next(probe for probe in probes if probe.videos and not probe.images)
        _check_keys(subject, film, family.required_video_inputs)
    keys = dict.fromkeys([*family.required_inputs, *family.required_video_inputs])
    return f"missing {', '.join(keys)}: each an error"


def _check_keys(subject: Subject, probe: Conversation, keys: Sequence[str]) -> None:
    processor: Any = subject.processor
    inputs = processor.model_inputs(subject.pack([processor.encode(probe)]))
    for key in keys:
        demand(key in inputs, f"{key} is not among the model's inputs")
        demand(
            _is_refused(processor, {name: v for name, v in inputs.items() if name != key}, key),
            f"a batch without {key} is accepted",
        )


def _is_refused(processor: Any, inputs: dict[str, Any], key: str) -> bool:
    try:
        processor.require(inputs)
    except BatchError as error:
        return key in error.message
    return False


LAW = Law(number=13, title="a missing batch key is an error", check=_check)
