"""What the probes of optional packages share."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from importlib import metadata
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, not_here, not_installed, works
from manako.machine.probes._torch import best_device, build_of_torch, can_use_gpu
from manako.machine.run_probe import broken

LIMIT_SECONDS = 60.0
"""Some of these packages load half of the ecosystem."""


def version_of(*distributions: str) -> str:
    """The version of the first that is installed; empty where none is."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def is_there(module: str) -> bool:
    """Whether a module could be imported; finding a submodule imports what is above it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def look_at_package(
    module: str,
    *,
    use: Words,
    install: str,
    distribution: str = "",
    needs_gpu: bool = False,
    reinstall: str = "",
    attempt: Callable[[], str] | None = None,
) -> Finding:
    """Whether an optional package is there, can be imported, and does what it is for.

    use: what it is for. needs_gpu: it has no kernels for a CPU. reinstall: the line for one that is
    broken. attempt: does something small with it and tells in a word on what device.
    """
    if not is_there(module):
        if needs_gpu and not can_use_gpu():
            return not_here(f"GPU 用: {use.ja}", f"for GPUs: {use.en}")
        return not_installed(use.ja, use.en, mends=install)
    version = version_of(distribution or module)
    facts = {"version": version}
    try:
        importlib.import_module(module)
        if needs_gpu and (build_of_torch() is None or best_device().type == "cpu"):
            return not_here(
                f"{version}。GPU 用: {use.ja}", f"{version}; for GPUs: {use.en}", **facts
            )
        tried = attempt() if attempt else ""
    # Whatever an import or a kernel raises is what was to be found out.
    except Exception as error:  # noqa: BLE001
        found = broken(error, mends=reinstall)
        return dataclasses.replace(found, facts=facts)
    if not tried:
        return works(f"{version}、読み込める", f"{version}, can be imported", **facts)
    return works(f"{version}、{tried} で試した", f"{version}, tried on {tried}", **facts)


def package_probe(
    title: str, look: Callable[[], Finding], *, place: int, limit_seconds: float = LIMIT_SECONDS
) -> Probe:
    """A probe of the group `packages`, under the package's own name."""
    return Probe(
        group="packages",
        title=Words(ja=title, en=title),
        look=look,
        place=place,
        limit_seconds=limit_seconds,
    )


def layer_error(layer: Any, quantised: Any, x: Any) -> float:
    """How far a layer's output is from another's, relative to its size."""
    wanted = layer(x).float()
    return float((quantised(x).float() - wanted).norm() / wanted.norm())
