"""How many operations a run's steps must compute, and what its device could do at best.

Arithmetic on the lengths of packs (`plan/flops.py`): nothing is measured on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from manako.catalogue.facts import source_of
from manako.catalogue.peaks import Dtype, peak_tflops
from manako.core.errors import NotInThisVersion
from manako.core.family import PARTS
from manako.nn.adapters import is_adapter_parameter
from manako.plan.dims import Dims, describe
from manako.plan.flops import check_counted, check_weights, training_flops
from manako.plan.work import NOTHING, work_of_pack

if TYPE_CHECKING:
    from manako.catalogue.facts import Figure
    from manako.core.family import Family, PartName
    from manako.core.recipe import PartSetting, Recipe
    from manako.data.step import Step

TERA = 1e12


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Counts the operations of steps. dims: None where they cannot be counted, and `why_not` says
    why. peak: 10^12 operations per second of one device; None where nobody knows it."""

    settings: Mapping[PartName, PartSetting]
    rank: int = 0
    dims: Dims | None = None
    peak: Figure[float] | None = None
    why_not: str = ""

    def of(self, step: Step) -> int:
        """Of the packs of this process; 0 where they cannot be counted."""
        packs = [pack for pack in step.packs if pack.trained_tokens]
        if self.dims is None or not packs:
            return 0
        dims = self.dims
        work = reduce(add, (work_of_pack(dims, pack) for pack in packs), NOTHING)
        return training_flops(dims, self.settings, work, rank=self.rank).total

    def rates(self, operations: float, seconds: float) -> dict[str, float]:
        """`tflops` of one device that took so long for so many, and `mfu` where its peak is known;
        nothing where they cannot be counted."""
        if self.dims is None or not seconds:
            return {}
        tflops = operations / seconds / TERA
        return {"tflops": tflops} | ({"mfu": tflops / self.peak.value} if self.peak else {})

    def described(self) -> dict[str, Any]:
        """What the record says once: the peak and its source, or why nothing is counted."""
        if self.dims is None:
            return {"not_counted": self.why_not}
        if self.peak is None:
            return {"peak_tflops": None}
        source = source_of(self.peak)
        return {
            "peak_tflops": self.peak.value,
            "peak_source": f"{source.title} ({source.how}, {source.date})",
        }


def open_operations(
    model: Any, family: Family, recipe: Recipe, device: torch.device | str
) -> Operations:
    """What counts the operations of this model under this recipe. Its own matrices must come to
    what its config says, so that nothing is counted that is not there, or left out unseen."""
    settings = recipe.part_settings()
    dims = describe(model.config.to_dict(), family)
    try:
        if dims is None:
            raise NotInThisVersion("operations are not counted: the config names no sizes")
        check_counted(dims)
        check_weights(dims, _matrix_numbers(model, family))
    except NotInThisVersion as error:
        return Operations(settings=settings, why_not=error.message)
    peak = device_peak(device, bf16=recipe.bf16)
    return Operations(settings=settings, rank=recipe.lora_r, dims=dims, peak=peak)


def device_peak(device: torch.device | str, *, bf16: bool) -> Figure[float] | None:
    """What one device can do at best in this dtype; None on a CPU, and where nobody knows it."""
    if torch.device(device).type != "cuda":
        return None
    if not bf16 and torch.get_float32_matmul_precision() != "highest":
        return None  # TF32 and its like have peaks of their own
    dtype: Dtype = "bfloat16" if bf16 else "float32"
    return peak_tflops(torch.cuda.get_device_name(device), dtype)


def _matrix_numbers(model: Any, family: Family) -> dict[PartName, int]:
    """Numbers of all matrices and convolutions, by part, without embeddings, head, adapters and
    branches that nothing reaches."""
    head = model.get_output_embeddings()
    apart = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    apart |= {id(head.weight)} if head is not None else set()
    found: dict[PartName, int] = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and family.is_trainable(name)
        if is_matrix and id(parameter) not in apart and not is_adapter_parameter(name):
            found[family.part_of(name)] += parameter.numel()
    return found
