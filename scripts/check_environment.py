"""Refuse an environment in which Manako would not be itself: torchvision present, PyTorch absent.

transformers takes another path through its image processors as soon as torchvision can be found.
The pixels of such a run could differ from those that the laws are tested on, without a word.
"""

import importlib.util
import sys

TORCHVISION_FOUND = """\
torchvision is installed in this environment. Manako prepares pictures itself and is tested
without torchvision: with it, transformers takes another path through its image processors.
Next step: {python} -m pip uninstall torchvision"""

TORCH_MISSING = """\
PyTorch is not installed in this environment.
Next step: run `make clean install`; TORCH_INDEX names PyTorch's wheel index for your machine."""


def problem() -> str | None:
    """What is wrong with this environment and what to do, or None."""
    if importlib.util.find_spec("torchvision") is not None:
        return TORCHVISION_FOUND.format(python=sys.executable)
    if importlib.util.find_spec("torch") is None:
        return TORCH_MISSING
    return None


if __name__ == "__main__":
    sys.exit(problem())
