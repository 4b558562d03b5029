"""Attention inside the conversations of one pack: per segment with SDPA, as training does it, beside
`torch.nn.attention.varlen`, forward and backward, on the pack's real boundaries.

What varlen gives is compared with the per-segment result before it is timed.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from manako.nn.attention import attend

REPEATS = 10
SAME = 0.02
"""Of a result and the spread of all: both round to bfloat16, in another order of additions, and the
first tokens, which see few others, have results 20 times as large as the last."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Heads of one layer, and whether a token sees only those before it."""

    heads: int
    kv_heads: int
    head_width: int
    is_causal: bool


def compare(shape: Shape, boundaries: Sequence[int], device: str) -> dict[str, Any]:
    """Milliseconds of both ways, forward and backward; why not, where varlen does not run."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    inputs = _inputs(shape, boundaries[-1], device, dtype)
    segments = _segmented(shape, boundaries, device)
    found: dict[str, Any] = {
        "tokens": boundaries[-1],
        "segments": len(boundaries) - 1,
        "per_segment_ms": _milliseconds(segments, inputs, device),
    }
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return {**found, "varlen_ms": None, "why": "this PyTorch does not have it"}
    varlen = _varlen(shape, boundaries, device)
    try:
        with torch.no_grad():
            apart = _apart(segments(*inputs), varlen(*inputs))
        if apart > SAME:
            return {**found, "varlen_ms": None, "why": f"differs by {apart:.3g}, relatively"}
        return {**found, "varlen_ms": _milliseconds(varlen, inputs, device), "difference": apart}
    except (RuntimeError, NotImplementedError, TypeError) as error:  # TypeError: an older signature
        return {**found, "varlen_ms": None, "why": str(error).split("\n", maxsplit=1)[0][:120]}


def _inputs(shape: Shape, tokens: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    """query [1, H, T, D], key and value [1, H_kv, T, D]."""
    torch.manual_seed(0)
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    return [
        torch.randn(1, n, tokens, shape.head_width, device=device, dtype=dtype).requires_grad_()
        for n in heads
    ]


def _segmented(
    shape: Shape, boundaries: Sequence[int], device: str
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    module = nn.Module()
    module.is_causal = shape.is_causal  # type: ignore[assignment]
    cuts: dict[str, Any] = {"segments": tuple(boundaries)}
    if not shape.is_causal:
        cuts = {"cu_seq_lens_q": torch.tensor(boundaries, dtype=torch.int32, device=device)}

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(module, query, key, value, None, **cuts)[0][0]

    return run


def _varlen(
    shape: Shape, boundaries: Sequence[int], device: str
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    kernel = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    ends = torch.tensor(boundaries, dtype=torch.int32, device=device)
    longest = max(b - a for a, b in pairwise(boundaries))
    window = (-1, 0) if shape.is_causal else (-1, -1)

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
        shares = q.shape[1] != k.shape[1]
        found = kernel(q, k, v, ends, ends, longest, longest, window_size=window, enable_gqa=shares)
        return found if isinstance(found, Tensor) else found[0]

    return run


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the result and the spread of all results."""
    one, other = one.float(), other.float()
    return float(((one - other).abs() / (one.abs() + one.std())).max())


def _milliseconds(
    run: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor], device: str
) -> float:
    def once() -> None:
        torch.autograd.grad(run(*inputs).float().sum(), inputs)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    once()
    wait()
    start = time.perf_counter()
    for _ in range(REPEATS):
        once()
    wait()
    return round((time.perf_counter() - start) / REPEATS * 1e3, 3)
