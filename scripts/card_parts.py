"""Parameters of models that transformers does not ship, by arithmetic on their published shapes.

A counter takes the `config` of a card and returns parameters by part.
"""

from collections.abc import Callable, Mapping
from typing import Any

Fields = Mapping[str, Any]


def linear(inside: int, outside: int) -> int:
    """Parameters of a linear layer with a bias."""
    return inside * outside + outside


def layer_norm(width: int) -> int:
    """Parameters of a LayerNorm: scale and bias."""
    return 2 * width


def transformer_block(width: int, inner: int) -> int:
    """A vision block: two norms, fused or split attention, a two-layer MLP, biases everywhere."""
    attention = linear(width, 3 * width) + linear(width, width)
    return 2 * layer_norm(width) + attention + linear(width, inner) + linear(inner, width)


COUNTERS: Mapping[str, Callable[[Fields], Mapping[str, int]]] = {}
"""By `model_type`."""
