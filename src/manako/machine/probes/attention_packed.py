"""Manako's own attention over packed conversations: the one that training uses everywhere."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from manako.core.words import Words
from manako.machine.finding import Finding, does_not, works
from manako.machine.probes._torch import best_device, build_of_torch, no_torch, torch_probe

if TYPE_CHECKING:
    import torch

BOUNDARIES = (0, 17, 40, 41, 64)
LOOSE = 1e-2


def look() -> Finding:
    """Packed and one by one give the same output and the same gradient."""
    if build_of_torch() is None:
        return no_torch()
    device = best_device()
    packed, alone = _step(device, is_packed=True), _step(device, is_packed=False)
    wrong = max(float((a - b).abs().max()) for a, b in zip(packed, alone, strict=True))
    if not wrong < LOOSE:
        return does_not(
            f"{device.type}: 詰めた場合と 1 件ずつの場合で {wrong:.3g} 違う",
            f"{device.type}: packed differs from one by one by {wrong:.3g}",
            device=device.type,
        )
    return works(
        f"{device.type}: 順伝播・逆伝播が 1 件ずつの計算と同じ（差 {wrong:.1g}）",
        f"{device.type}: forward and backward equal one by one (±{wrong:.1g})",
        device=device.type,
        difference=wrong,
    )


def _step(device: torch.device, *, is_packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(output, gradient of the queries) of four conversations."""
    import torch

    from manako.nn.attention import attend

    made = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 64, 32, generator=made).to(device) for _ in range(3))
    q.requires_grad_()
    module = torch.nn.Module()

    def attended(start: int, end: int, ends: tuple[int, ...]) -> torch.Tensor:
        cut = [x[:, :, start:end] for x in (q, k, v)]
        out, _ = attend(module, cut[0], cut[1], cut[2], None, is_causal=True, segments=ends)
        return out

    if is_packed:
        out = attended(0, BOUNDARIES[-1], BOUNDARIES)
    else:
        out = torch.cat([attended(a, b, (0, b - a)) for a, b in pairwise(BOUNDARIES)], dim=1)
    return out.detach(), torch.autograd.grad(out.square().sum(), q)[0]


PROBE = torch_probe(
    Words(ja="アテンション（詰めた会話、Manako）", en="attention (packed, Manako's)"),
    look,
    place=31,
)
