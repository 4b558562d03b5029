"""Training loops as one writes them by hand around the same model: nothing but the step.

`packed`: our packs, attention told their segments. `padded`: rows side by side, filled up to the
longest, in transformers' own attention and loss. Batches lie ready, so nothing waits for data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from manako.core.example import Example, Pack
from manako.core.family import Processor
from manako.nn.batch import Batch, make_batch, to_tensors, token_losses

MAX_NORM = 1.0
NO_LABEL = -100
"""What transformers' loss passes over."""


def open_packed(folder: Any, *, device: str = "cpu") -> Any:
    """The model as our training runs it."""
    from manako.families.qwen2_vl import FAMILY
    from manako.nn.attention import use_segments
    from manako.nn.checkpoint import load_model
    from manako.nn.patches import multiply_patches

    model = load_model(folder, FAMILY, device=device)
    use_segments(model)
    multiply_patches(model)
    return model.train()


def open_padded(folder: Any, *, device: str = "cpu") -> Any:
    """The model as transformers opens it."""
    from transformers import Qwen2VLForConditionalGeneration

    opened = Qwen2VLForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    return opened.to(device).train()


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


def train_packed(model: Any, batches: Sequence[Batch], optimizer: torch.optim.Optimizer) -> None:
    """One step per batch."""
    for batch in batches:
        loss = token_losses(model, batch).sum() / len(batch.targets)
        _step(model, loss, optimizer)


def train_padded(
    model: Any, batches: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer
) -> None:
    """One step per batch."""
    for batch in batches:
        _step(model, model(**batch, use_cache=False).loss, optimizer)


def _step(model: Any, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def adamw(model: Any, rate: float) -> torch.optim.Optimizer:
    """AdamW as our training has it, over what is trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=rate, weight_decay=0.0, fused=True)
