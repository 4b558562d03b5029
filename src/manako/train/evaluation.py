"""Validation loss: the mean over all trained tokens of held-out rows, packed as in training.

Ranks share the packs out, and add up what they found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from manako.core.errors import InputError
from manako.data.loader import Loader
from manako.data.settings import LoaderSettings
from manako.data.too_long import Fitted
from manako.nn.batch import make_batch, token_losses
from manako.train.sharding import Copies

if TYPE_CHECKING:
    from manako.core.conversation import Conversation
    from manako.core.recipe import Recipe
    from manako.data.source import RowSource


class SomeRows:
    """At most `most` rows of a source, spread evenly over it."""

    def __init__(self, source: RowSource, most: int) -> None:
        self._source = source
        self.rows = min(most, source.rows)
        self.manifest_sha256 = f"{source.manifest_sha256}/{self.rows}"

    @property
    def groups(self) -> Sequence[tuple[int, int, int]]:
        return ((0, self.rows, 0),)

    def conversation(self, index: int) -> Conversation:
        """Row `index` of those chosen."""
        return self._source.conversation(self._place(index))

    def outline(self, index: int) -> Conversation:
        """The same row, perhaps without the pictures' bytes."""
        return self._source.outline(self._place(index))

    def _place(self, index: int) -> int:
        return index * self._source.rows // self.rows


class Validation:
    """Held-out rows, ready to be scored again and again."""

    def __init__(
        self, recipe: Recipe, source: RowSource, fitted: Fitted, sharding: Copies | None = None
    ) -> None:
        self._fitted = fitted
        self._sharding = sharding or Copies()
        ranks = self._sharding.ranks
        most = recipe.eval.max_rows if recipe.eval else source.rows
        rows = SomeRows(source, most)
        if not rows.rows:
            raise InputError("eval.data holds no rows")
        self._loader = Loader(
            LoaderSettings(
                weights={"eval": 1.0},
                pack_tokens=recipe.pack_tokens,
                global_batch_packs=ranks.size,
                pack_window_rows=recipe.pack_window_rows,
                too_long=recipe.too_long,
            ),
            {"eval": rows},
            measure=fitted.measure,
            encode=fitted.encode,
            fingerprint=fitted.processor.fingerprint,
            workers=0,
            share=ranks.share,
        )
        self._start = self._loader.state()

    @torch.no_grad()
    def loss(self, model: torch.nn.Module, *, device: torch.device, dtype: torch.dtype) -> float:
        """Mean loss per trained token, in nats, over the rows of all ranks; the model is left in
        the mode it was in."""
        was_training = model.training
        model.eval()
        total, tokens = 0.0, 0.0
        self._loader.restore(self._start)
        for step in self._loader:
            for pack in self._sharding.packs(step.packs):
                batch = make_batch(pack, self._fitted.processor, device=device, dtype=dtype)
                with self._sharding.gathering():
                    total += float(token_losses(model, batch).double().sum())
                tokens += pack.trained_tokens
        self._sharding.settle(model)
        model.train(was_training)
        total, tokens = self._sharding.ranks.sum([total, tokens], "the validation loss")
        if not tokens:
            raise InputError("eval.data has no row with a trained token that fits in a pack")
        return total / tokens
