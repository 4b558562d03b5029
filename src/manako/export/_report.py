"""What every export target offers, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """A form that models are exported to. `title` says in a line what opens it."""

    name: str
    title: str
    export: Callable[..., ExportReport]


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written and how well it agrees; gaps are the largest difference of two logits, in
    standard deviations of the original's logits.

    source: as it was given; base: the model under its adapter, None without one.
    logit_gap: the files, opened by a clean process, against the weights in memory as they were
        written; tolerance: what it may be.
    merge_gap: after against before the adapter was added into the weights; None without one.
    adapter_effect: the model against its base; None without an adapter.
    rounding_gap: what rounding to `dtype` changed; rounding_same_answers: of how many probes the
        greedy answer stayed the same.
    """

    target: str
    source: str
    out: Path
    dtype: str
    base: str | None
    files: tuple[tuple[str, int], ...]
    probes: int
    same_answers: int
    logit_gap: float
    tolerance: float
    merge_gap: float | None
    adapter_effect: float | None
    rounding_gap: float
    rounding_same_answers: int

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(size_bytes for _, size_bytes in self.files)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and the record."""
        files = [{"path": name, "bytes": size_bytes} for name, size_bytes in self.files]
        return {**asdict(self), "out": str(self.out), "files": files}
