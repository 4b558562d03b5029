"""Law 7: packed in our attention = one by one in the checkpoint's own default attention.

The bug it catches: conversations that see each other, or positions that run on, silently.
Tolerances: float32 sums in another order differ by about 1e-6 of the logits' spread on models of
tens of layers (worst measured in recipes: 1e-5); gradients are compared by norm per part, and
parameters without a gradient of their own are noise, so parts, not parameters, are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from manako.core.example import Example
from manako.verify._subject import Law, Subject, demand

if TYPE_CHECKING:
    from torch import Tensor

LOGIT_TOLERANCE = 1e-5
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


def _check(subject: Subject) -> str:
    import torch

    examples = [subject.processor.encode(probe) for probe in subject.probes()]
    packed_logits, packed_losses, packed_grads = _run(subject, [examples], packed=True)
    single_logits, single_losses, single_grads = _run(
        subject, [[example] for example in examples], packed=False
    )
    spread = float(single_logits.std())
    logit_gap = float((packed_logits - single_logits).abs().max()) / spread
    loss_gap = float((packed_losses - single_losses).abs().max() / single_losses.abs().max())
    demand(logit_gap <= LOGIT_TOLERANCE, f"logits differ by {logit_gap:.1e} of their spread")
    demand(loss_gap <= LOSS_TOLERANCE, f"losses differ by {loss_gap:.1e}")
    worst = 0.0
    for part, reference in single_grads.items():
        gap = float(torch.norm(packed_grads[part] - reference) / torch.norm(reference))
        demand(gap <= GRADIENT_TOLERANCE, f"gradients of the {part} part differ by {gap:.1e}")
        worst = max(worst, gap)
    return f"logits {logit_gap:.0e} of their spread, losses {loss_gap:.0e}, gradients {worst:.0e}"


def _run(
    subject: Subject, packs: Sequence[Sequence[Example]], *, packed: bool
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits [n, V] and losses [n] of all trained tokens, and one flat gradient per part."""
    import torch
    from torch.nn import functional

    from manako.nn.batch import make_batch

    model: Any = subject.load(packed=packed)
    logits, losses = [], []
    for examples in packs:
        pack = subject.pack(examples)
        batch = make_batch(pack, subject.processor, device=model.device, dtype=torch.float32)
        if not packed:
            for key in subject.processor.attention_inputs(pack):
                batch.inputs.pop(key)
            batch.inputs.pop("position_ids")  # the model's own positions are the reference
        found = model(**batch.inputs).logits[0].float()
        loss = functional.cross_entropy(found, batch.targets, reduction="none")
        torch.autograd.backward(loss.sum())
        logits.append(found.detach())
        losses.append(loss.detach())
    grads: dict[str, list[Tensor]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            grads[subject.family.part_of(name)].append(parameter.grad.flatten())
    return torch.cat(logits), torch.cat(losses), {k: torch.cat(v) for k, v in grads.items()}


LAW = Law(number=7, title="packed equals one by one", check=_check)
