"""Disk: what is free where models are kept, and where runs are written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from manako.core.units import show_bytes
from manako.core.words import Words
from manako.machine.finding import Finding, Probe, works

LITTLE_BYTES = 10_000_000_000
"""Less than a small model and one checkpoint of it need."""


def look() -> Finding:
    """The folders of the Hub's cache, PyTorch's cache and the working folder."""
    found = [measured(what, path) for what, path in folders().items()]
    facts: dict[str, Any] = {"disks": found}
    locked = [disk for disk in found if not disk["is_writable"]]
    ja = "、".join(f"{_ja(d['what'])} {show_bytes(d['free_bytes'])}" for d in found)
    en = ", ".join(f"{d['what']} {show_bytes(d['free_bytes'])}" for d in found)
    if locked:
        names = ", ".join(disk["path"] for disk in locked)
        is_cache = any(disk["what"] != "here" for disk in locked)
        return works(
            f"空き: {ja}。書き込めない: {names}",
            f"free: {en}; not writable: {names}",
            mends="export HF_HOME=~/a/folder/of/yours" if is_cache else "",
            **facts,
        )
    if min(disk["free_bytes"] for disk in found) < LITTLE_BYTES:
        return works(f"空きが少ない: {ja}", f"little is free: {en}", **facts)
    return works(f"空き: {ja}", f"free: {en}", **facts)


def folders() -> dict[str, Path]:
    """Where models, compiled code and runs go, as the environment names it."""
    environment = os.environ.get
    cache = Path(environment("XDG_CACHE_HOME") or "~/.cache")
    home = Path(environment("HF_HOME") or cache / "huggingface")
    found = {
        "hub": Path(environment("HF_HUB_CACHE") or home / "hub"),
        "torch": Path(environment("TORCH_HOME") or cache / "torch"),
        "here": Path.cwd(),
    }
    return {what: path.expanduser() for what, path in found.items()}


def measured(what: str, path: Path) -> dict[str, Any]:
    """The disk under a folder that need not exist yet."""
    there = next(folder for folder in (path, *path.parents) if folder.is_dir())
    usage = shutil.disk_usage(there)
    return {
        "what": what,
        "path": str(path),
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "is_writable": os.access(there, os.W_OK),
    }


def _ja(what: str) -> str:
    return {"hub": "Hub のキャッシュ", "torch": "torch のキャッシュ", "here": "今のフォルダー"}[
        what
    ]


PROBE = Probe(
    group="machine", title=Words(ja="ディスク", en="disk"), look=look, place=50, is_needed=True
)
