"""Sizes of a model from its card: what config.json says, in whichever words its family uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from manako.catalogue.cards import Card, cards
from manako.core.family import AttentionRule, Family, families
from manako.plan.activations import LanguageShape, Shapes, VisionShape

TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
VISION_CONFIGS = ("vision_config", "vision_cfg")
NO_VISION = VisionShape(width=0, layers=0, head_width=0, ffn_width=0, patch_values=0)
LEFT_OUT = {
    "moe_intermediate_size": "experts",
    "num_experts_per_tok": "experts",
    "num_local_experts": "experts",
    "kv_lora_rank": "compressed keys and values",
    "cross_attention_layers": "cross attention",
    "num_kv_shared_layers": "layers that share keys",
    "hidden_size_per_layer_input": "inputs of each layer",
    "deepstack_visual_indexes": "features of several vision layers",
    "vision_use_head": "a pooling head of the vision tower",
}
"""Fields of a config that say of a model what `Dims` does not describe."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What a decoder keeps of each token in its cache.

    cell: numbers per token and layer (keys and values, or one compressed latent). full, sliding:
    layers that look back over everything, and over `window` tokens; others keep no cache.
    """

    cell: int
    full: int
    sliding: int = 0
    window: int = 0

    def numbers(self, tokens: int) -> int:
        """Numbers that the cache of a context holds."""
        return self.cell * (self.full * tokens + self.sliding * min(tokens, self.window))


@dataclass(frozen=True, kw_only=True)
class PatchAttention:
    """What patches attend to: in `full` layers to all of their picture, in `windowed` ones to those
    of their window of `window` × `window` patches. Layers whose result nobody reads are not among
    them. side: of a patch, in pixels; class_tokens: that stand beside the patches of a picture;
    is_fused: query, key and value of a layer are one matrix.
    """

    side: int
    full: int
    windowed: int = 0
    window: int = 0
    class_tokens: int = 0
    is_fused: bool = True

    @property
    def layers(self) -> int:
        return self.full + self.windowed


@dataclass(frozen=True, kw_only=True)
class TowerKind:
    """What a vision tower's kind says, and its config does not."""

    class_tokens: int = 0
    is_fused: bool = True


TOWERS = {
    "qwen2_vl": TowerKind(),
    "qwen2_vl_vision": TowerKind(),
    "qwen2_5_vl": TowerKind(),
    "qwen2_5_vl_vision": TowerKind(),
    "siglip_vision_model": TowerKind(is_fused=False),
    "clip_vision_model": TowerKind(is_fused=False, class_tokens=1),
}
"""By the `model_type` of a vision config: transformers 5.24, `models/NAME/modeling_NAME.py`."""


@dataclass(frozen=True, kw_only=True)
class Dims:
    """Sizes of one checkpoint. patches_per_token: patches of a picture that become one token.

    linears: (out, in) of the linear layers of all attention and MLP blocks, with how many there
    are of each; experts are not among them. has_merger_norm: a norm stands in front of the merger,
    or projector, and belongs to it. ties_head: embedding and LM head are one tensor.
    rule: how the family's tokens see each other; None where no family file knows. left_out: what
    the model has and these sizes do not describe.
    """

    shapes: Shapes
    attention: Attention
    patch_attention: PatchAttention
    linears: tuple[tuple[int, int, int], ...]
    merger: tuple[tuple[int, int], ...]
    has_merger_norm: bool
    ties_head: bool
    patches_per_token: float
    rule: AttentionRule | None
    left_out: tuple[str, ...]


def dims_of(card: Card) -> Dims | None:
    """The sizes that a card's config names, or its base's where it was tuned from one with a card;
    None where that is too little for any arithmetic."""
    return describe(_config_of(card), _family_of(card))


