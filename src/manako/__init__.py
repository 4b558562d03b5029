"""Manako (眼): choose, feed, train, measure and run open vision-language models.

    import manako
    model = manako.load("mini")
    print(model.generate_content([image, "何と書いてありますか。"]))

Names are loaded when first used, so `import manako` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from manako.core.conversation import Conversation, Image, Message, Text, Video
    from manako.core.errors import ManakoError
    from manako.core.recipe import Recipe
    from manako.verbs.run import load, register_models
    from manako.verbs.tune import train

_HOMES = {
    "Conversation": "manako.core.conversation",
    "Image": "manako.core.conversation",
    "ManakoError": "manako.core.errors",
    "Message": "manako.core.conversation",
    "Recipe": "manako.core.recipe",
    "Text": "manako.core.conversation",
    "Video": "manako.core.conversation",
    "load": "manako.verbs.run",
    "register_models": "manako.verbs.run",
    "train": "manako.verbs.tune",
}

__all__ = [
    "Conversation",
    "Image",
    "ManakoError",
    "Message",
    "Recipe",
    "Text",
    "Video",
    "load",
    "register_models",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'manako' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
