"""docs/benchmarks.md says what the result files say."""

from __future__ import annotations

import json
import re

import pytest
from doc_blocks import ROOT, read

import benchmark_tables
from blocks import read_block


def test_tables_are_those_of_the_result_files() -> None:
    """`python scripts/benchmark_tables.py` brings them up to date."""
    page = read("docs/benchmarks.md")
    for name, text in benchmark_tables.blocks().items():
        assert read_block(page, f"generated:{name}") == text


@pytest.mark.parametrize(
    "path", sorted(benchmark_tables.RESULTS.glob("*.json")), ids=lambda p: p.name
)
def test_a_result_says_when_on_what_and_how_busy(path) -> None:  # type: ignore[no-untyped-def]
    header = json.loads(path.read_text(encoding="utf-8"))["header"]
    assert path.name.startswith(header["created"][:10])
    assert header["versions"]["torch"]
    assert header["machine"]
    assert header.keys() & {"load_1_min", "load"}


def test_every_command_exists() -> None:
    named = set(re.findall(r"python -m (benchmarks\.[\w.]+)", read("docs/benchmarks.md")))
    assert named
    for module in named:
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
