"""What is logged of the steps since the last log line."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manako.core.errors import ManakoError

if TYPE_CHECKING:
    from torch import Tensor

    from manako.core.family import PartName
    from manako.data.step import Step
    from manako.train.operations import Operations
    from manako.train.ranks import Ranks


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

    Numbers stay on the device until they are asked for: reading one waits for it, and this wait is
    time of the steps that were taken since the last.
    """

    def __init__(self, operations: Operations, ranks: Ranks) -> None:
        self._operations = operations
        self._ranks = ranks
        self._steps: list[Measured] = []
        self._last: Measured | None = None
        self._flops = 0
        self._added_at: float | None = None
        self._waited_seconds = 0.0

    def add(self, measured: Measured) -> None:
        self._added_at = time.monotonic()
        self._flops += self._operations.of(measured.step)
        self._steps.append(measured)
        self._last = measured

    def check(self) -> None:
        """Raise `ManakoError` where the last loss or gradient is no number."""
        try:
            self._check_last()
        finally:
            if self._added_at is not None:
                self._waited_seconds += time.monotonic() - self._added_at
                self._added_at = None

    def _check_last(self) -> None:
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
        """Fields over the steps collected, then start anew; all ranks read alike.

        The loss is the mean over their trained tokens; gradient norms are the last step's; seconds
        are means per step, waiting for data included in `seconds`. tflops: 10^12 operations per
        second and device, where they can be counted; mfu: of its peak, where that is known.
        """
        self.check()
        steps, self._steps = self._steps, []
        tokens = sum(each.step.tokens for each in steps)
        trained = sum(each.step.trained_tokens for each in steps)
        loss = sum(float(each.loss) * each.step.trained_tokens for each in steps)
        norms = {part: float(norm) for part, norm in steps[-1].grad_norms.items()}
        seconds = sum(each.seconds for each in steps) + self._waited_seconds
        wait = sum(each.data_wait_seconds for each in steps)
        return {
            "loss": loss / trained if trained else None,
            "grad_norms": norms,
            "trained_tokens": trained,
            "tokens_per_second": tokens / seconds,
            **self._rates(seconds),
            "pack_fill": sum(each.step.fill for each in steps) / len(steps),
            "data_wait_seconds": wait / len(steps),
            "seconds": seconds / len(steps),
        }

    def _rates(self, seconds: float) -> dict[str, float]:
        (everywhere,) = self._ranks.sum([self._flops], "the operations of all ranks")
        self._flops, self._waited_seconds = 0, 0.0
        return self._operations.rates(everywhere / self._ranks.size, seconds)
