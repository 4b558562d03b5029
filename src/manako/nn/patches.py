"""What is changed in models of `transformers` before they compute; weights and names stay.

Patch embeddings become matrix products: a convolution whose kernel is its whole input, as in Qwen's
vision towers, is one matrix product per patch, and convolution kernels are slower at that. Same
numbers up to the order of additions.

Pictures of unequally many crops come in an array that is filled up; the filler is left out of the
tower, whose results for it nobody reads.

Videos of unequally many frames come one after another, with their numbers of frames.

Two are corrections. A vision tower looks both ways, also where its class says otherwise: that of
Phi-4-multimodal (transformers 5.24) calls itself causal, so that SDPA hides the right and lower
half of a picture from its patches, unless some crop of the batch has padding. And LongRoPE chooses
its factors by the length of a conversation, not of the pack that it stands in.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from manako.core.family import Family

LONG_ROPE = "longrope"
"""The `rope_type` whose factors depend on how long a conversation is (arXiv 2402.13753)."""


def multiply_patches(model: nn.Module) -> int:
    """Let every three-dimensional patch convolution of `model` multiply where its input is one
    patch each; returns how many there are. Weights and their names stay as they are."""
    found = [module for module in model.modules() if _is_patch_convolution(module)]
    for module in found:
        module.forward = _Multiplied(module)
    return len(found)


class _Multiplied:
    """Stands in for the forward of one convolution; input [N, C, t, h, w] → [N, D, 1, 1, 1]."""

    def __init__(self, convolution: Any) -> None:
        self._convolution = convolution

    def __call__(self, patches: Tensor) -> Tensor:
        weight = self._convolution.weight
        if patches.shape[1:] != weight.shape[1:]:
            return nn.Conv3d.forward(self._convolution, patches)
        found = functional.linear(patches.flatten(1), weight.flatten(1), self._convolution.bias)
        return found[:, :, None, None, None]


def _is_patch_convolution(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv3d)
        and module.kernel_size == module.stride
        and not any(int(pad) for pad in module.padding)
        and module.groups == 1
    )


def look_both_ways(model: nn.Module, family: Family) -> int:
    """Let every attention of the vision part see its whole picture; returns how many did not."""
    prefixes = tuple(f"{prefix}." for prefix in family.parts.get("vision", ()))
    found = [
        module
        for name, module in model.named_modules()
        if name.startswith(prefixes) and family.is_trainable(name)
        if getattr(module, "is_causal", False) is True
    ]
    for module in found:
        module.is_causal = False
    return len(found)


def turn_apart(model: nn.Module) -> int:
    """Let every LongRoPE of `model` choose its factors for each conversation of a pack as if it
    stood alone; returns how many there are."""
    found = [m for m in model.modules() if getattr(m, "rope_type", None) == LONG_ROPE]
    for module in found:
        module.forward = _TurnedApart(module)
    return len(found)


class _TurnedApart:
    """Stands in for the forward of one rotary embedding; position_ids [1, T], which begin with 0
    in every conversation → cos and sin, each [1, T, D]."""

    def __init__(self, rotary: Any) -> None:
        self._rotary = rotary

    def __call__(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        forward = type(self._rotary).forward
        starts = torch.nonzero(position_ids[0] == 0).flatten().tolist()
        if len(position_ids) > 1 or len(starts) < 2:
            return forward(self._rotary, x, position_ids)  # type: ignore[no-any-return]
        edges = sorted({0, *starts, position_ids.shape[1]})
        lengths = [b - a for a, b in pairwise(edges)]
        turned = [
            forward(self._rotary, x, ids) for ids in torch.split(position_ids, lengths, dim=1)
        ]
        cos, sin = (torch.cat(each, dim=1) for each in zip(*turned, strict=True))
        return cos, sin


def leave_filler_out(model: nn.Module) -> int:
    """Let towers that are handed pictures of unequally many crops see real crops alone; returns
    how many there are. Phi-4-multimodal's fills every picture up to the one of most crops."""
    found = [
        module
        for module in model.modules()
        if hasattr(module, "get_img_features") and hasattr(module, "crop_size")
    ]
    for module in found:
        module.forward = _WithoutFiller(module)
    return len(found)


class _WithoutFiller:
    """Stands in for the forward of one image embedding; pixels [B, N, C, s, s], of which a picture
    has one for its whole view and one for each crop of its sheet, `image_sizes` [B, 2] in pixels.
    """

    def __init__(self, embedding: Any) -> None:
        self._embedding = embedding

    def __call__(
        self,
        *inputs: Tensor,
        image_pixel_values: Tensor,
        image_sizes: Tensor,
        image_attention_mask: Tensor,
    ) -> Any:
        embedding = self._embedding
        crops = (image_sizes.view(-1, 2) // embedding.crop_size).prod(dim=1)
        places = torch.arange(image_pixel_values.shape[1], device=crops.device)
        is_real = (places <= crops[:, None]).flatten()

        def of_real_crops(pixels: Tensor, attention_mask: Tensor) -> Tensor:
            seen = type(embedding).get_img_features(
                embedding, pixels[is_real], attention_mask[is_real]
            )
            every = seen.new_zeros(len(is_real), *seen.shape[1:])
            return torch.index_put(every, (is_real,), seen)

        embedding.get_img_features = of_real_crops
        try:
            return type(embedding).forward(
                embedding,
                *inputs,
                image_pixel_values=image_pixel_values,
                image_sizes=image_sizes,
                image_attention_mask=image_attention_mask,
            )
        finally:
            del embedding.get_img_features


def tell_clips_apart(model: nn.Module) -> int:
    """Let models that end a video with a learned vector take videos of unequally many frames;
    returns how many there are. LLaVA-OneVision's own forward wants equally many."""
    found = [
        module
        for module in model.modules()
        if hasattr(module, "get_video_features")
        and hasattr(module, "apply_pooling")
        and hasattr(module, "image_newline")
    ]
    for module in found:
        module.forward = _ClipsApart(module)
    return len(found)


class _ClipsApart:
    """Stands in for the forward of one model; `frames_per_video` [clips] is of pixels [1, F, C, s,
    s], all clips one after another. Without it, everything is as it was."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, *inputs: Any, frames_per_video: Tensor | None = None, **others: Any) -> Any:
        model = self._model
        if frames_per_video is None:
            return type(model).forward(model, *inputs, **others)
        counts = frames_per_video.tolist()

        def of_clips(*pixels: Tensor, **how: Any) -> Any:
            found = type(model).get_video_features(model, *pixels, **how)
            found.pooler_output = _ended_apart(found.pooler_output, counts)
            return found

        model.get_video_features = of_clips
        try:
            return type(model).forward(model, *inputs, **others)
        finally:
            del model.get_video_features


def _ended_apart(vectors: Tensor, frames: list[int]) -> Tensor:
    """[1, F·n + 1, D], of which the last vector ends a video → [1, F·n + clips, D]."""
    seen, end = vectors[0, :-1], vectors[0, -1:]
    each = len(seen) // sum(frames)
    clips = torch.split(seen, [count * each for count in frames])
    return torch.cat([torch.cat([clip, end]) for clip in clips])[None]
