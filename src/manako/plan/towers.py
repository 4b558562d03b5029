"""Vision towers by their sizes: what a patch is, what it sees, and what the kind of tower says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from manako.core.family import Family
from manako.plan.activations import VisionShape

VISION_CONFIGS = ("vision_config", "vision_cfg", "vision_tower_cfg")
Grid = Literal["whole", "pieces", "sheet"]


@dataclass(frozen=True, kw_only=True)
class TowerKind:
    """What a vision tower's kind says, and its config does not.

    class_tokens: that stand beside the patches of a picture. is_fused: query, key and value of a
    layer are one matrix. read_layer: the one whose result is read, where the config leaves it out.
    pool: patches along a side that are averaged to one. has_head: a pooling head stands on it,
    whose result nobody reads. has_table: positions are a bare table of vectors. is_native: pictures keep their shape, so config.json does not say how
    many tokens one becomes. grid: which entries of a picture's array hold picture, by its grid:
    `whole` all of them, `pieces` (width, height) in pixels of each piece at its frame's corner,
    `sheet` the whole view, then crops of which (rows, columns, held rows, held columns) are so
    many crops, and patches that hold picture.
    """

    class_tokens: int = 0
    is_fused: bool = False
    read_layer: int = -1
    pool: int = 1
    has_head: bool = False
    has_table: bool = False
    is_native: bool = False
    grid: Grid = "whole"


QWEN, SIGLIP = TowerKind(is_fused=True, is_native=True), TowerKind()
PIECES = TowerKind(is_native=True, grid="pieces")
PHI = TowerKind(read_layer=-2, pool=2, has_head=True, is_native=True, grid="sheet")
TOWERS = {
    "qwen2_vl": QWEN,
    "qwen2_vl_vision": QWEN,
    "qwen2_5_vl": QWEN,
    "qwen2_5_vl_vision": QWEN,
    "qwen3_vl": QWEN,
    "qwen3_vl_vision": QWEN,
    "gemma3": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "clip_vision_model": TowerKind(class_tokens=1),
    "idefics2": PIECES,
    "idefics2_vision": PIECES,
    "idefics3": SIGLIP,
    "idefics3_vision": SIGLIP,
    "smolvlm": SIGLIP,
    "smolvlm_vision": SIGLIP,
    "pixtral": TowerKind(is_native=True),
    "phi4_multimodal": PHI,
    "phi4_multimodal_vision": PHI,
    "sarashina2_vision": QWEN,
    "deepseek_vl_v2": TowerKind(is_fused=True, has_table=True),
}
"""By the `model_type` of a vision config, or of the whole where that names none: transformers 5.24,
`models/NAME/modeling_NAME.py`. Idefics3 cuts a picture into squares, as SigLIP's tower wants it."""


JOINED = {"mlp_downsample": 2, "mlp_downsample_2x2_fix": 2, "mlp_downsample_3x3_fix": 3}
"""Patches along a side that become one token, by `mm_projector_type` (VILA's public code)."""


@dataclass(frozen=True, kw_only=True)
class PatchAttention:
    """What patches attend to: in `full` layers to all of their picture, in `windowed` ones to those
    of their window of `window` × `window` patches. Layers whose result nobody reads are not among
    them. side: of a patch, in pixels; class_tokens, is_fused, grid: as `TowerKind` has them;
    unread: numbers of matrices that multiply nothing, or above the layers whose result nobody reads.
    """

    side: int
    full: int
    windowed: int = 0
    window: int = 0
    class_tokens: int = 0
    is_fused: bool = True
    grid: Grid = "whole"
    unread: int = 0

    @property
    def layers(self) -> int:
        return self.full + self.windowed


