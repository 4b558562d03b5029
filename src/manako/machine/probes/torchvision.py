"""torchvision: absent is well, matching is well, present but broken breaks every model class."""

from __future__ import annotations

import importlib

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, does_not, not_installed, works
from manako.machine.probes._package import LIMIT_SECONDS, is_there, version_of
from manako.machine.run_probe import first_line


def look() -> Finding:
    """transformers only looks whether it is there, and believes that it works then."""
    version = version_of("torchvision")
    if not is_there("torchvision"):
        return not_installed("なくてよい（Manako は使わない）", "well so: Manako does without")
    try:
        importlib.import_module("torchvision")
    # Whatever its import raises, the consequence is the same.
    except Exception as error:  # noqa: BLE001
        return does_not(
            "あるのに読み込めない。このままでは transformers のモデルも読み込めない",
            "present but broken: transformers cannot load its models beside it",
            mends="pip uninstall torchvision",
            version=version,
            error=first_line(f"{type(error).__name__}: {error}"),
        )
    return works(
        f"{version}、読み込める（Manako は使わない）",
        f"{version}, can be imported (Manako does without)",
        version=version,
    )


PROBE = Probe(
    group="packages",
    title=Words(ja="torchvision", en="torchvision"),
    look=look,
    place=10,
    limit_seconds=LIMIT_SECONDS,
    is_needed=True,
)
