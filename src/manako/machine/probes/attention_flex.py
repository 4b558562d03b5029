"""FlexAttention, forward and backward; on a GPU it is compiled, as it is meant to be used."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

from manako.core.words import Words
from manako.machine.finding import Finding, does_not, works
from manako.machine.probes._torch import best_device, build_of_torch, no_torch, torch_probe

if TYPE_CHECKING:
    import torch

COMPILE_SECONDS = 120.0


def look() -> Finding:
    """Half of it working is told as it is: training needs both directions."""
    if build_of_torch() is None:
        return no_torch()
    device = best_device()
    refused = {way: why for way in ("forward", "backward") if (why := _try(device, way))}
    facts: dict[str, Any] = {"device": device.type, "refused": refused}
    if not refused:
        return works(
            f"{device.type}: 順伝播・逆伝播", f"{device.type}: forward and backward", **facts
        )
    if "forward" not in refused:
        return does_not(
            f"{device.type}: 順伝播だけ動き、逆伝播は拒まれる（Manako は使わない）",
            f"{device.type}: forward works, backward is refused (Manako does without)",
            **facts,
        )
    return does_not(*[f"{device.type}: {refused['forward']}"] * 2, **facts)


def _try(device: torch.device, way: str) -> str:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    is_backward = way == "backward"
    compiled = torch.compile(flex_attention) if device.type == "cuda" else flex_attention
    q, k, v = (
        torch.randn(1, 2, 128, 32, device=device, requires_grad=is_backward) for _ in range(3)
    )
    without = contextlib.nullcontext() if is_backward else torch.no_grad()
    try:
        with without, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a CPU it warns that it is not compiled
            out = compiled(q, k, v)
            if is_backward:
                torch.autograd.grad(out.sum(), q)
    # Compilers raise errors of their own kinds; all of them are the answer.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0][:200]
    return ""


PROBE = torch_probe(
    Words(ja="アテンション（FlexAttention）", en="attention (FlexAttention)"),
    look,
    place=32,
    limit_seconds=COMPILE_SECONDS,
)
