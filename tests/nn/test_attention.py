"""Packed attention at its edges: conversations of any length, alone and beside others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.masking_utils import blockwise_overlay, causal_mask_function
from transformers.masking_utils import sliding_window_overlay as window_overlay

from manako.core.errors import BatchError
from manako.nn import attention
from manako.nn.attention import attend

HEADS, KV_HEADS, WIDTH = 4, 2, 8
Spans = Sequence[tuple[int, int]]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("boundaries", [(0, 1, 3, 6, 10), (0, 2, 9), (0, 1), (0, 3, 600, 601)])
def test_segments_of_any_length_attend_as_if_alone(
    boundaries: tuple[int, ...], causal: bool
) -> None:
    torch.manual_seed(0)
    module = torch.nn.Module()
    q, k, v = (torch.randn(1, 2, boundaries[-1], 8) for _ in range(3))
    ends = torch.tensor(boundaries)
    packed, _ = attend(module, q, k, v, None, is_causal=causal, cu_seq_lens_q=ends)
    for start, end in pairwise(boundaries):
        alone = torch.nn.functional.scaled_dot_product_attention(
            *(x[:, :, start:end] for x in (q, k, v)), is_causal=causal
        )
        torch.testing.assert_close(packed[:, start:end], alone.transpose(1, 2))


def random_input(tokens: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(tokens)

    def draw(heads: int, spread: float) -> Tensor:
        drawn: Tensor = (torch.randn(1, heads, tokens, WIDTH) * spread).to(dtype)
        return drawn.requires_grad_()

    # Scores of about 2, so that a wrong key shows.
    return draw(HEADS, 1.7), draw(KV_HEADS, 1.7), draw(KV_HEADS, 1.0)


def reference(
    tensors: Sequence[Tensor],
    boundaries: Sequence[int],
    blocks: Spans,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """One conversation after the other, each with a whole mask made of transformers' own rules,
    and scores computed as its eager attention computes them."""
    outputs = []
    for start, end in pairwise(boundaries):
        q, k, v = (x[:, :, start:end] for x in tensors)
        k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (k, v))
        mask = whole_mask(end - start, [(a - start, b - start) for a, b in blocks], window)
        scores = q @ k.transpose(2, 3) * WIDTH**-0.5
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        outputs.append((weights @ v).transpose(1, 2))
    return torch.cat(outputs, dim=1)


def whole_mask(length: int, blocks: Spans, window: int | None) -> Tensor:
    """AND(window, OR(causal, same block)), as `create_masks_for_vision_model` of Gemma 3 has it."""
    ids = torch.full((1, length), -1)
    for number, (start, end) in enumerate(blocks):
        if 0 <= start < length:
            ids[0, start:end] = number
    q, k = torch.arange(length)[:, None], torch.arange(length)[None]
    same_block: Any = blockwise_overlay(ids)
    mask = causal_mask_function(0, 0, q, k) | same_block(0, 0, q, k)
    if window is not None:
        mask = mask & window_overlay(window)(0, 0, q, k)
    return mask


CASES = [
    ((0, 9, 20), (), 4, None),
    ((0, 9, 20, 21), ((2, 6), (10, 19)), None, None),
    ((0, 9, 20, 21), ((2, 6), (10, 19)), 4, None),
    ((0, 5, 9, 20, 21), ((0, 5), (6, 9), (10, 12), (13, 20)), 3, None),
    ((0, 7, 15, 22), ((1, 4),), 5, 2.0),
    ((0, 7, 15, 22), (), None, 2.0),
    ((0, 40, 640, 700), ((50, 300), (310, 560), (650, 690)), 100, None),
    ((0, 40, 1700), ((900, 1200), (1300, 1400)), 300, None),
    ((0, 40, 1700), ((900, 1200), (1300, 1400)), None, None),
    ((0, 1500, 1600), (), 700, None),
    ((0, 1200, 1300), (), 700, 5.0),
]


@pytest.mark.parametrize(("boundaries", "blocks", "window", "softcap"), CASES)
def test_windows_image_blocks_and_soft_caps_equal_whole_masks(
    boundaries: tuple[int, ...], blocks: Spans, window: int | None, softcap: float | None
) -> None:
    tensors = random_input(boundaries[-1])
    found, _ = attend(
        torch.nn.Module(),
        *tensors,
        None,
        is_causal=True,
        segments=boundaries,
        image_blocks=blocks,
        sliding_window=window,
        softcap=softcap,
    )
    expected = reference(tensors, boundaries, blocks, window, softcap)
    # Sums of at most 1,700 numbers of about one in another order; worst seen 4e-6.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    pull = torch.randn(found.shape)
    for a, b in zip(
        torch.autograd.grad((found * pull).sum(), tensors),
        torch.autograd.grad((expected * pull).sum(), tensors),
        strict=True,
    ):
        assert float(torch.norm(a - b) / torch.norm(b)) < 1e-5


def test_a_soft_cap_in_bfloat16_rounds_as_eager_attention_does() -> None:
    tensors = random_input(60, torch.bfloat16)
    found, _ = attend(
        torch.nn.Module(), *tensors, None, is_causal=True, segments=(0, 25, 60), softcap=3.0
    )
    expected = reference(tensors, (0, 25, 60), (), None, 3.0)
    # One step of bfloat16: the order of sums is the machine's own. Here they are equal.
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=1e-2)


def test_long_windows_never_make_a_whole_mask() -> None:
    attention._plan.cache_clear()
    sight = attention._Sight(causal=True, window=256)
    plan = attention._plan((0, 8192), sight, torch.device("cpu"))
    pieces = plan.buckets[0].pieces
    assert len(pieces) == 8
    assert sum(piece.mask.numel() for piece in pieces) < 8192 * (1024 + 256)


def test_plain_conversations_keep_the_plain_path_beside_others() -> None:
    sight = attention._Sight(causal=True, blocks=((12, 18),))
    plan = attention._plan((0, 10, 20, 30), sight, torch.device("cpu"))
    assert [(bucket.segments, len(bucket.pieces)) for bucket in plan.buckets] == [(2, 0), (1, 1)]


@pytest.mark.parametrize("blocks", [((8, 12),), ((18, 25),), ((40, 44),)])
def test_a_block_across_conversations_is_refused(blocks: Spans) -> None:
    with pytest.raises(BatchError, match="no conversation"):
        attend(
            torch.nn.Module(),
            *random_input(20),
            None,
            is_causal=True,
            segments=(0, 10, 20),
            image_blocks=blocks,
        )


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"segments": (0, 20), "s_aux": torch.ones(4)}, "s_aux"),
        ({"segments": (0, 20), "position_bias": torch.ones(4)}, "position_bias"),
        ({"sliding_window": 4}, "sliding window without segments"),
        ({"softcap": 4.0}, "soft cap without segments"),
        ({"image_blocks": ((2, 4),)}, "image blocks without segments"),
        (
            {"cu_seq_lens_q": torch.tensor([0, 20]), "is_causal": False, "sliding_window": 4},
            "both ways",
        ),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(keywords: dict[str, Any], named: str) -> None:
    with pytest.raises(BatchError, match=named):
        attend(torch.nn.Module(), *random_input(20), None, **{"is_causal": True, **keywords})


def test_padding_that_a_tower_names_is_not_seen() -> None:
    """Pictures of several sizes in one batch: no segments, but tokens that are none."""
    real = torch.tensor([[True, True, True], [True, False, False]])
    mask = attention._padding_mask(
        2, 3, 3, attention_mask=real, mask_function=lambda b, h, q, k: q >= 0
    )
    assert mask is not None
    assert mask.tolist() == [[[row.tolist()] * 3] for row in real]
    assert attention._padding_mask(2, 3, 3, attention_mask=None) is None
    torch.manual_seed(0)
    module = torch.nn.Module()
    q, k, v = (torch.randn(2, 2, 3, 8) for _ in range(3))
    padded, _ = attend(module, q, k, v, mask, is_causal=False)
    q, k, v = (x[1:, :, :1] for x in (q, k, v))
    alone, _ = attend(module, q, k, v, None, is_causal=False)
    torch.testing.assert_close(padded[1:, :1], alone)
