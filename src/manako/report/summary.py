"""The short facts of a run: tiles, parts and rates, versions and machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from manako.core.record import Record
from manako.core.units import show_bytes, show_count, show_seconds
from manako.report.curves import numbers
from manako.report.figures import finite, whole
from manako.report.texts import Labels

STATES = ("finished", "running", "stopped", "failed")
HIDDEN_SETUP = frozenset({"kind", "parts", "versions"})


@dataclass(frozen=True)
class Tile:
    """A figure with its label, and a note below it."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """How one part of the model was trained; counts of parameters where they are known."""

    part: str
    how: str
    rate: str
    parameters: int | None
    trained: int | None


def run_tiles(
    record: Record, result: Mapping[str, Any], plan: Mapping[str, Any], t: Labels
) -> list[Tile]:
    """What matters beside the accuracy, each where it is known; `plan` is what was predicted."""
    tiles = [
        _questions(result, t),
        _seconds(record, result, t),
        _steps(record, t),
        _parameters(record, t),
        _peak_memory(record, result, plan, t),
        _speed(record, t),
        _fill(record, t),
    ]
    return [tile for tile in tiles if tile is not None]


def state_of(state: Mapping[str, Any]) -> str:
    """The state that a run's state.json names; empty for none that is known."""
    found = str(state.get("state", ""))
    return found if found in STATES else ""


def part_rows(record: Record, recipe: Mapping[str, Any]) -> list[PartRow]:
    """Parts and rates from the setup event, or else from the recipe's `train`."""
    if found := _items(setup_of(record).get("parts")):
        return [_part_row(name, values) for name, values in found]
    return [_part_of_recipe(name, value) for name, value in _items(recipe.get("train"))]


def machine_rows(record: Record) -> list[tuple[str, str]]:
    """What a run depends on: Manako, Python, machine, packages, and the setup's plain fields."""
    header = record.header
    rows = [
        (name, str(header[key]))
        for name, key in (("manako", "manako"), ("python", "python"), ("machine", "machine"))
        if key in header
    ]
    rows += [(name, str(version)) for name, version in _items(header.get("versions"))]
    return rows + [
        (name, str(value))
        for name, value in _items(setup_of(record))
        if name not in HIDDEN_SETUP and isinstance(value, str | int | float)
    ]


def setup_of(record: Record) -> Mapping[str, Any]:
    """The last setup event; a resumed run writes one more."""
    return next(reversed(record.of_kind("setup")), {})


def _questions(result: Mapping[str, Any], t: Labels) -> Tile | None:
    count = whole(result.get("test_questions"))
    return Tile(t("test_questions"), f"{count:,}") if count is not None else None


def _seconds(record: Record, result: Mapping[str, Any], t: Labels) -> Tile | None:
    ends = record.of_kind("end")
    seconds = finite(result.get("seconds", ends[-1].get("seconds") if ends else None))
    return Tile(t("seconds"), show_seconds(seconds)) if seconds is not None else None


def _steps(record: Record, t: Labels) -> Tile | None:
    steps = record.of_kind("step")
    if not steps:
        return None
    epoch = finite(steps[-1].get("epoch"))
    note = t("epochs", epochs=f"{epoch:.3g}") if epoch is not None else ""
    last = whole(steps[-1].get("step"))
    return Tile(t("steps"), f"{len(steps) if last is None else last:,}", note=note)


def _parameters(record: Record, t: Labels) -> Tile | None:
    rows = part_rows(record, {})
    total = sum(row.parameters or 0 for row in rows)
    if not total:
        return None
    trained = sum(row.trained or 0 for row in rows)
    return Tile(
        t("parameters"),
        show_count(total),
        note=t("trained_parameters", count=show_count(trained)) if trained else "",
    )


def _peak_memory(
    record: Record, result: Mapping[str, Any], plan: Mapping[str, Any], t: Labels
) -> Tile | None:
    """The peak of the whole command, and below it that of training beside what was predicted."""
    peaks = [value for _, value in numbers(record.of_kind("step"), _peak)]
    training = max(peaks, default=None)
    peak = finite(result.get("peak_memory_bytes", training))
    if peak is None:
        return None
    notes = (
        [t("training_memory", size=show_bytes(training))] if training not in (None, peak) else []
    )
    if predicted := _predicted_memory(record, plan):
        notes.append(t("predicted_memory", size=predicted))
    return Tile(t("peak_memory"), show_bytes(peak), note=t("comma").join(notes))


def _predicted_memory(record: Record, plan: Mapping[str, Any]) -> str:
    """What the plan said: a range for the process on a CPU, allocated tensors elsewhere."""
    memory = dict(_items(plan.get("memory")))
    low, high = (finite(memory.get(f"cpu_process_{end}_bytes")) for end in ("low", "high"))
    if str(setup_of(record).get("device", "")).startswith("cpu") and low and high:
        return f"{show_bytes(low)}–{show_bytes(high)}"
    total = finite(memory.get("total_bytes"))
    return show_bytes(total) if total else ""


def _peak(event: Mapping[str, Any]) -> Any:
    return event.get("peak_memory_bytes")


def _speed(record: Record, t: Labels) -> Tile | None:
    speed = _median(record, "tokens_per_second")
    if speed is None:
        return None
    notes = [t("tokens_per_second")]
    if (rate := _median(record, "tflops")) is not None:
        notes.append(t("tflops_per_device", rate=f"{rate:.3g}"))
    if (share := _median(record, "mfu")) is not None:
        notes.append(t("share_of_peak", share=f"{100 * share:.1f}"))
    return Tile(t("speed"), f"{speed:,.0f}", note=t("comma").join(notes))


def _median(record: Record, name: str) -> float | None:
    found = numbers(record.of_kind("step"), lambda event: event.get(name))
    values = [value for _, value in found if finite(value) is not None]
    return median(values) if values else None


def _fill(record: Record, t: Labels) -> Tile | None:
    found = numbers(record.of_kind("step"), lambda event: event.get("pack_fill"))
    fills = [value for _, value in found if finite(value) is not None]
    return Tile(t("fill"), f"{100 * fmean(fills):.1f}", unit="%") if fills else None


def _part_row(name: str, values: Any) -> PartRow:
    values = values if isinstance(values, Mapping) else {"how": values}
    rate = finite(values.get("learning_rate"))
    return PartRow(
        part=name,
        how=str(values.get("how", "")),
        rate=f"{rate:g}" if rate else "",
        parameters=whole(values.get("parameters")),
        trained=whole(values.get("trained")),
    )


def _part_of_recipe(name: str, value: Any) -> PartRow:
    how, _, rate = str(value).rpartition(" ")
    is_frozen = rate == "frozen"
    return PartRow(
        part=name,
        how="frozen" if is_frozen else how,
        rate="" if is_frozen else rate,
        parameters=None,
        trained=None,
    )


def _items(value: Any) -> list[tuple[str, Any]]:
    """Names and values of a mapping; none of anything else."""
    return [(str(k), v) for k, v in value.items()] if isinstance(value, Mapping) else []
