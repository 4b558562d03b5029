"""Law 10: adapter targets exist and hit only the part they name.

The bug it catches: a list of module names that leaks into the vision tower, or matches nothing, so
that a run trains other weights than its recipe says.
"""

from __future__ import annotations

from manako.core.family import PARTS
from manako.verify._subject import Law, NotApplicable, Subject, demand


def _check(subject: Subject) -> str:
    from manako.nn.adapters import attach, is_adapter_parameter

    if not subject.family.adapter_targets:
        raise NotApplicable("the family has no linear modules to adapt")
    counts = []
    for part in PARTS:
        if part not in subject.family.adapter_targets:
            continue
        model = subject.load()
        modules = attach(model, subject.family, [part], r=2, alpha=4)
        strays = [name for name in modules if subject.family.part_of(name) != part]
        demand(modules and not strays, f"adapters of the {part} part sit on {strays or 'nothing'}")
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        others = [name for name in trained if not is_adapter_parameter(name)]
        demand(not others, f"with {part} adapters, other weights are trained too: {others[:4]}")
        demand(
            len(trained) == 2 * len(modules),
            f"{part}: {len(trained)} trained tensors for {len(modules)} modules, expected two each",
        )
        counts.append(f"{part} {len(modules)}")
    return f"modules hit: {', '.join(counts)}"


LAW = Law(number=10, title="adapters hit only the part they name", check=_check)
