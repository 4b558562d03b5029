"""Law 8: decoding with a cache gives the logits of one full forward pass.

The bug it catches: positions of generated tokens that forget how a picture moved them on.
"""

from __future__ import annotations

from typing import Any

from manako.core.conversation import Conversation
from manako.verify._subject import Law, Subject, demand

TOLERANCE = 1e-4
"""Of the logits' spread: float32 attention over one query differs from many by rounding only."""


def _check(subject: Subject) -> str:
    import torch

    model: Any = subject.load()
    worst = 0.0
    for probe in subject.probes():
        example = subject.processor.encode(probe)
        asked = Conversation(probe.messages[:-1], id=probe.id)
        start = subject.processor.encode_prompt(asked).tokens
        inputs = _inputs(subject, example, model)
        with torch.no_grad():
            full = model(**inputs, use_cache=False).logits[0].float()
            stepped = _step_by_step(model, inputs, start)
        gap = float((stepped - full[start - 1 :]).abs().max() / full.std())
        demand(gap <= TOLERANCE, f"{probe.id}: cached logits differ by {gap:.1e} of their spread")
        worst = max(worst, gap)
    return f"logits within {worst:.0e} of their spread"


def _inputs(subject: Subject, example: Any, model: Any) -> dict[str, Any]:
    import torch

    from manako.nn.batch import to_tensors

    arrays = subject.processor.model_inputs(subject.pack([example]))
    return dict(
        to_tensors(arrays, subject.processor.pixel_rule, device=model.device, dtype=torch.float32)
    )


def _step_by_step(model: Any, inputs: dict[str, Any], start: int) -> Any:
    """Logits from position `start - 1` on: the prompt at once, then token by token."""
    import torch

    from manako.nn.cache import cache_argument, cache_of

    ids = inputs["input_ids"]
    first = {
        key: (value[..., :start] if value.shape[-1] == ids.shape[-1] else value)
        for key, value in inputs.items()
    }
    output = model(**first, use_cache=True)
    found = [output.logits[0, start - 1 :].float()]
    for place in range(start, ids.shape[-1]):
        output = model(
            input_ids=ids[:, place : place + 1],
            position_ids=inputs["position_ids"][..., place : place + 1],
            **cache_argument(model, cache_of(output)),
            use_cache=True,
        )
        found.append(output.logits[0].float())
    return torch.cat(found)


LAW = Law(number=8, title="cached decoding equals the full forward pass", check=_check)
