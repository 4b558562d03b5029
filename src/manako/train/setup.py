"""From a recipe to a run that is ready for its next step."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from manako.core.errors import MissingFileError
from manako.core.family import Family, PartName, Processor, family_of
from manako.core.known_facts import accepting
from manako.core.record import RecordWriter, forget_after, package_versions
from manako.data.loader import Loader
from manako.data.settings import LoaderSettings
from manako.data.store import Store
from manako.data.too_long import Fitted
from manako.nn.attention import use_segments
from manako.nn.checkpoint import fingerprint, load_model, stored_dtype
from manako.nn.patches import multiply_patches
from manako.nn.recompute import recompute_layers
from manako.train import checkpoints
from manako.train.board import Board
from manako.train.checkpoints import Progress, Trainee
from manako.train.eight_bit import check_installed
from manako.train.evaluation import Validation
from manako.train.launch_settings import fsdp_is_ours
from manako.train.operations import Operations, open_operations
from manako.train.optimizers import build_optimizers, describe
from manako.train.parts import TrainedPart, prepare_parts, set_precision
from manako.train.ranks import Ranks
from manako.train.run_folder import RunFolder
from manako.train.sharding import Copies, open_sharding
from manako.train.step import trained_by_part

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from manako.core.recipe import Recipe

Listener = Callable[[Mapping[str, Any]], None]


@dataclass(eq=False)
class Run:
    """A run between two steps."""

    recipe: Recipe
    folder: RunFolder
    ranks: Ranks
    sharding: Copies
    trainee: Trainee
    parts: Mapping[PartName, TrainedPart]
    accelerator: Accelerator
    loader: Loader
    validation: Validation | None
    log: Log
    setting: Mapping[str, Any]
    total_steps: int
    step: int = 0
    restored_step: int | None = None
    seconds_before: float = 0.0

    @property
    def device(self) -> torch.device:
        return torch.device(self.accelerator.device)

    @cached_property
    def trained(self) -> dict[PartName, list[torch.nn.Parameter]]:
        """Parameters that are trained, per part."""
        return trained_by_part(self.trainee.model, self.trainee.family)

    @cached_property
    def operations(self) -> Operations:
        """What counts the operations of its steps."""
        trainee = self.trainee
        return open_operations(trainee.model, trainee.family, self.recipe, self.device)

    @property
    def dtype(self) -> torch.dtype:
        """What pictures are cast to; weights have dtypes of their own."""
        return torch.bfloat16 if self.recipe.bf16 else torch.float32


@dataclass(eq=False)
class Log:
    """Where events go: the record, the listener, and TensorBoard where it was asked for; nowhere
    on a rank that is not the first (`is_silent`)."""

    listener: Listener
    is_silent: bool = False
    record: RecordWriter | None = None
    board: Board | None = None

    def open(self, recipe: Recipe, folder: RunFolder, *, step: int | None) -> None:
        """Open the files. With `step`, what was recorded after it is forgotten: it is made again;
        without, the record starts anew."""
        if self.is_silent:
            return
        if step is None:
            folder.record.unlink(missing_ok=True)
        else:
            forget_after(folder.record, step)
        self.board = Board(recipe, folder.path, step=step or 0)
        self.record = RecordWriter(folder.record, verb="train")

    def close(self) -> None:
        for each in (self.record, self.board):
            if each is not None:
                each.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Record an event, then tell it."""
        if self.record is not None:
            self.record.write(kind, **fields)
        if self.board is not None:
            self.board.write(kind, fields)
        self.tell(kind, **fields)

    def tell(self, kind: str, **fields: Any) -> None:
        """Tell the listener alone."""
        if not self.is_silent:
            self.listener({"kind": kind, **fields})


def read_latest(recipe: Recipe, folder: RunFolder, ranks: Ranks) -> Progress | None:
    """Where the run in `folder` is, None where it has no checkpoint yet; the first rank finds it.

    Raises `ResumeError` where it is a run of another recipe.
    """
    latest = folder.steps()[-1:] if ranks.is_first else []
    step = ranks.from_first(latest[0] if latest else -1, "the run's last checkpoint")
    if step < 0:
        return None
    progress = checkpoints.read_progress(folder.checkpoint(step))
    checkpoints.check_recipe(recipe, progress, folder.path)
    return progress


