"""Attention over packed conversations, exact without any extra package.

One function is registered with `transformers` for text and vision. Told the segments of a pack, it
attends inside each only: the conversations of a row, or the pictures of a batch, never see each
other. Short segments of about equal length are computed together; that changes the order of
operations, not what is summed. Position resets alone are silently wrong for several families.

What a token sees inside its segment follows transformers 5.24 (`masking_utils.py`, and
`models/gemma3/modeling_gemma3.py`, Apache-2.0; 5.23 the same): what stands before it, all of the
image block it is in, and in a layer with a sliding window, of these only what stands less than a
window before it. Soft-capped scores (Gemma 2) are computed as that model's eager attention does.

Legend: T tokens of the row, H heads, D head width, n segments of a bucket, L its padded length,
Q queries and K keys of a piece.
"""

from __future__ import annotations

from bisect import bisect_right
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
from transformers.masking_utils import sdpa_mask

from manako.core.errors import BatchError
from manako.nn.patches import leave_filler_out, turn_apart

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TEXT_NAME = "manako_packed"
VISION_NAME = "manako_packed_flash"
"""`flash` in the name makes vision towers hand over all pictures in one call, with boundaries."""

MAX_BUCKETED_TOKENS = 512
"""Longer segments are computed alone: padding them would cost more than it saves."""

MAX_QUERIES = 1024
"""Of a segment with a mask, so many queries at a time: keys that none of them sees are left out,
so a window costs T × (window + queries), and not T²."""

Block = tuple[int, int]
"""Tokens [start, end) of the row that see each other both ways."""

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

    The model's forward then takes `segments`, a tuple of boundaries 0 = s₀ < s₁ < … = T, and
    `image_blocks`, a tuple of (start, end), each inside one segment.
    """
    for name in (TEXT_NAME, VISION_NAME):
        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, _padding_mask)
    parts = {
        name: VISION_NAME if name.startswith("vision") else TEXT_NAME
        for name in model.config.sub_configs
    }
    model.set_attn_implementation({"": TEXT_NAME, **parts})
    turn_apart(model)
    leave_filler_out(model)


def _padding_mask(*sizes: Any, **others: Any) -> Tensor | None:
    """No T × T mask is built for a row of conversations: segments say what it would. Only where
    the model itself says which tokens are none, as a tower does that takes pictures of several
    sizes in one batch, its mask is that of SDPA."""
    if others.get("attention_mask") is None:
        return None
    return sdpa_mask(*sizes, **others)


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
    softcap: float | None = None,
    segments: Sequence[int] | None = None,
    image_blocks: Sequence[Block] | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query [B, H, T, D], key and value [B, H_kv, T, D] → [B, T, H, D].

    Raises `BatchError` for a keyword that is not implemented here (sinks, a position bias, ...):
    to swallow it would change the result silently.
    """
    _refuse_unknown(others)
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    boundaries = _boundaries(module, query, causal, segments, cu_seq_lens_q)
    if boundaries is None:
        _refuse_unpacked(query, attention_mask, sliding_window, softcap, segments, image_blocks)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal
        )
    if sliding_window is not None and _longest(boundaries) <= sliding_window:
        sliding_window = None
    blocks = tuple(image_blocks or ()) if causal else ()
    sight = _Sight(causal, sliding_window, blocks, always_masked=softcap is not None)
    if not causal and (sliding_window is not None or softcap is not None):
        raise BatchError("a sliding window or soft cap that looks both ways is not implemented")
    scores = _Scores(causal, scaling, dropout, softcap)
    return _attend_segments(query, key, value, boundaries, sight, scores), None


def _refuse_unpacked(
    query: Tensor,
    attention_mask: Tensor | None,
    sliding_window: int | None,
    softcap: float | None,
    segments: Sequence[int] | None,
    image_blocks: Sequence[Block] | None,
) -> None:
    """Without segments this is plain SDPA: raise `BatchError` where that would not be the model's
    attention."""
    if attention_mask is None and sliding_window is not None and query.shape[2] > 1:
        raise BatchError("a sliding window without segments is not implemented")
    if softcap is not None:
        raise BatchError("a soft cap without segments is not implemented")
    if image_blocks and segments is None:
        raise BatchError("image blocks without segments are not implemented")


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
class _Sight:
    """What a token may see inside its segment, besides what it always may.

    window: how many tokens, itself the last. blocks: image blocks, by their place in the row.
    always_masked: whether plain causal segments get a mask too, which soft-capped scores need.
    """

    causal: bool
    window: int | None = None
    blocks: tuple[Block, ...] = ()
    always_masked: bool = False


@dataclass(frozen=True)
class _Piece:
    """Queries of a bucket's segments, the keys that any of them sees, and which sees which:
    bool [n, 1, Q, K], or [1, 1, Q, K] where all segments are alike."""

    queries: slice
    keys: slice
    mask: Tensor


