"""Plan: what a recipe will need. Reads config.json and a sample of rows; weights only to measure."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from manako.core.errors import ImageError, MissingFileError, RowError, TemplateError
from manako.core.family import PARTS, Family, family_of
from manako.core.known_facts import accepting
from manako.plan.activations import Shapes, read_shapes
from manako.plan.inventory import Inventory, Weight
from manako.plan.plan import MEASURED_STEPS, Data, Measured, Plan, make_plan

if TYPE_CHECKING:
    from torch import nn

    from manako.core.example import Lengths
    from manako.core.recipe import Recipe

Progress = Callable[[int, int], None]

SAMPLE_ROWS = 256
"""Rows of each source whose lengths are looked at, spread evenly over it."""
MIXED_ROWS = 1024
"""Rows of the mixed sample that packs are filled with."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What planning found out about a recipe. `plan` is the arithmetic on it; `measured()` is the
    same outlook after three real steps."""

    recipe: Recipe
    inventory: Inventory
    shapes: Shapes
    data: Data
    steps: Measured | None = None

    @cached_property
    def plan(self) -> Plan:
        """Raises `InputError` where no row fits in a pack."""
        return make_plan(self.recipe, self.inventory, self.shapes, self.data, measured=self.steps)

    def measured(self, progress: Progress | None = None) -> Outlook:
        """Take three steps, time them, keep nothing. Raises what training raises."""
        return replace(self, steps=measure_steps(self.recipe, progress))


def look(recipe: Recipe) -> Outlook:
    """Read config.json and a sample of rows. Raises what opening model and data raises."""
    from manako.infer.source import with_model_folder
    from manako.nn.checkpoint import build_empty

    recipe = with_model_folder(recipe)
    folder = Path(recipe.model)
    if not folder.is_dir():
        raise MissingFileError(
            f"model: no such folder: {recipe.model}", next_step="give the folder of a checkpoint"
        )
    family = family_of(folder)
    model = build_empty(folder, family)
    return Outlook(
        recipe=recipe,
        inventory=_inventory(model, folder, family),
        # As transformers completes it: published configs leave out what is its default.
        shapes=read_shapes(model.config.to_dict()),
        data=sample_data(recipe, family),
    )


def take_inventory(folder: Path, family: Family) -> Inventory:
    """The weights that a checkpoint's config.json describes; the weights themselves are not read."""
    from manako.nn.checkpoint import build_empty

    return _inventory(build_empty(folder, family), folder, family)


def _inventory(model: Any, folder: Path, family: Family) -> Inventory:
    from manako.infer.open import checkpoint_dtype

    is_half = checkpoint_dtype(folder, family) == "bfloat16"
    return Inventory(tuple(_weights(model, family)), is_half=is_half)


def _weights(model: Any, family: Family) -> list[Weight]:
    from torch import nn

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    ends = {id(module.weight) for module in (head, embedding) if module is not None}
    targets = _target_weights(model, family)
    return [
        Weight(
            name=name,
            part=family.part_of(name),
            shape=tuple(parameter.shape),
            is_hidden_matrix=id(parameter) in linear - ends,
            is_head=head is not None and parameter is head.weight,
            is_adapter_target=id(parameter) in targets,
            is_trainable=family.is_trainable(name),
        )
        for name, parameter in model.named_parameters()
    ]


def _target_weights(model: nn.Module, family: Family) -> set[int]:
    patterns = [family.adapter_targets[part] for part in PARTS if part in family.adapter_targets]
    return {
        id(module.weight)
        for name, module in model.named_modules()
        if any(re.fullmatch(pattern, name) for pattern in patterns)
    }


def sample_data(recipe: Recipe, family: Family) -> Data:
    """Lengths of rows from every source, mixed as the recipe draws them over the whole run."""
    from manako.data.store import Store
    from manako.data.too_long import Fitted

    with accepting(recipe.accept_facts):
        opened = family.open(Path(recipe.model))
    processor = opened.with_pixel_limits(min_pixels=recipe.min_pixels, max_pixels=recipe.max_pixels)
    fitted = Fitted(processor=processor, pack_tokens=recipe.pack_tokens, policy=recipe.too_long)
    samples = {}
    rows = 0
    for source in recipe.data:
        store = Store.open(source.path)
        rows += store.rows
        samples[source.name] = _sample(store, fitted)
    return Data(
        rows=rows,
        sample=_mixed(recipe, {name: sample.lengths for name, sample in samples.items()}),
        looked_at=sum(sample.looked_at for sample in samples.values()),
        refused=sum(sample.refused for sample in samples.values()),
        too_long=sum(sample.too_long for sample in samples.values()),
    )