def describe(config: Mapping[str, Any], family: Family | None) -> Dims | None:
    """The sizes that a config names, as published or as transformers completes it; None where that
    is too little for any arithmetic. family: None where no family file knows the architecture."""
    text = next((config[key] for key in TEXT_CONFIGS if key in config), config)
    vision: Mapping[str, Any] = next((config[key] for key in VISION_CONFIGS if key in config), {})
    language = _language(text)
    if language is None:
        return None
    shape = _vision(vision, family) or NO_VISION
    attention = _attention(text, language)
    merger = _merger(config, vision, shape, language)
    return Dims(
        shapes=Shapes(language=language, vision=shape),
        attention=attention,
        patch_attention=_patch_attention(config, vision, shape),
        linears=_linears(text, language, attention),
        merger=merger,
        has_merger_norm=bool(merger) and "projector_hidden_act" not in config,
        ties_head=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
        patches_per_token=_patches_per_token(config, vision),
        rule=family.attention if family else None,
        left_out=tuple(dict.fromkeys(_left_out(config, text, vision, attention, merger))),
    )


def _family_of(card: Card) -> Family | None:
    kind = card.model_type.value if card.model_type else card.family
    return next((f for f in families().items.values() if kind in f.model_types), None)


def _left_out(
    config: Mapping[str, Any],
    text: Mapping[str, Any],
    vision: Mapping[str, Any],
    attention: Attention,
    merger: tuple[tuple[int, int], ...],
) -> Iterator[str]:
    yield from (why for name, why in LEFT_OUT.items() if text.get(name) or vision.get(name))
    if attention.full + attention.sliding != whole(text, "num_hidden_layers"):
        yield "layers without attention over tokens"
    is_off = text.get("use_sliding_window") is False
    if whole(text, "sliding_window") and not (attention.sliding or is_off):
        yield "a sliding window in layers that the config does not name"
    if not isinstance(text.get("intermediate_size"), int):
        yield "MLPs of several widths"
    if vision and _kind(vision) is None:
        yield f"a vision tower of the kind {vision.get('model_type', 'that is not named')}"
    if vision and not merger:
        yield "the projector"
    if isinstance(config.get("vision_feature_layer"), list | tuple):
        yield "features of several vision layers"


def _config_of(card: Card) -> Mapping[str, Any]:
    if card.config is not None:
        return card.config.fields
    same = (c for c in cards() if card.base in (c.id, *c.aliases) and c.family == card.family)
    return next((base.config.fields for base in same if base.config is not None), {})


