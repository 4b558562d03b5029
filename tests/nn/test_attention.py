"""Packed attention at its edges: conversations of any length, alone and beside others."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from manako.nn.attention import attend


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
