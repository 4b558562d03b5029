"""Law 12: one step lowers the loss, and frozen parts do not move by a bit.

The bug it catches: a part that is trained though the recipe freezes it, or frozen though the
recipe trains it; both look fine in a loss curve.
"""

from __future__ import annotations

from typing import Any

from manako.core.family import PARTS, PartName
from manako.core.recipe import Recipe, Source
from manako.verify._subject import Law, Subject, demand

RATE = "1e-3"
"""AdamW's first step moves each weight by about its rate: enough to see, too little to overshoot."""


def _check(subject: Subject) -> str:
    drops = []
    for trained in PARTS:
        if trained not in subject.family.parts:
            continue
        before, after = _one_step(subject, trained)
        demand(
            after < before, f"training {trained}: the loss went from {before:.4f} to {after:.4f}"
        )
        drops.append(f"{trained} {before:.3f} → {after:.3f}")
    return f"loss when one part is trained: {', '.join(drops)}; the others did not move"


def _one_step(subject: Subject, part: PartName) -> tuple[float, float]:
    import torch

    from manako.nn.batch import make_batch, token_losses
    from manako.train.optimizers import build_optimizers, set_rates
    from manako.train.parts import prepare_parts
    from manako.train.step import training_step, update

    recipe = Recipe(
        model=str(subject.folder),
        data=(Source(path="probes"),),
        output_dir="",
        train={part: f"full {RATE}"},
    )
    model: Any = subject.load(packed=True)
    prepare_parts(model, subject.family, recipe)
    optimizers = build_optimizers(model, subject.family, recipe)
    set_rates(optimizers, 1.0)
    pack = subject.pack([subject.processor.encode(probe) for probe in subject.probes()])
    batch = make_batch(pack, subject.processor, device=model.device, dtype=torch.float32)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    before = float(training_step(model, [batch], trained_tokens=pack.trained_tokens))
    update(optimizers)
    with torch.no_grad():
        after = float(token_losses(model, batch).mean())
    _check_movement(subject, model, start, part)
    return before, after


def _check_movement(subject: Subject, model: Any, start: dict[str, Any], trained: PartName) -> None:
    import torch

    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    strays = sorted(name for name in moved if subject.family.part_of(name) != trained)
    demand(not strays, f"training {trained} moved frozen weights: {strays[:4]}")
    demand(moved, f"training {trained} moved nothing")


LAW = Law(number=12, title="one step lowers the loss, frozen parts stay", check=_check)
