"""The language model of DeepSeek-VL2, plain: both attentions, the routers, the experts.

Written from the rules alone: the authors' public code (deepseek-ai/DeepSeek-VL2, MIT) and the
papers of DeepSeek-V2 (arXiv 2405.04434) and DeepSeek-V3 (arXiv 2412.19437).

`language` is what `language_settings` makes of a config. Arrays are float64 and end in dimension
letters: T tokens, D width, N heads, H width of a head, V vocabulary, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reference.blocks import (
    Array,
    Weights,
    apply_linear,
    attention,
    rms_norm,
    rotary_angles,
    rotate_half_split,
    sigmoid,
    softmax,
    split_heads,
    swiglu,
    tensor,
)

Settings = Mapping[str, Any]

# What the authors' config classes say where a published file is silent.
LANGUAGE_DEFAULTS: Mapping[str, Any] = {
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "use_mla": True,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "rms_norm_eps": 1e-6,
    "n_group": None,
    "topk_group": None,
    "norm_topk_prob": False,
    "scoring_func": "softmax",
    "topk_method": "gready",
    "routed_scaling_factor": 1.0,
}


def language_settings(config: Settings) -> dict[str, Any]:
    """`language_config` with the class defaults where the file is silent."""
    language = {**LANGUAGE_DEFAULTS, **config["language_config"]}
    if language["rope_scaling"] is not None:
        raise ValueError("no published size scales its rotary angles")
    return language


def rotate_halves(x_TNH: Array, positions_T: Sequence[int], theta: float) -> Array:
    """[T, N, H]: element i turns with element i + H/2 by position * theta**(-2i/H)."""
    angles_TA = rotary_angles(list(positions_T), x_TNH.shape[2], theta)
    return rotate_half_split(x_TNH, angles_TA)


def rotate_pairs(x_TNH: Array, positions_T: Sequence[int], theta: float) -> Array:
    """[T, N, H]: elements 2i and 2i + 1 turn with each other, and end at i and i + H/2."""
    half = x_TNH.shape[2] // 2
    out_TNH = np.zeros(x_TNH.shape)
    for t, position in enumerate(positions_T):
        for i in range(half):
            angle = position * theta ** (-i / half)
            a, b = x_TNH[t, :, 2 * i], x_TNH[t, :, 2 * i + 1]
            out_TNH[t, :, i] = a * math.cos(angle) - b * math.sin(angle)
            out_TNH[t, :, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out_TNH


def mha(
    x_TD: Array,
    weights: Weights,
    prefix: str,
    language: Settings,
    positions_T: Sequence[int],
) -> Array:
    """[T, D]: causal attention as Llama's, for `use_mla` false; scale head width ** -1/2."""
    q = split_heads(_bare(weights, f"{prefix}.q_proj", x_TD), language["num_attention_heads"])
    width, theta = q.shape[2], language["rope_theta"]
    k, v = (
        _bare(weights, f"{prefix}.{name}", x_TD).reshape(len(x_TD), -1, width)
        for name in ("k_proj", "v_proj")
    )
    q, k = rotate_halves(q, positions_T, theta), rotate_halves(k, positions_T, theta)
    return _bare(weights, f"{prefix}.o_proj", attention(q, k, v, causal=True, scale=width**-0.5))


def mla(
    x_TD: Array,
    weights: Weights,
    prefix: str,
    language: Settings,
    positions_T: Sequence[int],
) -> Array:
    """[T, D]: causal latent attention, for `use_mla` true and `q_lora_rank` null.

    A head's query and key are (nope, rope); the rope part of the key is one for all heads.
    DeepSeek-V2, arXiv 2405.04434 section 2.1; scale (nope + rope) ** -1/2.
    """
    if language["q_lora_rank"] is not None:
        raise ValueError("no published size compresses its queries: q_lora_rank must be null")
    heads = language["num_attention_heads"]
    rank, theta = language["kv_lora_rank"], language["rope_theta"]
    nope, rope = language["qk_nope_head_dim"], language["qk_rope_head_dim"]
    q = split_heads(_bare(weights, f"{prefix}.q_proj", x_TD), heads)
    packed = _bare(weights, f"{prefix}.kv_a_proj_with_mqa", x_TD)
    norm = tensor(weights, f"{prefix}.kv_a_layernorm.weight")
    latent = rms_norm(packed[:, :rank], norm, language["rms_norm_eps"])
    kv = split_heads(_bare(weights, f"{prefix}.kv_b_proj", latent), heads)
    q_rope = rotate_pairs(q[:, :, nope:], positions_T, theta)
    k_rope = rotate_pairs(split_heads(packed[:, rank:], 1), positions_T, theta)
    q = np.concatenate([q[:, :, :nope], q_rope], axis=2)
    k = np.concatenate([kv[:, :, :nope], np.repeat(k_rope, heads, axis=1)], axis=2)
    value_TNH = kv[:, :, nope : nope + language["v_head_dim"]]
    mixed = attention(q, k, value_TNH, causal=True, scale=(nope + rope) ** -0.5)
    return _bare(weights, f"{prefix}.o_proj", mixed)


