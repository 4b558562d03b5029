"""Checkpoints of a run: everything that the next step depends on, whole or not there.

A folder holds weights in the published layout (or an adapter), the processor's files, and

    trainer.json            where the run is, with what it ran (`Progress`)
    optimizer.safetensors   optimizer state, by parameter
    rng.safetensors         torch's random states

or, where ranks share the model out,

    optimizer/*.safetensors     each rank's rows of the optimizer state
    rng-N.safetensors           the random states of rank N; without a number, of the first

Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from manako.core.errors import InputError, ResumeError
from manako.core.files import read_json, write_json
from manako.core.recipe import Recipe
from manako.hub.models import origin_of
from manako.nn import adapters
from manako.nn.checkpoint import read_tensors, save_model, write_tensors
from manako.train.optimizers import restore_state, state_tensors
from manako.train.parts import full_parameters
from manako.train.sharding import Copies

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from manako.core.family import Family, Processor

TRAINER = "trainer.json"
RNG = "rng.safetensors"
FORMAT_VERSION = 1

IDLE_FIELDS = frozenset(
    {
        "output_dir",
        "eval",
        "fsdp",
        "gradient_checkpointing",
        "logging_steps",
        "save_steps",
        "save_total_limit",
        "dataloader_num_workers",
        "ddp_timeout",
        "report_to",
    }
)
"""Recipe fields that change no weight; a run may go on with others."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is, and what its bits depend on.

    loader: `Loader.state()`. seconds: of training so far. setting: threads, device, optimizer,
    versions; with others a run goes on, but not bit for bit.
    """

    step: int
    total_steps: int
    epoch: float
    positions: Mapping[str, Any]
    seconds: float
    loader: Mapping[str, Any]
    recipe: Mapping[str, Any]
    setting: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A model in training with all that is saved with it.

    base, base_fingerprint: the folder the weights came from, and which weights those were.
    """

    model: PreTrainedModel
    family: Family
    processor: Processor
    optimizers: tuple[torch.optim.Optimizer, ...]
    is_adapter: bool
    base: Path
    base_fingerprint: str

    @property
    def names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self.model.named_parameters()}


def write(folder: Path, trainee: Trainee, progress: Progress, sharding: Copies) -> None:
    """Write a checkpoint; `folder` appears when it is whole. Called by every rank that `writes`.
    Raises `WriteError`."""
    with sharding.checkpoint(folder) as partial:
        weights = sharding.whole_weights(trainee.model)
        sharding.write_state(partial, state_tensors(trainee.optimizers, trainee.names))
        write_tensors(partial / _rng_name(sharding.ranks.rank), _random_states())
        if sharding.ranks.is_first:
            _write_weights(partial, trainee, weights)
            trainee.processor.save(partial)
            write_json(partial / TRAINER, {"version": FORMAT_VERSION, **asdict(progress)})


def read_progress(folder: Path) -> Progress:
    """`trainer.json` of a checkpoint. Raises `ResumeError` where it is not one of ours."""
    try:
        values = dict(read_json(folder / TRAINER))
        if values.pop("version") != FORMAT_VERSION:
            raise ResumeError(f"{folder / TRAINER} was written by another version of Manako")
        return Progress(**values)
    except (InputError, FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise ResumeError(
            f"{folder} cannot be gone on from: {error}",
            next_step="delete that folder to go on from the checkpoint before it",
        ) from error


def restore(folder: Path, trainee: Trainee, sharding: Copies) -> None:
    """Put optimizer and random states back; an adapter's weights too.

    Whole models are loaded from the checkpoint's folder before they come here.
    """
    if trainee.is_adapter:
        _check_base(folder, trainee)
        adapters.restore(trainee.model, folder)
    names = trainee.names
    parameters = {name: parameter for parameter, name in names.items()}
    restore_state(trainee.optimizers, names, sharding.read_state(folder, parameters))
    own = folder / _rng_name(sharding.ranks.rank)
    _set_random_states(read_tensors(own if own.is_file() else folder / RNG))


def check_recipe(recipe: Recipe, progress: Progress, folder: Path) -> None:
    """Raise `ResumeError` where `recipe` would train something else than the run in `folder`."""
    now, before = recipe.to_dict(), Recipe.from_dict(progress.recipe).to_dict()
    differences = [
        f"{name}: the run has {before[name]!r}, now it is {now[name]!r}"
        for name in now
        if name not in IDLE_FIELDS and _comparable(now, name) != _comparable(before, name)
    ]
    if differences:
        raise ResumeError(
            f"{folder} holds a run with another recipe; " + "; ".join(differences),
            next_step="choose another output_dir, or go on with the run's own recipe.yaml",
        )


def other_setting(progress: Progress, setting: Mapping[str, Any]) -> list[str]:
    """What differs from when the run was saved: it goes on, but not bit for bit."""
    before = progress.setting
    return [
        f"{name}: {before.get(name)} then, {setting.get(name)} now"
        for name in {**setting, **before}
        if before.get(name) != setting.get(name)
    ]


def _comparable(values: Mapping[str, Any], name: str) -> Any:
    """Paths of data may change; what lies there is compared by the loader's fingerprint. A model
    of the Hub is its name and commit, in whichever cache it lies."""
    value = values.get(name)
    if name == "model":
        return origin_of(str(value)) or value
    if name != "data" or not value:
        return value
    return [{key: item for key, item in source.items() if key != "path"} for source in value]


def _write_weights(folder: Path, trainee: Trainee, weights: Mapping[str, Tensor] | None) -> None:
    if not trainee.is_adapter:
        save_model(trainee.model, trainee.family, folder, weights)
        return
    adapters.save(
        trainee.model,
        trainee.family,
        folder,
        base=trainee.base,
        base_fingerprint=trainee.base_fingerprint,
        full=full_parameters(trainee.model),
    )


def _check_base(folder: Path, trainee: Trainee) -> None:
    found = adapters.read_base(folder)
    if found.get("fingerprint") != trainee.base_fingerprint:
        raise ResumeError(
            f"model: {trainee.base} holds other weights than the run was started on "
            f"({found.get('path')})",
            next_step="put the run's base model back, or choose another output_dir",
        )


def _rng_name(rank: int) -> str:
    return f"rng-{rank}.safetensors" if rank else RNG


def _random_states() -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
