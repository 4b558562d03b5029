"""Law 9: weights go in and out unchanged; nothing is missing, nothing unexpected.

The bug it catches: a tensor that is renamed, transposed, cast or left at random on the way.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from manako.verify._subject import Law, Subject, demand


def _check(subject: Subject) -> str:
    import torch

    from manako.nn.checkpoint import load_model, read_tensors, save_model, weight_files

    def tensors(folder: Path) -> dict[str, Any]:
        return {k: v for file in weight_files(folder) for k, v in read_tensors(file).items()}

    before = tensors(subject.folder)
    dtypes = {tensor.dtype for tensor in before.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    model = load_model(subject.folder, subject.family, dtype=dtype)
    with tempfile.TemporaryDirectory() as temporary:
        save_model(model, subject.family, Path(temporary))
        after = tensors(Path(temporary))
        again = load_model(Path(temporary), subject.family, dtype=dtype)
    demand(
        set(before) == set(after),
        f"names differ after saving: {sorted(set(before) ^ set(after))[:6]}",
    )
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    demand(not changed, f"tensors changed on the way: {changed[:6]}")
    pairs = zip(model.state_dict().items(), again.state_dict().values(), strict=True)
    moved = [name for (name, a), b in pairs if not torch.equal(a, b)]
    demand(not moved, f"tensors differ after loading again: {moved[:6]}")
    return f"{len(before)} tensors, names and bits equal"


LAW = Law(number=9, title="weights go there and back unchanged", check=_check)
