"""llama-cpp-python: GGUF files from Python, pictures included."""

from __future__ import annotations

import importlib
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import is_there, look_at_package, package_probe


def look() -> Finding:
    """Its library is loaded and asked what it was built with."""
    return look_at_package(
        "llama_cpp",
        distribution="llama-cpp-python",
        use=Words(
            ja="GGUF を Python から動かす。導入時に C++ のビルドがある（数十分）",
            en="runs GGUF from Python; installing it builds C++ for ten minutes and more",
        ),
        install="pip install llama-cpp-python",
        reinstall="pip install --force-reinstall --no-cache-dir llama-cpp-python",
        attempt=_built_for,
    )


def _built_for() -> str:
    library: Any = importlib.import_module("llama_cpp")
    device = "GPU" if library.llama_supports_gpu_offload() else "CPU"
    return f"{device}{'' if is_there('llama_cpp.mtmd_cpp') else ' (no pictures)'}"


PROBE = package_probe("llama-cpp-python", look, place=55)
