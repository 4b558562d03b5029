"""The key-value cache under the name that the installed `transformers` gives it.

`past_key_values` became `cache` in transformers 5.24; both names are in the range we support.
"""

from __future__ import annotations

import inspect
from typing import Any


def cache_name(function: Any) -> str:
    """What a function, or a class when it is made, calls the cache."""
    return "cache" if "cache" in inspect.signature(function).parameters else "past_key_values"


def cache_argument(model: Any, cache: Any) -> dict[str, Any]:
    """The keyword argument that hands `cache` to `model`'s forward."""
    return {cache_name(model.forward): cache}


def cache_of(output: Any) -> Any:
    """The cache in a model's output."""
    return output["cache"] if "cache" in output else output["past_key_values"]