def vision_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The vision part of a config; empty where it has none."""
    return next((config[key] for key in VISION_CONFIGS if config.get(key)), {})


def kind_of(config: Mapping[str, Any], family: Family | None) -> TowerKind | None:
    """What is known of this kind of tower; None where the kind is unknown or not named."""
    own = family.model_types if family else ()
    name = vision_of(config).get("model_type")
    names = (name, *own) if name else (config.get("model_type"), *own)
    return next((TOWERS[name] for name in names if name in TOWERS), None)


def vision_shape(vision: Mapping[str, Any], family: Family | None) -> VisionShape | None:
    """Sizes of a tower; None where the config names too few of them."""
    width = whole(vision, "embed_dim", "hidden_size", "width")
    layers, patch = whole(vision, "depth", "num_hidden_layers", "layers"), side_of(vision)
    if not (width and layers and patch):
        return None
    heads = whole(vision, "num_heads", "num_attention_heads", "attention_heads", "heads")
    frames = whole(vision, "temporal_patch_size") or 1
    ffn = whole(vision, "intermediate_size") or int(width * float(vision.get("mlp_ratio", 4)))
    return VisionShape(
        width=width,
        layers=layers,
        head_width=width // heads if heads else 0,
        ffn_width=ffn,
        patch_values=(whole(vision, "in_chans", "in_channels") or 3) * frames * patch**2,
        block=family.vision_block if family else "plain",
    )


def patch_attention(
    config: Mapping[str, Any], shape: VisionShape, kind: TowerKind | None
) -> PatchAttention:
    """What patches of this tower attend to."""
    vision, kind = vision_of(config), kind or TowerKind()
    side = side_of(vision)
    named = config.get("mm_vision_select_layer", kind.read_layer)
    read = vision.get("feature_layer", named)
    layers = _read_layers(config.get("vision_feature_layer", read), shape.layers)
    window = whole(vision, "window_size") // side if side else 0
    whole_in = vision.get("fullatt_block_indexes")
    full = len(set(whole_in)) if window and isinstance(whole_in, list | tuple) else layers
    return PatchAttention(
        side=side,
        full=full,
        windowed=layers - full,
        window=window,
        class_tokens=kind.class_tokens,
        is_fused=kind.is_fused,
        grid=kind.grid,
        unread=(_head_numbers(shape) if kind.has_head else 0)
        + (_table_numbers(vision, shape) if kind.has_table else 0),
    )


def _head_numbers(shape: VisionShape) -> int:
    """An attention of one probe, and an MLP: `SiglipMultiheadAttentionPoolingHead`."""
    return 4 * shape.width**2 + shape.width + 2 * shape.width * shape.ffn_width


def _table_numbers(vision: Mapping[str, Any], shape: VisionShape) -> int:
    """A vector for each place of a tile; 384 pixels where the config leaves its side out, as
    DeepSeek-VL2's does."""
    side = side_of(vision, "image_size") or 384
    return (side // side_of(vision)) ** 2 * shape.width


def _read_layers(feature: Any, layers: int) -> int:
    """Layers up to the one whose result is read; counted from the end, −1 is the last."""
    if not isinstance(feature, int):
        return layers
    return feature if feature >= 0 else layers + 1 + feature


def patches_per_token(config: Mapping[str, Any], kind: TowerKind | None) -> float:
    """Patches of a picture that become one token; of a resampler, those of the largest picture."""
    vision, kind = vision_of(config), kind or TowerKind()
    merge = whole(vision, "spatial_merge_size") or whole(config, "spatial_merge_size")
    merge = merge or whole(config, "scale_factor", "downsample_factor")
    merge = merge or whole(vision, "pooling_kernel_size") or (kind.pool if kind.pool > 1 else 0)
    if merge:
        return float(merge**2)
    if joined := JOINED.get(str(projector_kind(config))):
        return float(joined**2)
    if ratio := config.get("downsample_ratio") or vision.get("pixel_shuffle_ratio"):
        return float(1 / float(ratio) ** 2)
    tokens = next(_tokens_per_picture(config, kind), 0)
    if tokens and (patch := side_of(vision)) and (side := side_of(vision, "image_size")):
        return max(1.0, (side // patch) ** 2 / tokens)
    return 1.0


def _tokens_per_picture(config: Mapping[str, Any], kind: TowerKind) -> Iterator[int]:
    if latents := whole(config.get("perceiver_config") or {}, "resampler_n_latents"):
        yield latents
    if tokens := whole(config, "mm_tokens_per_image"):
        yield tokens
    if not kind.is_native and (tokens := whole(config, "image_seq_length")):
        yield tokens


def projector_kind(config: Mapping[str, Any]) -> str | None:
    """What VILA's models call their projector; None where a config has no such word."""
    named = config.get("mm_projector_cfg")
    inner = named.get("mm_projector_type") if isinstance(named, Mapping) else None
    return inner or config.get("mm_projector_type")


def side_of(vision: Mapping[str, Any], name: str = "patch_size") -> int:
    """A side in pixels, also where a config gives it for both axes."""
    side = vision.get(name)
    return int(side[0]) if isinstance(side, list | tuple) and side else whole(vision, name)


def whole(config: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that is a number; 0 where none is."""
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), 0)