def open_run(
    recipe: Recipe,
    folder: RunFolder,
    log: Log,
    closing: contextlib.ExitStack,
    *,
    ranks: Ranks,
    before: Progress | None,
) -> Run:
    """Everything of a run, restored to its last checkpoint where there is one (`before`).

    What can be refused is refused before weights are read. What must be closed is left to
    `closing`. Raises every error of recipe, data, checkpoint and resume.
    """
    if before:
        log.tell("resume", **_position(before))
    base = _model_folder(recipe)
    family = family_of(base)
    check_installed(recipe)
    _use_threads(recipe, closing)
    processor = _open_processor(recipe, family, base)
    fitted = Fitted(processor=processor, pack_tokens=recipe.pack_tokens, policy=recipe.too_long)
    loader = closing.enter_context(_open_loader(recipe, fitted, folder, log, ranks))
    ranks.first_then_all(lambda: loader.total_steps, "the lengths of all rows")
    if before:
        loader.restore(before.loader)
    loader.check_first()
    sharding = open_sharding(recipe, ranks, family, processor)
    validation = _open_validation(recipe, fitted, sharding)
    ranks.check_same(_must_agree(recipe, loader, base))
    log.open(recipe, folder, step=before.step if before else None)
    closing.enter_context(fsdp_is_ours())
    _set_accelerate_aside(closing)
    accelerator = _open_accelerator(recipe)
    torch.manual_seed(recipe.seed)  # adapters and dropout; the order of data has its own seed
    latest = folder.checkpoint(before.step) if before else None
    trainee, parts = _open_trainee(recipe, accelerator, sharding, family, processor, base, latest)
    run = Run(
        recipe=recipe,
        folder=folder,
        ranks=ranks,
        sharding=sharding,
        trainee=trainee,
        parts=parts,
        accelerator=accelerator,
        loader=loader,
        validation=validation,
        log=log,
        setting=_setting(accelerator, trainee, sharding),
        total_steps=loader.total_steps,
    )
    if latest and before:
        _go_on(run, latest, before)
    else:
        log.write("setup", **setup_fields(run))
    return run


def _go_on(run: Run, latest: Path, before: Progress) -> None:
    checkpoints.restore(latest, run.trainee, run.sharding)
    run.step = run.restored_step = before.step
    run.seconds_before = before.seconds
    differing = checkpoints.other_setting(before, run.setting)
    run.log.write("resumed", **_position(before), not_bit_for_bit=differing)


def progress_of(run: Run, seconds: float) -> Progress:
    """Where a run is, as its checkpoint says it."""
    return Progress(
        step=run.step,
        total_steps=run.total_steps,
        epoch=run.loader.epoch,
        positions=run.loader.positions,
        seconds=seconds,
        loader=run.loader.state(),
        recipe=run.recipe.to_dict(),
        setting=run.setting,
    )


def setup_fields(run: Run) -> dict[str, Any]:
    """What is recorded once: what is trained, on what, with which implementations."""
    return {
        "model": run.recipe.model,
        "family": run.trainee.family.name,
        "parts": {part: asdict(trained) for part, trained in run.parts.items()},
        "pixel_rule": asdict(run.trainee.processor.pixel_rule),
        "total_steps": run.total_steps,
        "rows": run.loader.total_rows,
        "operations": run.operations.described(),
        **run.setting,
    }


def _position(progress: Progress) -> dict[str, Any]:
    return {
        "step": progress.step,
        "total_steps": progress.total_steps,
        "epoch": progress.epoch,
        "positions": progress.positions,
    }


def _use_threads(recipe: Recipe, closing: contextlib.ExitStack) -> None:
    """Compute with the recipe's number of threads until the run is closed."""
    if recipe.cpu_threads:
        closing.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(recipe.cpu_threads)


def _model_folder(recipe: Recipe) -> Path:
    folder = Path(recipe.model)
    if not folder.is_dir():
        raise MissingFileError(
            f"model: no such folder: {recipe.model}",
            next_step="give the folder of a checkpoint; a name on the Hub (org/name) is brought by "
            "manako.train and `manako train`",
        )
    return folder.resolve()  # an adapter names its base, and may be opened from anywhere


def _open_processor(recipe: Recipe, family: Family, base: Path) -> Processor:
    with accepting(recipe.accept_facts):
        processor = family.open(base)
    if recipe.min_pixels is None and recipe.max_pixels is None:
        return processor
    return processor.with_pixel_limits(min_pixels=recipe.min_pixels, max_pixels=recipe.max_pixels)


