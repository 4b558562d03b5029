"""Importing costs nothing: the heavy packages are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import manako

LOADED = (
    "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}"
    " & {'torch', 'numpy', 'transformers', 'PIL', 'pyarrow', 'yaml', 'datasets'}))"
)


def loaded_after(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after `statement`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; {LOADED}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return set(done.stdout.split())


def test_import_manako_loads_nothing_heavy() -> None:
    assert loaded_after("import manako") == set()


def test_the_conversation_loads_nothing_heavy() -> None:
    assert loaded_after("import manako; manako.Conversation, manako.Recipe") == set()


def test_formats_and_the_store_load_no_torch_and_no_arrow() -> None:
    statement = (
        "from manako.core.discovery import discover; discover('manako.formats', 'FORMAT');"
        "import manako.data.store, manako.data.convert"
    )
    assert loaded_after(statement) == set()


def test_unknown_names_are_attribute_errors_and_known_ones_are_listed() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = manako.nonsense
    assert set(manako.__all__) <= set(dir(manako))
