"""What a law says about a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["holds", "fails", "not applicable", "not run"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`figure` is the worst case seen in words with its unit; `next_step` what to do about it."""

    law: int
    title: str
    state: State
    figure: str = ""
    next_step: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