def _open_loader(
    recipe: Recipe, fitted: Fitted, folder: RunFolder, log: Log, ranks: Ranks
) -> Loader:
    def progress(done: int, total: int) -> None:
        log.tell("measure", done=done, total=total)
        ranks.beat()

    return Loader(
        LoaderSettings.of(recipe),
        {source.name: Store.open(source.path) for source in recipe.data},
        measure=fitted.measure,
        encode=fitted.encode,
        fingerprint=fitted.processor.fingerprint,
        workers=recipe.dataloader_num_workers,
        lengths_folder=folder.lengths,
        progress=progress,
        share=ranks.share,
    )


def _open_validation(recipe: Recipe, fitted: Fitted, sharding: Copies) -> Validation | None:
    if recipe.eval is None:
        return None
    return Validation(recipe, Store.open(recipe.eval.data), fitted, sharding)


def _must_agree(recipe: Recipe, loader: Loader, base: Path) -> dict[str, str]:
    """What every rank must have alike; paths may differ between machines."""
    values = {
        name: value
        for name, value in recipe.to_dict().items()
        if name not in checkpoints.IDLE_FIELDS | {"model", "data"}
    }
    return {
        "recipe": json.dumps(values),
        "fsdp": json.dumps(recipe.fsdp),
        "data": json.dumps(loader.fingerprint),
        "weights": fingerprint(base),
        "versions": json.dumps(package_versions()),
    }


def _open_trainee(
    recipe: Recipe,
    accelerator: Accelerator,
    sharding: Copies,
    family: Family,
    processor: Processor,
    base: Path,
    latest: Path | None,
) -> tuple[Trainee, dict[PartName, TrainedPart]]:
    """The model on its device with what trains it; adapters start fresh, and are restored later."""
    is_adapter = any(part.how == "lora" for part in recipe.part_settings().values())
    source = base if latest is None or is_adapter else latest
    model, parts = sharding.place(
        lambda: _load(recipe, family, source),
        lambda loaded: sharding.share_out(
            loaded[0], family, device=accelerator.device, bf16=recipe.bf16
        ),
    )
    # Never wrapped in `DistributedDataParallel`: `Ranks` sums the gradients.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    optimizers = map(accelerator.prepare_optimizer, build_optimizers(model, family, recipe))
    trainee = Trainee(
        model=model,
        family=family,
        processor=processor,
        optimizers=tuple(optimizers),
        is_adapter=is_adapter,
        base=base,
        base_fingerprint=fingerprint(base) if is_adapter else "",
    )
    return trainee, parts


def _load(
    recipe: Recipe, family: Family, source: Path
) -> tuple[PreTrainedModel, dict[PartName, TrainedPart]]:
    """The model ready to be trained, on the CPU."""
    model = load_model(source, family, dtype=stored_dtype(source) if recipe.bf16 else "float32")
    use_segments(model)
    multiply_patches(model)
    recompute_layers(model, family, recipe.recomputed_parts())
    parts = prepare_parts(model, family, recipe)
    set_precision(model, bf16=recipe.bf16)
    model.train()
    return model, parts


def _open_accelerator(recipe: Recipe) -> Accelerator:
    from accelerate import Accelerator

    with warnings.catch_warnings():
        # With several processes and no OMP_NUM_THREADS it shares the cores out, and says so.
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        accelerator = Accelerator(mixed_precision="bf16" if recipe.bf16 else "no")
    if recipe.cpu_threads:
        torch.set_num_threads(recipe.cpu_threads)
    return accelerator


def _set_accelerate_aside(closing: contextlib.ExitStack) -> None:
    """Accelerate keeps its settings for the whole process: what somebody else set (TRL, a notebook)
    is put back when this run is closed, and the next run may want other settings than this one."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    def put_back(shared: dict[str, Any], before: dict[str, Any]) -> None:
        shared.clear()
        shared.update(before)

    for kind in (AcceleratorState, GradientState, PartialState):
        shared: dict[str, Any] = kind._shared_state
        closing.callback(put_back, shared, dict(shared))
        shared.clear()


def _setting(accelerator: Accelerator, trainee: Trainee, sharding: Copies) -> dict[str, Any]:
    raw = [getattr(each, "optimizer", each) for each in trainee.optimizers]
    shared = {"sharding": "fsdp2"} if sharding.is_sharded else {}
    return {
        "device": _device_name(accelerator.device),
        "threads": torch.get_num_threads(),
        "world_size": sharding.ranks.size,
        **shared,
        "optimizer": describe(raw),
        "versions": package_versions(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device) if device.type != "cpu" else "cpu"  # a rank's is called `cpu:0`
