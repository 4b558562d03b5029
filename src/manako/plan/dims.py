"""Sizes of a model from its card: what config.json says, in whichever words its family uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manako.catalogue.cards import Card, cards
from manako.plan.activations import LanguageShape, Shapes, VisionShape, vision_block

TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
VISION_CONFIGS = ("vision_config", "vision_cfg")
NO_VISION = VisionShape(width=0, layers=0, head_width=0, ffn_width=0, patch_values=0)


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
class Dims:
    """Sizes of one checkpoint. patches_per_token: patches of a picture that become one token.

    linears: (out, in) of the linear layers of all attention and MLP blocks, with how many there
    are of each; experts are not among them. ties_head: embedding and LM head are one tensor.
    """

    shapes: Shapes
    attention: Attention
    linears: tuple[tuple[int, int, int], ...]
    merger: tuple[tuple[int, int], ...]
    ties_head: bool
    patches_per_token: float


def dims_of(card: Card) -> Dims | None:
    """The sizes that a card's config names, or its base's where it was tuned from one with a card;
    None where that is too little for any arithmetic."""
    config = _config_of(card)
    text = next((config[key] for key in TEXT_CONFIGS if key in config), config)
    vision: Mapping[str, Any] = next((config[key] for key in VISION_CONFIGS if key in config), {})
    language = _language(text)
    if language is None:
        return None
    shape = _vision(vision, card) or NO_VISION
    attention = _attention(text, language)
    return Dims(
        shapes=Shapes(language=language, vision=shape),
        attention=attention,
        linears=_linears(text, language, attention),
        merger=_merger(vision, shape, language),
        ties_head=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
        patches_per_token=_patches_per_token(config, vision),
    )


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


def _vision(vision: Mapping[str, Any], card: Card) -> VisionShape | None:
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
        block=vision_block(card.model_type.value if card.model_type else card.family),
    )


def _side(vision: Mapping[str, Any], name: str = "patch_size") -> int:
    """A side in pixels, also where a config gives it for both axes."""
    side = vision.get(name)
    return int(side[0]) if isinstance(side, list | tuple) and side else whole(vision, name)


def _merger(
    vision: Mapping[str, Any], shape: VisionShape, language: LanguageShape
) -> tuple[tuple[int, int], ...]:
    """The two matrices of a merger as Qwen2-VL has it; none where the config speaks of no merging."""
    merged = whole(vision, "spatial_merge_size") ** 2 * shape.width
    return ((merged, merged), (language.width, merged)) if merged else ()


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
