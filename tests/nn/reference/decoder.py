"""A Qwen2 or Llama decoder, plain: pre-norm, grouped heads, half-split rotary positions, SwiGLU.

The rule is that of the two published architectures (config.json of Qwen2.5 and of sarashina2.2-3b).
Dimension letters as in `blocks`; V vocabulary rows, as many as the stored embedding has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reference.blocks import (
    Array,
    Mask,
    Weights,
    apply_linear,
    attention,
    linear,
    rms_norm,
    rotary_angles,
    rotate_half_split,
    split_heads,
    swiglu,
    tensor,
)


def head_width(config: Mapping[str, Any]) -> int:
    """`head_dim` where the config has one, else hidden_size / num_attention_heads."""
    given = config.get("head_dim")
    return int(given or config["hidden_size"] // config["num_attention_heads"])


def self_attention(
    weights: Weights,
    config: Mapping[str, Any],
    name: str,
    x_TD: Array,
    *,
    positions: list[int],
    bias: bool,
    allowed_TT: Mask | None = None,
) -> Array:
    """`{name}.{q,k,v,o}_proj`, causal -> [T, D]; `bias` is of q, k and v (Qwen2), o has none."""
    q_TNH = apply_linear(weights, f"{name}.q_proj", x_TD, bias=bias)
    k_TKH = apply_linear(weights, f"{name}.k_proj", x_TD, bias=bias)
    v_TKH = apply_linear(weights, f"{name}.v_proj", x_TD, bias=bias)
    angles = rotary_angles(positions, head_width(config), float(config["rope_theta"]))
    mixed = attention(
        rotate_half_split(split_heads(q_TNH, config["num_attention_heads"]), angles),
        rotate_half_split(split_heads(k_TKH, config["num_key_value_heads"]), angles),
        split_heads(v_TKH, config["num_key_value_heads"]),
        causal=True,
        allowed_TS=allowed_TT,
    )
    return apply_linear(weights, f"{name}.o_proj", mixed, bias=False)


def decode(
    weights: Weights,
    config: Mapping[str, Any],
    x_TD: Array,
    *,
    prefix: str = "",
    bias: bool,
    positions: list[int] | None = None,
    allowed_TT: Mask | None = None,
) -> Array:
    """Embeddings [T, D] -> hidden states after the last norm [T, D]; positions 0, 1, 2, ... unless given.

    Keys: `{prefix}model.layers.N....`, `{prefix}model.norm.weight`. Config: num_hidden_layers,
    hidden_size, num_attention_heads, num_key_value_heads, rope_theta, rms_norm_eps, head_dim or none.
    """
    places = list(range(len(x_TD))) if positions is None else positions
    eps = float(config["rms_norm_eps"])
    for number in range(config["num_hidden_layers"]):
        layer = f"{prefix}model.layers.{number}"
        normed = rms_norm(x_TD, tensor(weights, f"{layer}.input_layernorm.weight"), eps)
        x_TD = x_TD + self_attention(
            weights,
            config,
            f"{layer}.self_attn",
            normed,
            positions=places,
            bias=bias,
            allowed_TT=allowed_TT,
        )
        normed = rms_norm(x_TD, tensor(weights, f"{layer}.post_attention_layernorm.weight"), eps)
        x_TD = x_TD + swiglu(weights, f"{layer}.mlp", normed)
    return rms_norm(x_TD, tensor(weights, f"{prefix}model.norm.weight"), eps)


def embed(weights: Weights, token_ids: list[int], *, prefix: str = "") -> Array:
    """Rows of `{prefix}model.embed_tokens.weight` -> [T, D]."""
    return tensor(weights, f"{prefix}model.embed_tokens.weight")[token_ids]


def score(weights: Weights, config: Mapping[str, Any], x_TD: Array, *, prefix: str = "") -> Array:
    """Hidden states [T, D] -> logits [T, V] by `{prefix}lm_head.weight`, or the embedding where tied."""
    tied = config["tie_word_embeddings"]
    name = f"{prefix}model.embed_tokens.weight" if tied else f"{prefix}lm_head.weight"
    return linear(x_TD, tensor(weights, name))
