"""Decoders by their sizes: layers and their linear layers, and what their tokens look back over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manako.plan.activations import LanguageShape
from manako.plan.towers import whole

EXPERTS = ("moe_intermediate_size", "num_experts_per_tok", "num_local_experts")


@dataclass(frozen=True, kw_only=True)
class DecoderKind:
    """What a decoder's kind says, and its config may not. full_every: with a sliding window, every
    so many layers one looks back over everything; 0: none does; None: the config says. is_fused:
    query, key and value of a layer are one matrix, and so are gate and up. has_experts: a mixture in
    DeepSeek's words."""

    full_every: int | None = None
    is_fused: bool = False
    has_experts: bool = False


DECODERS = {
    "deepseek_v2": DecoderKind(has_experts=True),
    "deepseek_vl_v2": DecoderKind(has_experts=True),
    "gemma2": DecoderKind(full_every=2),
    "mistral": DecoderKind(full_every=0),
    "phi4_multimodal": DecoderKind(full_every=0, is_fused=True),
}
"""By the `model_type` of a text config: transformers 5.24, `models/NAME/configuration_NAME.py` and
`modeling_NAME.py`."""


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
class Linears:
    """(out, in) of the linear layers of all attention and MLP blocks, with how many there are of
    each. first: those that read what enters the first layer. routed: the router, and the experts
    that one token passes, which no adapter is put on. idle: numbers of the experts that it does
    not pass.
    """

    every: tuple[tuple[int, int, int], ...]
    first: tuple[tuple[int, int], ...]
    routed: tuple[tuple[int, int, int], ...] = ()
    idle: int = 0

    @property
    def passed(self) -> int:
        """Numbers that multiply each token."""
        return sum(out * into * count for out, into, count in (*self.every, *self.routed))


def decoder_kind(name: str) -> DecoderKind:
    """What is known of decoders of this `model_type`."""
    return DECODERS.get(name, DecoderKind())


def language_shape(text: Mapping[str, Any]) -> LanguageShape | None:
    """Sizes of a decoder; None where the config names too few of them."""
    width, heads = whole(text, "hidden_size"), whole(text, "num_attention_heads")
    layers, vocabulary = whole(text, "num_hidden_layers"), whole(text, "vocab_size")
    if not (width and heads and layers and vocabulary):
        return None
    head_width = whole(text, "head_dim") or width // heads
    mean_width = sum(latent_widths(text)) // 2 if latent_rank(text) else head_width
    return LanguageShape(
        width=width,
        layers=layers,
        attention=heads * mean_width,
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


def attention_of(text: Mapping[str, Any], shape: LanguageShape, kind: DecoderKind) -> Attention:
    """What its tokens look back over."""
    kinds = text.get("layer_types")
    every = whole(text, "full_attention_interval")
    cell, window = _cell(text, shape), whole(text, "sliding_window")
    if isinstance(kinds, list | tuple):
        full, sliding = kinds.count("full_attention"), kinds.count("sliding_attention")
        return Attention(cell=cell, full=full, sliding=sliding, window=window)
    if every:
        return Attention(cell=cell, full=shape.layers // every)
    pattern = whole(text, "sliding_window_pattern") or kind.full_every
    if window and pattern is not None:
        full = shape.layers // pattern if pattern else 0
        return Attention(cell=cell, full=full, sliding=shape.layers - full, window=window)
    return Attention(cell=cell, full=shape.layers)


def latent_rank(text: Mapping[str, Any]) -> int:
    """Of the latent that keys and values are made from; 0 where they are no latent's."""
    return whole(text, "kv_lora_rank") if text.get("use_mla", True) else 0


def latent_widths(text: Mapping[str, Any]) -> tuple[int, int]:
    """Widths of a head: of queries and keys, and of values."""
    turned = whole(text, "qk_rope_head_dim")
    return whole(text, "qk_nope_head_dim") + turned, whole(text, "v_head_dim")


def _cell(text: Mapping[str, Any], shape: LanguageShape) -> int:
    if latent := latent_rank(text):
        return latent + whole(text, "qk_rope_head_dim")
    return 2 * _kv_heads(text) * shape.head_width


def _kv_heads(text: Mapping[str, Any]) -> int:
    return whole(text, "num_key_value_heads") or whole(text, "num_attention_heads")


def linears_of(
    text: Mapping[str, Any], shape: LanguageShape, attention: Attention, kind: DecoderKind
) -> Linears:
    """Its linear layers; experts only of DeepSeek's kind."""
    if kind.has_experts:
        return _mixture(text, shape)
    width, kv, layers = shape.width, _kv_heads(text) * shape.head_width, shape.layers
    attending = attention.full + attention.sliding
    first = (shape.attention + 2 * kv,) if kind.is_fused else (shape.attention, kv, kv)
    wide = (2 * shape.ffn_width,) if kind.is_fused else (shape.ffn_width,) * 2
    blocks = [*((out, width, attending) for out in first), (width, shape.attention, attending)]
    if not whole(text, *EXPERTS):
        blocks += [*((out, width, layers) for out in wide), (width, shape.ffn_width, layers)]
    return Linears(every=tuple(blocks), first=tuple((out, width) for out in first))


def _mixture(text: Mapping[str, Any], shape: LanguageShape) -> Linears:
    """As DeepSeek-V2 has it: some dense layers, then a router, experts and shared experts."""
    width, layers = shape.width, shape.layers
    dense = min(layers, whole(text, "first_k_dense_replace"))
    sparse, expert = layers - dense, whole(text, "moe_intermediate_size")
    chosen, all_experts = whole(text, "num_experts_per_tok"), whole(text, "n_routed_experts")
    first, last = _latent(text, width) if latent_rank(text) else _plain(text, shape)
    every = [(out, into, layers) for out, into in (*first, *last)]
    every += _gated(width, whole(text, "intermediate_size"), dense)
    every += _gated(width, expert * whole(text, "n_shared_experts"), sparse)
    return Linears(
        every=tuple(every),
        first=tuple(first),
        routed=((all_experts, width, sparse), *_gated(width, expert, chosen * sparse)),
        idle=3 * width * expert * (all_experts - chosen) * sparse,
    )


def _latent(
    text: Mapping[str, Any], width: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Multi-head latent attention: query and latent; then keys and values of it, and output."""
    heads, rank = whole(text, "num_attention_heads"), whole(text, "kv_lora_rank")
    keys, values = latent_widths(text)
    turned = whole(text, "qk_rope_head_dim")
    first = [(heads * keys, width), (rank + turned, width)]
    return first, [(heads * (keys - turned + values), rank), (width, heads * values)]


def _plain(
    text: Mapping[str, Any], shape: LanguageShape
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    keys = _kv_heads(text) * shape.head_width
    first = [(out, shape.width) for out in (shape.attention, keys, keys)]
    return first, [(shape.width, shape.attention)]


def _gated(width: int, ffn: int, count: int) -> list[tuple[int, int, int]]:
    return [(ffn, width, 2 * count), (width, ffn, count)]