def whole(config: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that is a number; 0 where none is."""
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), 0)


def _language(text: Mapping[str, Any]) -> LanguageShape | None:
    width, heads = whole(text, "hidden_size"), whole(text, "num_attention_heads")
    layers, vocabulary = whole(text, "num_hidden_layers"), whole(text, "vocab_size")
    if not (width and heads and layers and vocabulary):
        return None
    head_width = whole(text, "head_dim") or width // heads
    return LanguageShape(
        width=width,
        layers=layers,
        attention=heads * head_width,
        head_width=head_width,
        ffn_width=_ffn_width(text),
        vocabulary=vocabulary,
    )


def _ffn_width(text: Mapping[str, Any]) -> int:
    """Width of the MLP that one token passes: of a mixture, that of all its active experts."""
    experts = whole(text, "num_experts_per_tok", "moe_topk", "top_k_experts")
    if expert := whole(text, "moe_intermediate_size"):
        return expert * (experts + whole(text, "n_shared_experts"))
    size = text.get("intermediate_size")
    found = max(size) if isinstance(size, list) else whole(text, "intermediate_size")
    return found * max(1, experts)


def is_mixture(card: Card) -> bool:
    """Whether a model is a mixture of experts: all are held, a few work on each token."""
    return card.parameters is not None and card.parameters.active is not None


def _attention(text: Mapping[str, Any], language: LanguageShape) -> Attention:
    kinds = text.get("layer_types")
    every = whole(text, "full_attention_interval")
    window = whole(text, "sliding_window")
    cell = _cell(text, language)
    if isinstance(kinds, list | tuple):
        full, sliding = kinds.count("full_attention"), kinds.count("sliding_attention")
        return Attention(cell=cell, full=full, sliding=sliding, window=window)
    if every:
        return Attention(cell=cell, full=language.layers // every)
    if (pattern := whole(text, "sliding_window_pattern")) and window:
        full = language.layers // pattern
        return Attention(cell=cell, full=full, sliding=language.layers - full, window=window)
    return Attention(cell=cell, full=language.layers)


def _cell(text: Mapping[str, Any], language: LanguageShape) -> int:
    if text.get("use_mla", True) and (latent := whole(text, "kv_lora_rank")):
        return latent + whole(text, "qk_rope_head_dim")
    return 2 * _kv_heads(text) * language.head_width


def _kv_heads(text: Mapping[str, Any]) -> int:
    return whole(text, "num_key_value_heads") or whole(text, "num_attention_heads")


def _linears(
    text: Mapping[str, Any], language: LanguageShape, attention: Attention
) -> tuple[tuple[int, int, int], ...]:
    width, kv = language.width, _kv_heads(text) * language.head_width
    attending, layers = attention.full + attention.sliding, language.layers
    blocks = [(language.attention, width, attending), (width, language.attention, attending)]
    blocks.append((kv, width, 2 * attending))
    if not whole(text, "moe_intermediate_size", "num_experts_per_tok", "num_local_experts"):
        blocks += [(language.ffn_width, width, 2 * layers), (width, language.ffn_width, layers)]
    return tuple(blocks)


def _vision(vision: Mapping[str, Any], family: Family | None) -> VisionShape | None:
    width = whole(vision, "embed_dim", "hidden_size", "width")
    layers, patch = whole(vision, "depth", "num_hidden_layers", "layers"), _side(vision)
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


def _kind(vision: Mapping[str, Any]) -> TowerKind | None:
    """What is known of this kind of tower; towers with a merger of their own are Qwen's."""
    kind = vision.get("model_type") or ("qwen2_vl" if "spatial_merge_size" in vision else "")
    return TOWERS.get(kind)


def _patch_attention(
    config: Mapping[str, Any], vision: Mapping[str, Any], shape: VisionShape
) -> PatchAttention:
    side, kind = _side(vision), _kind(vision) or TowerKind()
    layers = _read_layers(config.get("vision_feature_layer"), shape.layers)
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
    )


def _read_layers(feature: Any, layers: int) -> int:
    """Layers up to the one whose result is read; counted from the end, −1 is the last."""
    if not isinstance(feature, int):
        return layers
    return feature if feature >= 0 else layers + 1 + feature


def _side(vision: Mapping[str, Any], name: str = "patch_size") -> int:
    """A side in pixels, also where a config gives it for both axes."""
    side = vision.get(name)
    return int(side[0]) if isinstance(side, list | tuple) and side else whole(vision, name)


def _merger(
    config: Mapping[str, Any],
    vision: Mapping[str, Any],
    shape: VisionShape,
    language: LanguageShape,
) -> tuple[tuple[int, int], ...]:
    """The projector's matrices, each (out, in): the two of a merger as Qwen2-VL has it, the one that
    Gemma 3 has behind its pooling, the two that LLaVA has; none where the config speaks of none."""
    merged = whole(vision, "spatial_merge_size") ** 2 * shape.width
    if merged:
        return ((merged, merged), (language.width, merged))
    if shape.width and whole(config, "mm_tokens_per_image"):
        return ((language.width, shape.width),)
    if shape.width and "projector_hidden_act" in config and "spatial_merge_size" not in config:
        return ((language.width, shape.width), (language.width, language.width))
    return ()


def _patches_per_token(config: Mapping[str, Any], vision: Mapping[str, Any]) -> float:
    merge = whole(vision, "spatial_merge_size") or whole(config, "spatial_merge_size")
    merge = merge or whole(config, "scale_factor", "downsample_factor")
    merge = merge or whole(vision, "pooling_kernel_size")
    if merge:
        return float(merge**2)
    if ratio := config.get("downsample_ratio") or vision.get("pixel_shuffle_ratio"):
        return float(1 / float(ratio) ** 2)
    tokens = whole(config, "mm_tokens_per_image", "image_seq_length")
    if tokens and (patch := _side(vision)) and (side := _side(vision, "image_size")):
        return max(1.0, (side // patch) ** 2 / tokens)
    return 1.0
