"""Sizes of machines as people type them."""

from __future__ import annotations

import pytest

from manako.core.errors import InputError
from manako.plan.machines import cpu_budget, gpu_budget, mac_budget


@pytest.mark.parametrize(
    ("text", "count", "each"),
    [("24GB", 1, 24e9), ("8x80GB", 8, 80e9), ("2 × 24 gb", 2, 24e9), ("16GiB", 1, 16 * 2**30)],
)
def test_gpus_are_counted(text: str, count: int, each: float) -> None:
    found = gpu_budget(text)
    assert (found.count, found.each_bytes, found.device) == (count, each, "gpu")
    assert found.usable_bytes < each


@pytest.mark.parametrize("text", ["24", "", "large", "0x24GB", "-1GB", "8x", "x80GB", "9999TB"])
def test_what_is_no_machine_is_refused_with_the_option_named(text: str) -> None:
    for make, option in ((gpu_budget, "--gpu"), (mac_budget, "--mac"), (cpu_budget, "--cpu")):
        with pytest.raises(InputError, match=option):
            make(text)


def test_a_mac_shares_its_memory_with_everything_else() -> None:
    assert mac_budget("16GB").usable_bytes == pytest.approx(16e9 * 2 / 3, rel=1e-6)
    assert mac_budget("64GB").usable_bytes == pytest.approx(64e9 * 3 / 4, rel=1e-6)
    assert cpu_budget("16GB").usable_bytes < 16e9