@dataclass(frozen=True)
class _Bucket:
    """n segments padded to L tokens; `start` is where they stand among all padded tokens.
    Without pieces SDPA needs no mask."""

    start: int
    segments: int
    length: int
    pieces: tuple[_Piece, ...]


@dataclass(frozen=True)
class _Plan:
    """order: padded place → token; restore: token → padded place."""

    buckets: tuple[_Bucket, ...]
    order: Tensor
    restore: Tensor


@lru_cache(maxsize=8)
def _plan(boundaries: tuple[int, ...], sight: _Sight, device: torch.device) -> _Plan:
    """Kept for the layers of one pass; few of them, since masks of long segments are large."""
    blocks = _blocks_of_segments(boundaries, sight.blocks)
    groups: dict[tuple[bool, int], list[Block]] = defaultdict(list)
    for number, (start, end) in enumerate(pairwise(boundaries)):
        if end > start:
            is_masked = sight.always_masked or bool(blocks[start])
            is_masked |= sight.window is not None and end - start > sight.window
            groups[is_masked, _group(end - start, number, sight.causal)].append((start, end))
    order: list[int] = []
    restore = [0] * boundaries[-1]
    buckets = []
    for (is_masked, _), group in groups.items():
        length = max(end - start for start, end in group)
        inside = [blocks[start] for start, _ in group]
        pieces = _pieces(length, inside, sight.window, device) if is_masked else ()
        buckets.append(_Bucket(len(order), len(group), length, pieces))
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


def _blocks_of_segments(
    boundaries: Sequence[int], blocks: Sequence[Block]
) -> dict[int, tuple[Block, ...]]:
    """By a segment's start: its image blocks, counted from there."""
    found: dict[int, list[Block]] = defaultdict(list)
    for start, end in blocks:
        place = bisect_right(boundaries, start) - 1
        if not 0 <= place < len(boundaries) - 1 or end > boundaries[place + 1]:
            raise BatchError(f"image block {start}-{end} lies in no conversation of the pack")
        origin = boundaries[place]
        found[origin].append((start - origin, end - origin))
    return {start: tuple(found.get(start, ())) for start in boundaries}


def _pieces(
    length: int,
    blocks_of_each: Sequence[Sequence[Block]],
    window: int | None,
    device: torch.device,
) -> tuple[_Piece, ...]:
    """Masks of segments that are padded to `length`; image blocks count from a segment's start.

    A query's last key is itself, or the end of its image block: no more is needed, since what
    stands before it is seen anyway. A padded query sees itself, so no row is empty.
    """
    if not any(blocks_of_each):
        blocks_of_each = blocks_of_each[:1]
    last_nL = torch.arange(length).repeat(len(blocks_of_each), 1)
    for number, blocks in enumerate(blocks_of_each):
        for start, end in blocks:
            last_nL[number, start:end] = end - 1
    pieces, start = [], 0
    while start < length:
        stop = min(start + MAX_QUERIES, length)
        stop = int(last_nL[:, stop - 1].max()) + 1
        first = 0 if window is None else max(0, start - window + 1)
        keys_K = torch.arange(first, stop)
        mask_nQK = keys_K <= last_nL[:, start:stop, None]
        if window is not None:
            mask_nQK &= keys_K > torch.arange(start, stop)[:, None] - window
        mask = mask_nQK[:, None].to(device)
        pieces.append(_Piece(slice(start, stop), slice(first, stop), mask))
        start = stop
    return tuple(pieces)


@dataclass(frozen=True)
class _Scores:
    """How scores become weights."""

    causal: bool
    scaling: float | None
    dropout: float
    softcap: float | None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pieces: Sequence[_Piece]) -> Tensor:
        """q, k, v [n, H, L, D] → [n, H, L, D]."""
        if not pieces:
            return functional.scaled_dot_product_attention(
                q, k, v, dropout_p=self.dropout, scale=self.scaling, is_causal=self.causal
            )
        found = [
            self._attend_masked(q[:, :, p.queries], k[:, :, p.keys], v[:, :, p.keys], p.mask)
            for p in pieces
        ]
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)

    def _attend_masked(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        if self.softcap is None:
            return functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=self.dropout, scale=self.scaling
            )
        scale = q.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        scores = torch.tanh(q @ k.transpose(2, 3) * scale / self.softcap) * self.softcap
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        return functional.dropout(weights, self.dropout) @ v


def _attend_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    boundaries: tuple[int, ...],
    sight: _Sight,
    scores: _Scores,
) -> Tensor:
    plan = _plan(boundaries, sight, query.device)
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
        out = scores.attend(q, k, v, bucket.pieces)
        outputs.append(out.transpose(1, 2).flatten(0, 1))  # [n·L, H, D]
    return torch.cat(outputs)[plan.restore].unsqueeze(0)
