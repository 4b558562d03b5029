"""The plan as one value: parameters, memory, steps, time, disk.

Memory is the sum of allocated tensors at the worst moment of a step, the largest of:

- the end of the forward pass: as below, with one copy of the logits and every bfloat16 cast; larger
  than what comes next only where layers are computed again, because their casts are not kept;
- backward: weights (and their bfloat16 casts) + optimizer state + what the forward pass keeps +
  inputs + the logits' copies (or the moment's tensors of the widest layer, with all of a layer that
  is computed again, where those are more) + the gradients where a step has several packs;
- update: weights + optimizer state + gradients + what the optimizer needs for a moment.

A process on a CPU holds more than its tensors: what was loaded before the model, and what the
allocator and the math library keep. Shown as a range, measured on 45 M parameters with torch 2.13
(2026-11-24).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

from manako.core.errors import InputError
from manako.core.recipe import Recipe
from manako.plan.activations import (
    FLOAT32_BYTES,
    LOGIT_COPIES,
    Shapes,
    count_kept,
    logit_bytes,
    moment_bytes,
)
from manako.plan.inventory import Inventory, PartCount
from manako.plan.packs import PackCost, PackStatistics, pack_sample

if TYPE_CHECKING:
    from manako.core.example import Lengths

MUON_COPIES = 5
"""Copies of the largest group of equal matrices while Muon orthogonalises it."""
IMPORT_BYTES = (410 * 1024**2, 570 * 1024**2)
"""What torch and transformers take in a process before there is a model; where a process was
measured, its own figure counts."""
PROCESS_SPREAD = (1.13, 1.48)
"""Resident memory of a training process on a CPU, as a multiple of its allocated tensors."""
MEASURED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the sources hold: rows in all, and the lengths of a sample mixed by their weights.

    looked_at: rows that were measured for it; refused, too_long: how many of them cannot be
    encoded, and how many do not fit into a pack whatever `too_long` does.
    """

    rows: int
    sample: Sequence[Lengths]
    looked_at: int
    refused: int = 0
    too_long: int = 0

    def __post_init__(self) -> None:
        if not self.sample:
            raise InputError(
                f"not one of {self.looked_at} sampled rows can be used: {self.refused} are "
                f"refused, {self.too_long} do not fit into a pack",
                next_step="look at them with `manako view DATA --model MODEL`, or raise pack_tokens",
            )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the first steps really took.

    memory_is_process: the peak is the whole process's resident memory (on a CPU), not allocated
    tensors; open_memory_bytes is what that was when the model was open and no step taken.
    """

    step_seconds: Sequence[float]
    peak_memory_bytes: int | None
    open_memory_bytes: int | None
    memory_is_process: bool

    @property
    def seconds(self) -> float:
        """The middle one: the first step also warms up caches and threads."""
        return median(self.step_seconds)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of allocated tensors, by what they are for, and in all at the worst moment.

    casts: copies of weights that bfloat16 needs for a pass. recomputed: what one layer keeps while
    it is computed again in the backward pass; by then most of the logits are gone.
    """

    weights: int
    adapters: int
    casts: int
    gradients: int
    optimizer: int
    activations_vision: int
    activations_projector: int
    activations_language: int
    recomputed: int
    logits: int
    inputs: int
    backward_peak: int
    update_peak: int

    @property
    def total(self) -> int:
        return max(self.backward_peak, self.update_peak)

    def process_range(self, open_bytes: int | None = None) -> tuple[int, int]:
        """Resident memory of a process on a CPU, from and to; `open_bytes` is what it has when
        the model is open."""
        bases = IMPORT_BYTES
        if open_bytes is not None:
            bases = (open_bytes - self.weights - self.adapters,) * 2
        low, high = PROCESS_SPREAD
        return int(bases[0] + low * self.total), int(bases[1] + high * self.total)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will need. `is_counted`: the steps are given by the recipe, not estimated."""

    parts: Mapping[str, PartCount]
    packs: PackStatistics
    data_rows: int
    looked_at_rows: int
    refused_rows: int
    too_long_rows: int
    steps: int
    is_counted: bool
    tokens_per_step: float
    trained_tokens_per_step: float
    rows_per_step: float
    memory: Memory
    checkpoint_bytes: int
    disk_bytes: int
    measured: Measured | None = None

    @property
    def seconds(self) -> float | None:
        """The whole run at the measured speed; saving and validation are not in it."""
        return self.measured.seconds * self.steps if self.measured else None

    @property
    def process_range(self) -> tuple[int, int]:
        """Resident memory of the process on a CPU, from and to."""
        open_bytes = self.measured.open_memory_bytes if self.measured else None
        return self.memory.process_range(open_bytes)

    @property
    def total_parameters(self) -> int:
        return sum(part.parameters + part.adapter_parameters for part in self.parts.values())

    @property
    def trained_parameters(self) -> int:
        return sum(part.trained for part in self.parts.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values; every figure carries its unit in its name."""
        low, high = self.process_range
        memory = {f"{name}_bytes": value for name, value in asdict(self.memory).items()}
        return {
            "parameters": self.total_parameters,
            "trained_parameters": self.trained_parameters,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "data": {
                "rows": self.data_rows,
                "looked_at_rows": self.looked_at_rows,
                "refused_rows": self.refused_rows,
                "too_long_rows": self.too_long_rows,
            },
            "packs": asdict(self.packs),
            "steps": self.steps,
            "steps_are_counted": self.is_counted,
            "rows_per_step": self.rows_per_step,
            "tokens_per_step": self.tokens_per_step,
            "trained_tokens_per_step": self.trained_tokens_per_step,
            "memory": {
                **memory,
                "total_bytes": self.memory.total,
                "cpu_process_low_bytes": low,
                "cpu_process_high_bytes": high,
            },
            "checkpoint_bytes": self.checkpoint_bytes,
            "disk_bytes": self.disk_bytes,
            "measured": asdict(self.measured) if self.measured else None,
            "seconds": self.seconds,
        }


