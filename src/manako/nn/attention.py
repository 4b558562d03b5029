"""Attention over packed conversations, exact without any extra package.

One function is registered with `transformers` for text and vision. Told the segments of a pack, it
attends inside each only: the conversations of a row, or the pictures of a batch, never see each
other. Short segments of about equal length are computed together; that changes the order of
operations, not what is summed. Position resets alone are silently wrong for several families.

Legend: T tokens of the row, H heads, D head width, n segments of a bucket, L its padded length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from manako.core.errors import BatchError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TEXT_NAME = "manako_packed"
VISION_NAME = "manako_packed_flash"
"""`flash` in the name makes vision towers hand over all pictures in one call, with boundaries."""

MAX_BUCKETED_TOKENS = 512
"""Longer segments are computed alone: padding them would cost more than it saves."""

HARMLESS = frozenset(
    {
        "position_ids",
        "use_cache",
        "cache_position",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "max_length_q",
        "max_length_k",
        "cu_seq_lens_k",
        "labels",
        "num_items_in_batch",
        "logits_to_keep",
    }
)
"""Keywords that reach an attention function and do not change its result."""


def use_segments(model: PreTrainedModel) -> None:
    """Register the packed attention and select it for every part of `model`.

    The model's forward then takes `segments`, a tuple of boundaries 0 = s₀ < s₁ < … = T.
    """
    for name in (TEXT_NAME, VISION_NAME):
        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, _no_mask)
    parts = {
        name: VISION_NAME if name.startswith("vision") else TEXT_NAME
        for name in model.config.sub_configs
    }
    model.set_attn_implementation({"": TEXT_NAME, **parts})


def _no_mask(*_: Any, **__: Any) -> None:
    """No T × T mask is ever built: segments say what a mask would."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    segments: Sequence[int] | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query [B, H, T, D], key and value [B, H_kv, T, D] → [B, T, H, D].

    Raises `BatchError` for a keyword that is not implemented here (softcap, sinks, ...): to
    swallow it would change the result silently.
    """
    _refuse_unknown(others)
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    boundaries = _boundaries(module, query, causal, segments, cu_seq_lens_q)
    if boundaries is None:
        if attention_mask is None and sliding_window is not None and query.shape[2] > 1:
            raise BatchError("a sliding window without segments is not implemented")
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal
        )
    if sliding_window is not None and _longest(boundaries) > sliding_window:
        raise BatchError(
            f"a conversation of {_longest(boundaries)} tokens exceeds the sliding window of "
            f"{sliding_window}, which packed attention does not implement"
        )
    return _attend_segments(query, key, value, boundaries, causal, scaling, dropout), None


def _refuse_unknown(others: dict[str, Any]) -> None:
    unknown = sorted(name for name, v in others.items() if v is not None and name not in HARMLESS)
    if unknown:
        raise BatchError(
            f"the model asks its attention for {', '.join(unknown)}, which packed attention does "
            "not implement",
            next_step="this family cannot be trained packed in this version",
        )


def _boundaries(
    module: torch.nn.Module,
    query: Tensor,
    causal: bool,
    segments: Sequence[int] | None,
    cu_seq_lens: Tensor | None,
) -> tuple[int, ...] | None:
    """Boundaries that are about this call's tokens.

    Keywords of the model's call also reach some vision towers; text segments must not cut
    pictures, so they count only where attention is causal and they end where the tokens end.
    """
    length = query.shape[2]
    if cu_seq_lens is not None:
        return tuple(cu_seq_lens.tolist())
    if segments is not None and causal and segments[-1] == length and query.shape[0] == 1:
        return tuple(segments)
    return None


def _longest(boundaries: Sequence[int]) -> int:
    return max(b - a for a, b in pairwise(boundaries))


@dataclass(frozen=True)
class _Bucket:
    """n segments padded to L tokens; `start` is where they stand among all padded tokens."""

    start: int
    segments: int
    length: int


@dataclass(frozen=True)
class _Plan:
    """order: padded place → token; restore: token → padded place."""

    buckets: tuple[_Bucket, ...]
    order: Tensor
    restore: Tensor


@lru_cache(maxsize=64)
def _plan(boundaries: tuple[int, ...], causal: bool, device: torch.device) -> _Plan:
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, (start, end) in enumerate(pairwise(boundaries)):
        if end > start:
            groups[_group(end - start, number, causal)].append((start, end))
    order: list[int] = []
    restore = [0] * boundaries[-1]
    buckets = []
    for group in groups.values():
        length = max(end - start for start, end in group)
        buckets.append(_Bucket(len(order), len(group), length))
        for start, end in group:
            restore[start:end] = range(len(order), len(order) + end - start)
            order.extend(range(start, end))
            order.extend([start] * (length - (end - start)))
    return _Plan(
        tuple(buckets), torch.tensor(order, device=device), torch.tensor(restore, device=device)
    )


def _group(length: int, number: int, causal: bool) -> int:
    """Segments of one group are computed together.

    Without a causal mask only equal lengths need no padding. With it, padding at the right is
    never seen by a real query, so lengths within an eighth of their power of two may share.
    """
    if length > MAX_BUCKETED_TOKENS:
        return -1 - number
    if not causal:
        return length
    grain = 1 << max(0, length.bit_length() - 3)
    return -(-length // grain) * grain


def _attend_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    boundaries: tuple[int, ...],
    causal: bool,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    plan = _plan(boundaries, causal, query.device)
    padded = [tensor[0].transpose(0, 1)[plan.order] for tensor in (query, key, value)]  # [P, H, D]
    outputs = []
    for bucket in plan.buckets:
        stop = bucket.start + bucket.segments * bucket.length
        q, k, v = (
            tensor[bucket.start : stop]
            .view(bucket.segments, bucket.length, *tensor.shape[1:])
            .transpose(1, 2)
            for tensor in padded
        )
        if (copies := q.shape[1] // k.shape[1]) > 1:
            k, v = k.repeat_interleave(copies, dim=1), v.repeat_interleave(copies, dim=1)
        out = functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=causal
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1))  # [n·L, H, D]
    return torch.cat(outputs)[plan.restore].unsqueeze(0)
