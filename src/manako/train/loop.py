"""The training loop. Read it top to bottom: it is the order of events.

    evaluate → save → next batch → step → log

A checkpoint is written *before* the next batch is taken, so weights, optimizer, random states and
data position always belong together, and a run that is killed and started again takes the very
steps that it would have taken.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from manako.core.errors import ManakoError, ResumeError
from manako.core.files import write_error
from manako.data.order import key_of
from manako.infer.source import with_model_name
from manako.nn.batch import make_batch
from manako.train import checkpoints
from manako.train.launch_settings import as_launched
from manako.train.memory import memory_bytes, peak_memory_bytes
from manako.train.meter import Measured, Meter
from manako.train.optimizers import set_rates
from manako.train.outcome import Outcome
from manako.train.ranks import Ranks, open_ranks
from manako.train.run_folder import RunFolder, SharedRunFolder
from manako.train.schedules import rate_factor
from manako.train.setup import Listener, Log, Run, open_run, progress_of, read_latest
from manako.train.signals import StopNow, StopRequest
from manako.train.step import clip_gradients, training_step, update

if TYPE_CHECKING:
    from manako.core.recipe import Recipe
    from manako.data.step import Step
    from manako.nn.batch import Batch
    from manako.train.checkpoints import Progress

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_training(
    recipe: Recipe, *, listener: Listener = lambda event: None, ranks: Ranks | None = None
) -> Outcome:
    """Train by a recipe in this process; go on from the last checkpoint in its `output_dir`.

    Where torchrun or Accelerate started several processes, all of them train as one (`ranks`: if
    they have met already); the first writes and tells, and a request to stop reaches all.

    listener: is handed every event as it happens: those of `record.jsonl`, and before them
    `resume` (step, epoch, data position) and `measure` (rows done, rows in all). SIGTERM and
    Ctrl-C save first and give the outcome `stopped`; SIGHUP is ignored. Raises `ResumeError`
    where the folder holds another run or a finished one, `WriteError` where the disk is full; the
    last whole checkpoint is then as it was; `RankError` where another rank does not come.
    """
    recipe = as_launched(recipe)
    if ranks is None:
        with open_ranks(recipe.ddp_timeout) as ranks:
            return run_training(recipe, listener=listener, ranks=ranks)
    output = Path(recipe.output_dir)
    its_folder = RunFolder(output) if ranks.is_first else SharedRunFolder(output)
    with _full_disk_told(output), its_folder as folder, StopRequest() as stop:
        log = Log(listener, is_silent=not ranks.is_first)
        with contextlib.ExitStack() as closing, _failure_told(folder, log):
            closing.callback(log.close)
            before = read_latest(recipe, folder, ranks)
            if before and before.step == before.total_steps:
                outcome = _done_before(recipe, folder, log, before)
            else:
                outcome = _open_and_train(recipe, folder, log, closing, stop, ranks, before)
            log.write("end", step=outcome.step, state=outcome.state, seconds=outcome.seconds)
        folder.write_state(outcome.state, step=outcome.step, total_steps=outcome.total_steps)
    return outcome


def _open_and_train(
    recipe: Recipe,
    folder: RunFolder,
    log: Log,
    closing: contextlib.ExitStack,
    stop: StopRequest,
    ranks: Ranks,
    before: Progress | None,
) -> Outcome:
    try:
        with stop.at_once():
            run = open_run(recipe, folder, log, closing, ranks=ranks, before=before)
        ranks.any(False, "the other ranks to be ready")
    except StopNow as asked:
        ranks.leave(asked)
        return _stopped_before(recipe, folder, before)
    folder.write_recipe(with_model_name(recipe).to_yaml())
    folder.write_state("running", step=run.step, total_steps=run.total_steps)
    return _train(run, stop)


def _train(run: Run, stop: StopRequest) -> Outcome:
    started = time.monotonic() - run.seconds_before
    meter = Meter(run.operations, run.ranks)
    while True:
        is_new = run.step != run.restored_step  # else all of this was done before it was saved
        is_done = run.step == run.total_steps

        if is_new and _is_time_to_evaluate(run, is_done):
            _evaluate(run)

        is_last = is_done or run.ranks.any(stop.requested, "whether to stop")
        if is_new and (is_last or (run.step > 0 and run.step % run.recipe.save_steps == 0)):
            meter.check()
            _save(run, time.monotonic() - started)

        if is_last:
            return _outcome(run, is_done, time.monotonic() - started)

        rates = _step(run, meter)

        if run.step % run.recipe.logging_steps == 0 or run.step in (1, run.total_steps):
            meter.check()
            _log(run, meter.read(), rates)


def _is_time_to_evaluate(run: Run, is_done: bool) -> bool:
    evaluation = run.recipe.eval
    return evaluation is not None and (is_done or run.step % evaluation.every_steps == 0)


def _evaluate(run: Run) -> None:
    if run.validation is None:
        return
    begun = time.monotonic()
    loss = run.validation.loss(run.trainee.model, device=run.device, dtype=run.dtype)
    run.log.write("eval", step=run.step, loss=loss, seconds=time.monotonic() - begun)


def _save(run: Run, seconds: float) -> None:
    if not run.sharding.writes:
        return
    begun = time.monotonic()
    folder = run.folder.checkpoint(run.step)
    checkpoints.write(folder, run.trainee, progress_of(run, seconds), run.sharding)
    run.folder.keep_last(run.recipe.save_total_limit)
    run.folder.write_state("running", step=run.step, total_steps=run.total_steps)
    taken = time.monotonic() - begun
    run.log.write("save", step=run.step, checkpoint=folder.name, seconds=taken)


def _step(run: Run, meter: Meter) -> dict[str, float]:
    """Take the next batch and train on it; the rate of each part."""
    run.ranks.at(run.step + 1)
    begun = time.monotonic()
    step = next(run.loader)
    waited = time.monotonic() - begun
    step = run.ranks.complete(step)
    for row_id, reason in step.failed:
        run.log.write("failed_row", step=step.number, id=row_id, reason=reason)
    rates = set_rates(run.trainee.optimizers, _rate_factor(run))
    loss, norms = torch.zeros(()), {}
    if step.trained_tokens:  # else every row of the step was refused: there is nothing to learn
        with run.sharding.gathering():
            loss = training_step(
                run.trainee.model,
                _batches(run, step),
                trained_tokens=step.trained_tokens,
                backward=run.accelerator.backward,
            )
        trained = [parameter for part in run.trained.values() for parameter in part]
        loss = run.sharding.sum_gradients(trained, loss)
        norms = run.sharding.norms(run.trained)
        clip_gradients(run.trained, run.recipe.max_grad_norm, norms)
        update(run.trainee.optimizers)
    run.step = step.number
    seconds = time.monotonic() - begun
    meter.add(
        Measured(step=step, loss=loss, grad_norms=norms, data_wait_seconds=waited, seconds=seconds)
    )
    return rates


def _batches(run: Run, step: Step) -> Iterator[Batch]:
    """This rank's packs. What dropout drops is a function of the pack's number, so it does not
    matter which rank trains it, nor how many there are."""
    for pack in run.sharding.packs(step.packs):
        torch.manual_seed(key_of(run.recipe.seed, "dropout", pack.number) >> 1)
        yield make_batch(pack, run.trainee.processor, device=run.device, dtype=run.dtype)


def _rate_factor(run: Run) -> float:
    return rate_factor(
        run.step,
        total_steps=run.total_steps,
        kind=run.recipe.lr_scheduler_type,
        warmup_steps=run.recipe.warmup_steps,
        decay_ratio=run.recipe.lr_decay_ratio,
        decay_type=run.recipe.lr_decay_type,
    )


def _log(run: Run, measured: Mapping[str, Any], rates: Mapping[str, float]) -> None:
    run.log.write(
        "step",
        step=run.step,
        epoch=run.loader.epoch,
        **measured,
        learning_rates=rates,
        memory_bytes=memory_bytes(run.device),
        peak_memory_bytes=peak_memory_bytes(run.device),
    )


def _outcome(run: Run, is_done: bool, seconds: float) -> Outcome:
    return Outcome(
        state="finished" if is_done else "stopped",
        step=run.step,
        total_steps=run.total_steps,
        folder=run.folder.path,
        checkpoint=run.folder.checkpoint(run.step),
        seconds=seconds,
    )


def _stopped_before(recipe: Recipe, folder: RunFolder, before: Progress | None) -> Outcome:
    """Stopped while the run was being opened: it is where it was."""
    return Outcome(
        state="stopped",
        step=before.step if before else 0,
        total_steps=before.total_steps if before else recipe.max_steps,
        folder=folder.path,
        checkpoint=folder.latest(),
        seconds=before.seconds if before else 0.0,
    )


def _done_before(recipe: Recipe, folder: RunFolder, log: Log, before: Progress) -> Outcome:
    """All steps are done. Where the run was killed before it could say so, it is said now."""
    if folder.read_state() == "finished":
        raise ResumeError(
            f"nothing remains: {folder.path} has done {before.step} of {before.total_steps} steps",
            next_step="choose another output_dir, and this run's last checkpoint as its model to "
            "train on",
        )
    folder.keep_last(recipe.save_total_limit)
    log.open(recipe, folder, step=before.step)
    return Outcome(
        state="finished",
        step=before.step,
        total_steps=before.total_steps,
        folder=folder.path,
        checkpoint=folder.checkpoint(before.step),
        seconds=before.seconds,
    )


@contextlib.contextmanager
def _failure_told(folder: RunFolder, log: Log) -> Iterator[None]:
    """Put a failure into record and state. A start that was refused leaves the run as it stands."""
    try:
        yield
    except ResumeError:
        raise
    except BaseException as error:
        step = (folder.steps() or [0])[-1]
        told = str(error) or type(error).__name__
        with contextlib.suppress(OSError):  # the failure itself is what must be seen
            folder.write_state("failed", step=step, error=told)
            log.write("end", step=step, state="failed", error=told)
        raise


@contextlib.contextmanager
def _full_disk_told(folder: Path) -> Iterator[None]:
    """Wherever a full disk is met, closing files included, it is told as what it is."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ManakoError) or error.errno not in DISK_IS_FULL:
            raise
        raise write_error(folder, error) from error
