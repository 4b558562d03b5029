"""Peaks of GPUs keep to the catalogue's schema, and no device stands in two of them."""

from __future__ import annotations

import pytest

from manako.catalogue.check import Lists, problems_of
from manako.catalogue.facts import licences, sources
from manako.catalogue.peaks import peak_tflops, peaks
from manako.catalogue.scores import score_tables


@pytest.mark.parametrize("key", peaks())
def test_a_peak_holds_to_the_schema(key: str) -> None:
    lists = Lists(sources=sources(), licences=licences(), tables=score_tables())
    peak = peaks()[key]
    assert list(problems_of(f"peaks.toml {key}", peak, lists)) == []
    assert 0 < peak.float32.value < peak.bfloat16.value < 10_000


def test_every_device_has_one_peak_by_its_whole_name() -> None:
    names = [name for peak in peaks().values() for name in peak.devices]
    assert len(names) == len(set(names))
    for name in names:
        assert peak_tflops(name, "bfloat16") is not None
        assert peak_tflops(f"{name} MIG 1g.10gb", "bfloat16") is None
    assert peak_tflops("cpu", "float32") is None
