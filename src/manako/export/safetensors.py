"""A plain checkpoint folder: whole weights as safetensors, with every file that belongs to them.

The adapter is added into the weights in float32 and the sum rounded once. Then the files are
opened by a clean process and compared with the model they came from, before `out` exists: an
export that answers otherwise than its original is never left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation
from manako.core.errors import AdapterError, CheckpointError, InputError
from manako.core.files import atomic_folder
from manako.core.record import write_record
from manako.export._probes import Seen, default_probes, largest_gap, look, same_answers
from manako.export._report import ExportReport, Target
from manako.infer.open import DTYPES, Model, checkpoint_dtype, open_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECORD = "record.jsonl"
TOLERANCE = 1e-4
"""Of the logits' spread, between the files and the weights in memory. Both are computed in float32
by the same code, so only another number of threads differs; measured on tiny models: 0."""
MERGE_TOLERANCE = 1e-3
"""Of the logits' spread, between W·x + B·A·x and (W + B·A)·x in float32. Measured: 2.4e-5 on
random tiny models under an adapter that moves their logits by five spreads; a model of tens of
layers adds up more of it."""
LEAST_EFFECT = 10
"""How many times more than merging an adapter must change the logits to count at all."""


@dataclass(frozen=True, kw_only=True)
class _Merged:
    """A model with its adapter in its weights, and what that changed."""

    model: Model
    seen: list[Seen]
    merge_gap: float | None
    adapter_effect: float | None


def export(
    source: str | Path,
    out: Path,
    *,
    dtype: str | None = None,
    probes: Sequence[Conversation] | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> ExportReport:
    """Export a run, an adapter or a checkpoint to the new folder `out`.

    dtype: of the weights in the files; by default the one that the base's config.json names.
    probes: prompts to compare on; by default a few made-up pictures and questions.
    say: is told each step, for a progress line.

    Needs memory for the weights in float32. Raises `InputError` when `out` exists,
    `AdapterError` when the adapter changes nothing, `CheckpointError` when the files do not answer
    as the original does, `WriteError` for a full disk; `out` does not exist after any of them.
    """
    out = Path(out)
    _check_target(out, dtype)
    say("opening the model")
    model = open_model(source, device="cpu", dtype="float32")
    dtype = dtype or checkpoint_dtype(model.folder, model.family)
    probes = default_probes(model.family) if probes is None else list(probes)
    merged = _merge(model, probes, say)
    with atomic_folder(out) as partial:
        say("writing")
        _round(model.network, dtype)
        _write(model, partial)
        say("comparing the files with the original in a clean process")
        report = _compare(merged, partial, probes, source=str(source), out=out, dtype=dtype)
        write_record(partial / RECORD, "export", [{"kind": "export", **report.as_dict()}])
    return report


def _check_target(out: Path, dtype: str | None) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} exists already", next_step="give a new folder, or remove that one first"
        )
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")


def _merge(model: Model, probes: Sequence[Conversation], say: Callable[[str], object]) -> _Merged:
    """Add the adapter into the weights, in place; prove that it counts and that nothing else
    changed."""
    seen = look(model, probes)
    if model.adapter is None:
        return _Merged(model=model, seen=seen, merge_gap=None, adapter_effect=None)
    from manako.nn.adapters import merge

    say("comparing with the base model")
    base = look(open_model(model.folder, device="cpu", dtype="float32"), probes)
    say("merging the adapter")
    merge(model.network)
    after = look(model, probes)
    gap, effect = largest_gap(after, seen), largest_gap(after, base)
    if gap > MERGE_TOLERANCE:
        raise AdapterError(
            f"merging {model.adapter} changes the logits by {gap:.1e} of their spread, above "
            f"{MERGE_TOLERANCE:.0e}",
            next_step="report this: the merged weights are not the adapted model",
        )
    if effect <= max(TOLERANCE, LEAST_EFFECT * gap):
        raise AdapterError(
            f"{model.adapter} changes the logits of its base by {effect:.1e} of their spread, no "
            "more than rounding does",
            next_step="take a checkpoint of a later step, or export the base model itself",
        )
    return _Merged(model=model, seen=after, merge_gap=gap, adapter_effect=effect)


def _round(network: PreTrainedModel, dtype: str) -> None:
    """Parameters to `dtype`. Buffers (rotary frequencies) stay in float32, as when loaded."""
    import torch

    for parameter in network.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))


def _write(model: Model, folder: Path) -> None:
    from manako.nn.checkpoint import save_model

    config: Any = model.network.config
    for name in config.sub_configs:
        getattr(config, name).dtype = model.network.dtype
    save_model(model.network, model.family, folder)
    model.processor.save(folder)


def _compare(
    merged: _Merged,
    folder: Path,
    probes: Sequence[Conversation],
    *,
    source: str,
    out: Path,
    dtype: str,
) -> ExportReport:
    """The files against the rounded weights in memory; raises `CheckpointError` where they differ."""
    from manako.export._reload import look_in_clean_process

    model = merged.model
    _round(model.network, "float32")
    expected = look(model, probes)
    found = look_in_clean_process(folder, probes)
    gap, same = largest_gap(found, expected), same_answers(found, expected)
    if gap > TOLERANCE or same < len(probes):
        raise CheckpointError(
            f"the exported files do not answer as the original: logits differ by {gap:.1e} of "
            f"their spread (at most {TOLERANCE:.0e}), {same} of {len(probes)} answers are the same",
            next_step="nothing was kept; export again, and report this if it stays",
        )
    return ExportReport(
        target=TARGET.name,
        source=source,
        out=out,
        dtype=dtype,
        base=None if model.adapter is None else str(model.folder),
        files=tuple(
            (path.relative_to(folder).as_posix(), path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ),
        probes=len(probes),
        same_answers=same,
        logit_gap=gap,
        tolerance=TOLERANCE,
        merge_gap=merged.merge_gap,
        adapter_effect=merged.adapter_effect,
        rounding_gap=largest_gap(expected, merged.seen),
        rounding_same_answers=same_answers(expected, merged.seen),
    )


TARGET = Target(
    name="safetensors",
    title="a plain checkpoint folder for transformers, vLLM and every converter",
    export=export,
)
