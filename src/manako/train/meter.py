"""What is logged of the steps since the last log line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manako.core.errors import ManakoError

if TYPE_CHECKING:
    from torch import Tensor

    from manako.core.family import PartName
    from manako.data.step import Step


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One step: its data, loss per trained token, gradient norms per part, and seconds."""

    step: Step
    loss: Tensor
    grad_norms: Mapping[PartName, Tensor]
    data_wait_seconds: float
    seconds: float


class Meter:
    """Collects steps, and gives the fields of one log line for all of them.

    Numbers stay on the device until they are asked for: reading one waits for it.
    """

    def __init__(self) -> None:
        self._steps: list[Measured] = []
        self._last: Measured | None = None

    def add(self, measured: Measured) -> None:
        self._steps.append(measured)
        self._last = measured

    def check(self) -> None:
        """Raise `ManakoError` where the last loss or gradient is no number."""
        if self._last is None:
            return
        values = {"the loss": self._last.loss}
        for part, norm in self._last.grad_norms.items():
            values[f"the gradient of the {part} part"] = norm
        for what, value in values.items():
            if not math.isfinite(float(value)):
                raise ManakoError(
                    f"{what} is {float(value)} at step {self._last.step.number}: training has "
                    "come apart",
                    next_step="lower the rates under `train`, or lengthen warmup_steps, in a new "
                    "output_dir; the checkpoints before this step are as they were",
                )

    def read(self) -> dict[str, Any]:
        """Fields over the steps collected, then start anew.

        The loss is the mean over their trained tokens; gradient norms are the last step's; seconds
        are means per step, waiting for data included in `seconds`.
        """
        steps, self._steps = self._steps, []
        tokens = sum(each.step.tokens for each in steps)
        trained = sum(each.step.trained_tokens for each in steps)
        loss = sum(float(each.loss) * each.step.trained_tokens for each in steps)
        norms = {part: float(norm) for part, norm in steps[-1].grad_norms.items()}
        seconds = sum(each.seconds for each in steps)
        wait = sum(each.data_wait_seconds for each in steps)
        return {
            "loss": loss / trained if trained else None,
            "grad_norms": norms,
            "trained_tokens": trained,
            "tokens_per_second": tokens / seconds,
            "pack_fill": sum(each.step.fill for each in steps) / len(steps),
            "data_wait_seconds": wait / len(steps),
            "seconds": seconds / len(steps),
        }
