"""From numpy to the device: pixels are normalised there, and only trained positions are scored.

Legend: T tokens of the pack, N vision patches, C channels, n trained tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from manako.core.example import Pack
    from manako.core.family import PixelRule, Processor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The model's keyword arguments for one pack, and the trained token ids [n] to predict."""

    inputs: dict[str, Any]
    targets: Tensor


def make_batch(
    pack: Pack, processor: Processor, *, device: torch.device | str, dtype: torch.dtype
) -> Batch:
    """A pack on the device. `logits_to_keep` names the positions before trained tokens, so that
    nothing else reaches the LM head. Raises `BatchError` for a missing key."""
    arrays = processor.model_inputs(pack)
    inputs: dict[str, Any] = to_tensors(arrays, processor.pixel_rule, device=device, dtype=dtype)
    trained = np.flatnonzero(pack.trained)
    inputs["logits_to_keep"] = torch.from_numpy(trained - 1).to(device)
    inputs["segments"] = tuple(pack.segments.tolist())
    inputs["use_cache"] = False
    targets = torch.from_numpy(pack.input_ids[trained].astype(np.int64)).to(device)
    return Batch(inputs=inputs, targets=targets)


def to_tensors(
    arrays: Mapping[str, NDArray[Any]],
    rule: PixelRule,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Arrays on the device; `pixel_values` normalised there, in float32, then cast to `dtype`."""
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    if "pixel_values" in tensors:
        tensors["pixel_values"] = normalise(tensors["pixel_values"], rule).to(dtype)
    return tensors


def normalise(pixels: Tensor, rule: PixelRule) -> Tensor:
    """uint8 [N, C, ...] → float32 by the family's `PixelRule`.

    The scale is folded into mean and std before use, as transformers' torchvision backend does
    (`image_processing_backends.py`, 5.23), so results agree to the last bits.
    """
    if not pixels.is_floating_point():
        shape = (1, -1) + (1,) * (pixels.ndim - 2)
        mean = torch.tensor(rule.mean, device=pixels.device) * (1.0 / rule.scale)
        std = torch.tensor(rule.std, device=pixels.device) * (1.0 / rule.scale)
        # In place: fresh buffers of this size cost a CPU more than the arithmetic.
        pixels = pixels.float().sub_(mean.view(shape)).div_(std.view(shape))
    if rule.temporal_copies:
        still = pixels.unsqueeze(2).expand(-1, -1, rule.temporal_copies, -1, -1)
        pixels = still.flatten(1)
    return pixels


def token_losses(model: torch.nn.Module, batch: Batch) -> Tensor:
    """float32 [n]: cross entropy of each trained token, in nats."""
    logits = model(**batch.inputs).logits[0]
    return functional.cross_entropy(logits.float(), batch.targets, reduction="none")