@dataclass
class _Sample:
    lengths: list[Lengths] = field(default_factory=list)
    refused: int = 0
    too_long: int = 0

    @property
    def looked_at(self) -> int:
        return len(self.lengths) + self.refused + self.too_long


def _sample(store: Any, fitted: Any) -> _Sample:
    found = _Sample()
    count = min(SAMPLE_ROWS, store.rows)
    for number in range(count):
        try:
            lengths = fitted.measure(store.outline(number * store.rows // count))
        except (RowError, ImageError, TemplateError) as error:
            # Training records such a row, or stops at it (`too_long: error`); the plan counts it.
            if getattr(error, "reason", "") == "too_long":
                found.too_long += 1
            else:
                found.refused += 1
        else:
            found.lengths.append(lengths)
    return found


def _mixed(recipe: Recipe, samples: Mapping[str, Sequence[Lengths]]) -> list[Lengths]:
    shares = row_shares(recipe, samples)
    mixed: list[Lengths] = []
    for name, share in shares.items():
        sample = samples[name]
        count = round(share * MIXED_ROWS) if len(samples) > 1 else len(sample)
        mixed += [sample[number % len(sample)] for number in range(count)]
    # Sources take turns, as they do in training: a window holds rows of all of them.
    order = sorted(range(len(mixed)), key=lambda place: place * 0.6180339887 % 1)
    return [mixed[place] for place in order]


def row_shares(recipe: Recipe, samples: Mapping[str, Sequence[Lengths]]) -> dict[str, float]:
    """The share of rows that each source gives over the whole run; sources without a usable row,
    and those that are never drawn, are left out."""
    named = {source.name: source.weight for source in recipe.data}
    stages = [(stage.share, stage.weights) for stage in recipe.stages] or [(1.0, named)]
    shares: dict[str, float] = {}
    for share, weights in stages:
        drawn = {
            name: weight / _cost(recipe, samples[name])
            for name, weight in weights.items()
            if weight and samples[name]
        }
        for name, weight in drawn.items():
            part = share * weight / sum(drawn.values())
            shares[name] = shares.get(name, 0.0) + part
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def _cost(recipe: Recipe, sample: Sequence[Lengths]) -> float:
    """What a row counts against its source's weight."""
    if recipe.data[0].weight_in == "rows":
        return 1.0
    return fmean(lengths.trained_tokens for lengths in sample)


class _Enough(BaseException):
    """Three steps have been taken."""


@dataclass
class _Steps:
    """Listens to a run until three steps have been taken."""

    progress: Progress | None
    taken: list[Mapping[str, Any]] = field(default_factory=list)
    device: str = ""
    open_memory_bytes: int | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "setup":
            self.device = str(event["device"])
            self.open_memory_bytes = _memory_bytes(self.device)
        elif event["kind"] == "step":
            self.taken.append(event)
            if self.progress is not None:
                self.progress(len(self.taken), MEASURED_STEPS)
        if len(self.taken) == MEASURED_STEPS:
            raise _Enough


def measure_steps(recipe: Recipe, progress: Progress | None = None) -> Measured:
    """Train three steps in a folder that is thrown away; their seconds and the memory's peak."""
    from manako.train.loop import run_training

    steps = _Steps(progress)
    with tempfile.TemporaryDirectory(prefix="manako-plan-") as temporary:
        short = recipe.replace(
            output_dir=temporary,
            max_steps=MEASURED_STEPS + 1,
            logging_steps=1,
            save_steps=MEASURED_STEPS + 1,
            eval=None,
            stages=(),
            report_to=(),
        )
        try:
            run_training(short, listener=steps)
        except _Enough:
            pass
        else:
            raise KeyboardInterrupt  # the run was asked to stop
    return Measured(
        step_seconds=[float(step["seconds"]) for step in steps.taken],
        peak_memory_bytes=steps.taken[-1]["peak_memory_bytes"],
        open_memory_bytes=steps.open_memory_bytes,
        memory_is_process=steps.device.startswith("cpu"),
    )


def _memory_bytes(device: str) -> int | None:
    import torch

    from manako.train.memory import memory_bytes

    return memory_bytes(torch.device(device.split()[0]))
