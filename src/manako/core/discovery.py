"""Directory discovery: what lies in a folder is what there is; no list is kept by hand."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Found:
    """`items`: module name → the object it exports; `broken`: module name → what went wrong."""

    items: Mapping[str, Any]
    broken: Mapping[str, str]


@cache
def discover(package: str, attribute: str) -> Found:
    """Import every public module directly in `package` and take its `attribute`.

    Folders and names with a leading underscore are shared mechanics, not members. A module that
    fails to import, or lacks the attribute, is named in `broken` and stops none of the others.
    """
    items: dict[str, Any] = {}
    broken: dict[str, str] = {}
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for module in sorted(pkgutil.iter_modules(folders), key=lambda found: found.name):
        if module.ispkg or module.name.startswith("_"):
            continue
        try:
            items[module.name] = getattr(
                importlib.import_module(f"{package}.{module.name}"), attribute
            )
        # A broken file must not stop the others; it is reported.
        except Exception as error:  # noqa: BLE001
            broken[module.name] = f"{type(error).__name__}: {error}"
    return Found(items, broken)
