"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run that ended well: it `finished`, or it was asked to stop and has saved first.

    total_steps: 0 where it was stopped before they were counted. checkpoint: the folder of its
    last weights, None where it was stopped before there were any. seconds: of training, earlier
    starts included.
    """

    state: Literal["finished", "stopped"]
    step: int
    total_steps: int
    folder: Path
    checkpoint: Path | None
    seconds: float

    @property
    def exit_code(self) -> int:
        """What a command line ends with: 0, or 3 where there is more to do."""
        return 0 if self.state == "finished" else 3
