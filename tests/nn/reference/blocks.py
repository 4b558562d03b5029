"""The pieces every reference is built of: float64 numpy, loops where the rule is a loop.

Dimension letters: T positions, S keys, D width, F inner width, N heads, K key heads, H head width.
`Weights` is a published file's key names with the arrays as they are stored (Linear = [out, in]).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Weights = Mapping[str, NDArray[np.generic]]


def tensor(weights: Weights, name: str) -> Array:
    """One stored array in float64; KeyError where the file has no such key."""
    return np.asarray(weights[name], dtype=np.float64)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x [..., in], weight [out, in], bias [out] -> [..., out]."""
    product = x @ weight.T
    return product if bias is None else product + bias


def apply_linear(weights: Weights, name: str, x: Array, *, bias: bool) -> Array:
    """`name.weight` and, where the layer has one, `name.bias` of a file applied to x [..., in]."""
    return linear(
        x, tensor(weights, f"{name}.weight"), tensor(weights, f"{name}.bias") if bias else None
    )


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Over the last axis, with the biased variance: (x - mean) / sqrt(var + eps) * weight + bias."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def apply_layer_norm(weights: Weights, name: str, x: Array, eps: float) -> Array:
    """`name.weight` and `name.bias` of a file as a layer norm over x [..., D]."""
    return layer_norm(x, tensor(weights, f"{name}.weight"), tensor(weights, f"{name}.bias"), eps)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Over the last axis: x / sqrt(mean(x ** 2) + eps) * weight."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * weight


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh so that no large exponent overflows."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def gelu_erf(x: Array) -> Array:
    """x * Phi(x) with the true error function (`gelu`)."""
    flat = [value * 0.5 * (1.0 + math.erf(value / math.sqrt(2.0))) for value in x.ravel().tolist()]
    return np.array(flat, dtype=np.float64).reshape(x.shape)


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of GELU (`gelu_pytorch_tanh`)."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def quick_gelu(x: Array) -> Array:
    """x * sigmoid(1.702 x), as in CLIP and Qwen2-VL."""
    return x * sigmoid(1.702 * x)


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


# `hidden_act` of a published config -> what it means.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu_erf,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": silu,
}


def softmax(x: Array) -> Array:
    """Over the last axis; minus infinity becomes exactly 0."""
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def split_heads(x_TD: Array, heads: int) -> Array:
    """[T, heads * H] -> [T, heads, H]: head n holds the columns n * H to (n + 1) * H."""
    return x_TD.reshape(x_TD.shape[0], heads, -1)


def attention_row(q_H: Array, k_SH: Array, allowed_S: Mask | None, scale: float) -> Array:
    """The weights of one query over S keys, [S]; they sum to 1, and are 0 where not allowed."""
    scores_S = k_SH @ q_H * scale
    if allowed_S is not None:
        scores_S = np.where(allowed_S, scores_S, -np.inf)
    return softmax(scores_S)


def causal_mask(positions: int) -> Mask:
    """[T, T], true where the key (column) is not after the query (row)."""
    return np.tril(np.ones((positions, positions), dtype=np.bool_))


def attention(
    q_TNH: Array,
    k_SKH: Array,
    v_SKH: Array,
    *,
    causal: bool = False,
    allowed_TS: Mask | None = None,
    scale: float | None = None,
) -> Array:
    """Softmax attention by loops over heads and queries -> [T, N * Hv], heads side by side.

    Query head n reads key head n // (N / K). `scale` is H ** -0.5 unless given; the values' width
    Hv may differ from H. `causal` (T = S) and `allowed_TS` (true = may look) both apply.
    """
    positions, heads, width = q_TNH.shape
    group = heads // k_SKH.shape[1]
    scale = width**-0.5 if scale is None else scale
    if causal:
        looks_back = causal_mask(positions)
        allowed_TS = looks_back if allowed_TS is None else allowed_TS & looks_back
    out_TNH = np.zeros((positions, heads, v_SKH.shape[2]))
    for head in range(heads):
        k_SH, v_SH = k_SKH[:, head // group], v_SKH[:, head // group]
        for row in range(positions):
            allowed_S = None if allowed_TS is None else allowed_TS[row]
            out_TNH[row, head] = attention_row(q_TNH[row, head], k_SH, allowed_S, scale) @ v_SH
    return out_TNH.reshape(positions, -1)


def rotary_angles(positions: list[int], width: int, theta: float) -> Array:
    """[T, width / 2]: position * theta ** (-2 i / width) for i = 0 .. width / 2 - 1."""
    frequencies = [theta ** (-2.0 * i / width) for i in range(width // 2)]
    return np.array([[place * frequency for frequency in frequencies] for place in positions])


def rotate_half_split(x_TNH: Array, angles_TA: Array) -> Array:
    """Turn the pair (i, i + H / 2) of every head by angle i; A = H / 2."""
    half = x_TNH.shape[2] // 2
    cos, sin = np.cos(angles_TA)[:, None, :], np.sin(angles_TA)[:, None, :]
    first, second = x_TNH[:, :, :half], x_TNH[:, :, half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=2)


def swiglu(weights: Weights, name: str, x: Array) -> Array:
    """`down_proj(silu(gate_proj(x)) * up_proj(x))` under `name`, without biases."""
    gate = silu(apply_linear(weights, f"{name}.gate_proj", x, bias=False))
    up = apply_linear(weights, f"{name}.up_proj", x, bias=False)
    return apply_linear(weights, f"{name}.down_proj", gate * up, bias=False)