def _bare(weights: Weights, name: str, x: Array) -> Array:
    """No projection of the language model has a bias."""
    return apply_linear(weights, name, x, bias=False)


def route(
    logits_E: Array,
    bias_E: Array | None,
    language: Settings,
    *,
    outside: float = 0.0,
) -> tuple[list[int], list[float]]:
    """The chosen experts of one token, best first, and their weights.

    `greedy`: the best scores. `noaux_tc` (DeepSeek-V3, arXiv 2412.19437 section 2.1.2): the best
    of score + bias within the best groups; weights are the scores without the bias. With
    `norm_topk_prob` weights sum to one (their sum + 1e-20); then times `routed_scaling_factor`.
    `outside` stands for the choice score of unchosen groups: zero in the authors' code, minus
    infinity elsewhere; no published size has more than one group.
    """
    scores_E = _scores(logits_E, language["scoring_func"])
    match language["topk_method"]:
        case "greedy":
            choice_E = scores_E
        case "noaux_tc" if bias_E is not None:
            choice_E = _within_groups(scores_E + bias_E, language, outside)
        case method:
            raise ValueError(f"topk_method {method!r} with bias {bias_E is not None}")
    chosen = _best(choice_E, language["num_experts_per_tok"])
    weights = [float(scores_E[expert]) for expert in chosen]
    if language["norm_topk_prob"]:
        total = sum(weights) + 1e-20
        weights = [weight / total for weight in weights]
    return chosen, [weight * language["routed_scaling_factor"] for weight in weights]


def _scores(logits_E: Array, scoring: str) -> Array:
    match scoring:
        case "softmax":
            return softmax(logits_E)
        case "sigmoid":
            return sigmoid(logits_E)
    raise ValueError(f"scoring_func {scoring!r}")


def _within_groups(choice_E: Array, language: Settings, outside: float) -> Array:
    """[E]: experts of unchosen groups at `outside`; a group's score is the sum of its best two."""
    groups, kept = language["n_group"] or 1, language["topk_group"] or 1
    size = len(choice_E) // groups
    sums = [
        sum(sorted(choice_E[group * size : (group + 1) * size])[-2:]) for group in range(groups)
    ]
    best = _best(sums, kept)
    return np.array([c if e // size in best else outside for e, c in enumerate(choice_E)])


def _best(values: Iterable[float], count: int) -> list[int]:
    """Places of the largest values, the largest first; of equal ones the earlier."""
    ranked = sorted(enumerate(values), key=lambda pair: (-pair[1], pair[0]))
    return [place for place, _ in ranked[:count]]


def moe(
    x_TD: Array,
    weights: Weights,
    prefix: str,
    language: Settings,
    *,
    outside: float = 0.0,
) -> Array:
    """[T, D]: per token the weighted sum of its experts, and the shared experts for all tokens."""
    bias_key = f"{prefix}.gate.e_score_correction_bias"
    bias_E = tensor(weights, bias_key) if bias_key in weights else None
    logits_TE = _bare(weights, f"{prefix}.gate", x_TD)
    out_TD = np.zeros(x_TD.shape)
    for t in range(len(x_TD)):
        for expert, weight in zip(
            *route(logits_TE[t], bias_E, language, outside=outside), strict=True
        ):
            alone = x_TD[t : t + 1]
            out_TD[t] += weight * swiglu(weights, f"{prefix}.experts.{expert}", alone)[0]
    if f"{prefix}.shared_experts.gate_proj.weight" in weights:
        out_TD = out_TD + swiglu(weights, f"{prefix}.shared_experts", x_TD)
    return out_TD


def decoder_layer(
    x_TD: Array,
    weights: Weights,
    layer: int,
    language: Settings,
    positions_T: Sequence[int],
) -> Array:
    """[T, D]: x + attention(norm x), then + MLP(norm); dense below `first_k_dense_replace`."""
    prefix, eps = f"language.model.layers.{layer}", language["rms_norm_eps"]
    mix = mla if language["use_mla"] else mha
    normed = rms_norm(x_TD, tensor(weights, f"{prefix}.input_layernorm.weight"), eps)
    x_TD = x_TD + mix(normed, weights, f"{prefix}.self_attn", language, positions_T)
    normed = rms_norm(x_TD, tensor(weights, f"{prefix}.post_attention_layernorm.weight"), eps)
    if layer < language["first_k_dense_replace"]:
        return x_TD + swiglu(weights, f"{prefix}.mlp", normed)
    return x_TD + moe(normed, weights, f"{prefix}.mlp", language)


def decode(
    x_TD: Array,
    weights: Weights,
    config: Settings,
    positions_T: Sequence[int] | None = None,
) -> Array:
    """[T, V]: all layers, the norm and the head; positions count from 0 unless they are given."""
    language = language_settings(config)
    positions_T = range(len(x_TD)) if positions_T is None else positions_T
    for layer in range(language["num_hidden_layers"]):
        x_TD = decoder_layer(x_TD, weights, layer, language, positions_T)
    norm_D = tensor(weights, "language.model.norm.weight")
    return _bare(weights, "language.lm_head", rms_norm(x_TD, norm_D, language["rms_norm_eps"]))
