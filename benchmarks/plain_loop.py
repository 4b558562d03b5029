"""Training loops as one writes them by hand around the same model: nothing but the step.

`packed`: our packs, attention told their segments. `padded`: rows side by side, filled up to the
longest, in transformers' own attention and loss. Batches lie ready, so nothing waits for data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from manako.core.example import Example, Pack
from manako.core.family import Processor
from manako.nn.batch import Batch, make_batch, to_tensors, token_losses

if TYPE_CHECKING:
    from manako.core.recipe import Recipe

MAX_NORM = 1.0
NO_LABEL = -100
"""What transformers' loss passes over."""


def open_packed(recipe: Recipe, device: str) -> Any:
    """The model as our training runs it."""
    from manako.nn.attention import use_segments
    from manako.nn.patches import multiply_patches

    model = _open(recipe, device)
    use_segments(model)
    multiply_patches(model)
    return model


def open_padded(recipe: Recipe, device: str) -> Any:
    """The model as transformers runs it, training what the recipe trains."""
    return _open(recipe, device)


def _open(recipe: Recipe, device: str) -> Any:
    from manako.core.family import family_of
    from manako.nn.checkpoint import load_model, stored_dtype
    from manako.train.parts import prepare_parts, set_precision

    folder = Path(recipe.model)
    family = family_of(folder)
    dtype = stored_dtype(folder) if recipe.bf16 else "float32"
    model = load_model(folder, family, dtype=dtype, device=device)
    prepare_parts(model, family, recipe)
    set_precision(model, bf16=recipe.bf16)
    return model.train()


def autocast(device: str, recipe: Recipe) -> Any:
    """Computing in bfloat16 where the recipe does."""
    return torch.autocast(device, torch.bfloat16, enabled=recipe.bf16)


def packed_batch(pack: Pack, processor: Processor, **where: Any) -> Batch:
    """A pack on the device."""
    return make_batch(pack, processor, **where)


def padded_batch(
    examples: Sequence[Example], processor: Processor, *, device: str, dtype: torch.dtype
) -> dict[str, Any]:
    """The model's arguments for rows filled up to the longest, labels for trained tokens alone."""
    longest = max(example.tokens for example in examples)
    ids = np.zeros((len(examples), longest), np.int64)
    seen, labels = np.zeros_like(ids), np.full_like(ids, NO_LABEL)
    for row, example in enumerate(examples):
        ids[row, : example.tokens] = example.input_ids
        seen[row, : example.tokens] = 1
        labels[row, : example.tokens] = np.where(example.trained, example.input_ids, NO_LABEL)
    arrays = {"input_ids": ids, "attention_mask": seen, "labels": labels}
    # The family's own arguments for pictures; of those for tokens only the kinds, which are padded.
    one_row = processor.model_inputs(Pack(examples=tuple(examples), pack_tokens=longest))
    arrays |= {key: one_row[key] for key in ("pixel_values", "image_grid_thw") if key in one_row}
    arrays["mm_token_type_ids"] = (ids == processor.image_token_id).astype(np.int64)
    return to_tensors(arrays, processor.pixel_rule, device=device, dtype=dtype)


def train_packed(
    model: Any, batches: Sequence[Batch], optimizer: torch.optim.Optimizer, computing: Any
) -> None:
    """One step per batch."""
    for batch in batches:
        with computing:
            loss = token_losses(model, batch).sum() / len(batch.targets)
        _step(model, loss, optimizer)


def train_padded(
    model: Any,
    batches: Sequence[Mapping[str, Any]],
    optimizer: torch.optim.Optimizer,
    computing: Any,
) -> None:
    """One step per batch."""
    for batch in batches:
        with computing:
            loss = model(**batch, use_cache=False).loss
        _step(model, loss, optimizer)


def _step(model: Any, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def adamw(model: Any, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW as our training builds it."""
    from manako.core.family import family_of
    from manako.train.optimizers import build_optimizers, set_rates

    (optimizer,) = build_optimizers(model, family_of(Path(recipe.model)), recipe)
    set_rates([optimizer], 1.0)
    return optimizer
