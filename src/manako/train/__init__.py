"""Training: our own loop. `loop.run_training` runs a recipe; `step.training_step` is its heart.

`manako.train(recipe)` is a verb, and `manako.train` is also the name of this room: importing the
room puts it in the verb's place. So the room can be called, and calls the verb.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """What `manako.train` is once the room has been loaded."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return importlib.import_module("manako.verbs.tune").train(*args, **settings)


sys.modules[__name__].__class__ = _Room