def make_plan(
    recipe: Recipe,
    inventory: Inventory,
    shapes: Shapes,
    data: Data,
    *,
    measured: Measured | None = None,
) -> Plan:
    """The plan of a recipe. Raises `InputError` where the sample fills no pack."""
    packs = pack_sample(
        data.sample, pack_tokens=recipe.pack_tokens, window_rows=recipe.pack_window_rows
    )
    parts = inventory.count_parts(recipe)
    checkpoint_bytes = _checkpoint_bytes(inventory, parts, recipe)
    per_step = recipe.global_batch_packs
    return Plan(
        parts={str(name): part for name, part in parts.items()},
        packs=packs,
        data_rows=data.rows,
        looked_at_rows=data.looked_at,
        refused_rows=data.refused,
        too_long_rows=data.too_long,
        steps=recipe.max_steps or _estimate_steps(recipe, data, packs),
        is_counted=recipe.max_steps > 0,
        tokens_per_step=packs.tokens_per_pack * per_step,
        trained_tokens_per_step=packs.trained_per_pack * per_step,
        rows_per_step=packs.rows_per_pack * per_step,
        memory=count_memory(recipe, inventory, shapes, packs.worst),
        checkpoint_bytes=checkpoint_bytes,
        disk_bytes=checkpoint_bytes * (recipe.save_total_limit + 1),
        measured=measured,
    )


def count_memory(recipe: Recipe, inventory: Inventory, shapes: Shapes, pack: PackCost) -> Memory:
    """The memory of one process that trains pack after pack, each at most like this one."""
    parts = inventory.count_parts(recipe).values()
    kept = count_kept(
        shapes,
        recipe.part_settings(),
        pack,
        rank=recipe.lora_r,
        is_half=recipe.bf16,
        again=recipe.recomputed_parts(),
        stream_bytes=inventory.stream_bytes(recipe),
    )
    weights = inventory.weight_bytes(recipe)
    adapters = sum(part.adapter_parameters for part in parts) * FLOAT32_BYTES
    gradients = sum(part.trained for part in parts) * FLOAT32_BYTES
    optimizer = inventory.state_bytes(recipe)
    casts, kept_casts = inventory.cast_bytes(recipe), inventory.kept_cast_bytes(recipe)
    logits = logit_bytes(shapes, pack)
    moment = max(logits, kept.again + moment_bytes(shapes, pack, is_half=recipe.bf16))
    held = gradients if recipe.global_batch_packs > 1 else 0
    steady = weights + adapters + optimizer
    between = steady + held + kept.activations + kept.inputs
    update = inventory.largest_shape_group(recipe) * FLOAT32_BYTES * MUON_COPIES
    return Memory(
        weights=weights,
        adapters=adapters,
        casts=casts,
        gradients=gradients,
        optimizer=optimizer,
        activations_vision=kept.vision,
        activations_projector=kept.projector,
        activations_language=kept.language,
        recomputed=kept.again,
        logits=logits,
        inputs=kept.inputs,
        backward_peak=between + max(casts + logits // LOGIT_COPIES, kept_casts + moment),
        update_peak=steady + gradients + update,
    )


def _estimate_steps(recipe: Recipe, data: Data, packs: PackStatistics) -> int:
    """Steps of `num_train_epochs`, were all rows like the sample."""
    usable = 1 - (data.refused + data.too_long) / data.looked_at
    rows = data.rows * usable * recipe.num_train_epochs
    return max(1, ceil(rows / packs.rows_per_pack / recipe.global_batch_packs))


def _checkpoint_bytes(inventory: Inventory, parts: Mapping[Any, PartCount], recipe: Recipe) -> int:
    """Weights (adapters and fully trained parts only, where there are adapters) and optimizer."""
    has_adapters = any(part.adapter_parameters for part in parts.values())
    trained = sum(part.trained for part in parts.values()) * FLOAT32_BYTES
    weights = trained if has_adapters else inventory.weight_bytes(recipe)
    return weights + inventory.state_bytes(recipe)
