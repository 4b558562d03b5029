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

CHUNK_VALUES = 2**17
"""Pixel values that are normalised at once on a CPU: 512 kB in float32."""

FRAMES_DIMENSIONS = 5
"""Of pixels whose patches hold several frames: [N, k, C, p, p]."""


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
    inputs.update(processor.attention_inputs(pack))
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
    """Arrays on the device; pixels normalised there, in float32, then cast to `dtype`."""
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    for key in tensors.keys() & {rule.key, rule.video_key}:
        tensors[key] = normalise(tensors[key], rule).to(dtype)
    return tensors


def normalise(pixels: Tensor, rule: PixelRule) -> Tensor:
    """uint8 [..., C, H, W] → float32 by the family's `PixelRule`.

    The scale is folded into mean and std before use, as transformers' torchvision backend does
    (`image_processing_backends.py`, 5.23), so results agree to the last bits.
    """
    if pixels.is_floating_point():
        return _standing(pixels, rule.temporal_copies)
    mean = torch.tensor(rule.mean, device=pixels.device) * (1.0 / rule.scale)
    std = torch.tensor(rule.std, device=pixels.device) * (1.0 / rule.scale)
    levels = (mean.view(-1, 1, 1), std.view(-1, 1, 1))
    if pixels.device.type == "cpu":
        return _normalised_in_cache(pixels, *levels, copies=rule.temporal_copies)
    return _standing(pixels.float().sub_(levels[0]).div_(levels[1]), rule.temporal_copies)


def _standing(pixels: Tensor, copies: int) -> Tensor:
    """A still picture's patches, `copies` times along time, or a video's [N, k, C, p, p] with its
    channels first, flattened; 0 copies: as they are."""
    return _in_time(pixels, copies).flatten(1) if copies else pixels


def _in_time(pixels: Tensor, copies: int) -> Tensor:
    """[N, C, p, p] or [N, k, C, p, p] → [N, C, k, p, p]."""
    if pixels.ndim == FRAMES_DIMENSIONS:
        return pixels.transpose(1, 2)
    return pixels.unsqueeze(2).expand(-1, -1, copies, -1, -1)


def _normalised_in_cache(pixels: Tensor, mean: Tensor, std: Tensor, *, copies: int) -> Tensor:
    """The same on a CPU, where memory decides: the arithmetic goes chunk by chunk, and only the
    result is written out. numpy asks the system for huge pages for it, which torch does not."""
    still = _in_time(pixels, copies) if copies else pixels
    found = torch.from_numpy(np.empty(still.shape, dtype=np.float32))
    entries = max(1, CHUNK_VALUES // max(1, pixels.shape[1:].numel()))
    for start in range(0, len(pixels), entries):
        values = pixels[start : start + entries].float().sub_(mean).div_(std)
        found[start : start + entries].copy_(_in_time(values, copies) if copies else values)
    return found.flatten(1) if copies else found


def token_losses(model: torch.nn.Module, batch: Batch) -> Tensor:
    """float32 [n]: cross entropy of each trained token, in nats."""
    logits = model(**batch.inputs).logits[0]
    return functional.cross_entropy(logits.float(), batch.targets, reduction="none")
