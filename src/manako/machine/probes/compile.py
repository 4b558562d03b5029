"""torch.compile, tried on a small function: it needs a compiler at run time."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from typing import TYPE_CHECKING

from manako.core.words import Words
from manako.machine.finding import Finding, does_not, works
from manako.machine.probes._torch import best_device, build_of_torch, no_torch, torch_probe

if TYPE_CHECKING:
    import torch

LIMIT_SECONDS = 180.0
COMPILERS = ("c++", "g++", "clang++")
INSTALLS = {"apt-get": "sudo apt-get install g++", "dnf": "sudo dnf install gcc-c++"}
HEADER = "Python.h"


def look() -> Finding:
    """Compiled anew in a folder of its own: an old cache would hide that the compiler is gone."""
    if build_of_torch() is None:
        return no_torch()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        return _compile()


def _compile() -> Finding:
    import torch

    device = best_device()
    x = torch.linspace(-1, 1, 64, device=device, requires_grad=True)
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), "")
    facts = {"device": device.type, "compiler": compiler}
    try:
        out = torch.compile(_function)(x)
        torch.autograd.grad(out.sum(), x)
    # Compilers raise errors of their own kinds; all of them are the answer.
    except Exception as error:  # noqa: BLE001
        return _refused(str(error), **facts)
    wrong = float((out - _function(x)).abs().max())
    if not wrong < 1e-3:
        return does_not(
            f"{device.type}: 結果が {wrong:.3g} 違う", f"{device.type}: off by {wrong:.3g}", **facts
        )
    by = f"（{compiler}）" if compiler else ""
    return works(
        f"{device.type}: 順伝播・逆伝播{by}",
        f"{device.type}: forward and backward{f' ({compiler})' if compiler else ''}",
        **facts,
    )


def _function(x: torch.Tensor) -> torch.Tensor:
    return (x * 2).sin() + x


def _refused(error: str, **facts: str) -> Finding:
    if not facts["compiler"]:
        return does_not(
            "C++ コンパイラーがない", "there is no C++ compiler", mends=install_line(), **facts
        )
    if HEADER in error:
        return does_not(
            "Python のヘッダー（Python.h）がない",
            "Python's headers (Python.h) are missing",
            mends="sudo apt-get install python3-dev",
            **facts,
        )
    words = next((line for line in error.splitlines() if line.strip()), "")[:200]
    return does_not(words, words, **facts)


def install_line() -> str:
    """How a C++ compiler is had on this system."""
    if platform.system() == "Darwin":
        return "xcode-select --install"
    found = (line for program, line in INSTALLS.items() if shutil.which(program))
    return next(found, "g++")


PROBE = torch_probe(
    Words(ja="torch.compile", en="torch.compile"), look, place=40, limit_seconds=LIMIT_SECONDS
)
