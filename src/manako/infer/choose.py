"""Which token comes next, for every row of a batch.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from manako.infer.reply import Asking

Choose = Callable[["Tensor", Sequence[int]], list[int]]
"""(logits float32 [B, V], number of each row in the call) → token id of each row."""


def chooser(asking: Asking) -> Choose:
    """Greedy at temperature 0; else drawn, every row from a random stream of its own.

    Row i of a call draws from the stream of `seed + i`, whichever rows share its batch, so a call
    with many prompts gives what single calls with those seeds give.
    """
    if asking.temperature == 0:
        return lambda logits_BV, _: logits_BV.argmax(dim=-1).tolist()
    return _Drawing(asking)


def likeliest(logits_BV: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities [B, V] in falling order, 0 outside `top_p`, and the token ids they belong to.

    The token that crosses `top_p` is kept, as in nucleus sampling (arXiv 1904.09751) and in
    transformers' `TopPLogitsWarper`.
    """
    highest = logits_BV.max(dim=-1, keepdim=True).values
    probabilities = ((logits_BV - highest) / temperature).softmax(dim=-1)
    falling, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    if top_p == 1:
        return falling, ids  # sums of rounded numbers may reach 1 before the last token
    before = falling.cumsum(dim=-1) - falling
    return falling.where(before < top_p, 0.0), ids


class _Drawing:
    def __init__(self, asking: Asking) -> None:
        self._temperature, self._top_p = asking.temperature, asking.top_p
        self._root = secrets.randbits(64) if asking.seed is None else asking.seed
        self._streams: dict[int, np.random.Generator] = {}

    def __call__(self, logits_BV: Tensor, rows: Sequence[int]) -> list[int]:
        falling, ids = likeliest(logits_BV, self._temperature, self._top_p)
        sums = falling.cumsum(dim=-1)
        drawn = torch.tensor([self._uniform(row) for row in rows], dtype=sums.dtype)
        places = torch.searchsorted(sums, drawn.to(sums.device)[:, None] * sums[:, -1:], right=True)
        chosen: list[int] = ids.gather(-1, places.clamp(max=ids.shape[-1] - 1))[:, 0].tolist()
        return chosen

    def _uniform(self, row: int) -> float:
        """A number in [0, 1) from the row's own stream."""
        if row not in self._streams:
            self._streams[row] = np.random.Generator(np.random.PCG64(self._root + row))
        return float(self._streams[row].random(dtype=np.float32))
