"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run that ended well: it `finished`, or it was asked to stop and has saved first.

    checkpoint: the folder of its last weights. seconds: of training, earlier starts included.
    """

    state: Literal["finished", "stopped"]
    step: int
    total_steps: int
    folder: Path
    checkpoint: Path
    seconds: float

    @property
    def exit_code(self) -> int:
        """What a command line ends with: 0, or 3 where there is more to do."""
        return 0 if self.state == "finished" else 3
