"""The report of a run: one page, from files alone.

Read from a run's folder, each only if it is there:

    record.jsonl             header, and events
                             setup  {parts: {part: {how, learning_rate, parameters, trained}},
                                     model, device, threads, …}
                             step   {step, epoch, loss, learning_rates {part: rate}, grad_norms
                                     {part: norm}, tokens_per_second, pack_fill, memory_bytes,
                                     peak_memory_bytes, data_wait_seconds}
                             eval   {step, loss}
                             end    {state, seconds}
    state.json               {state}: running, stopped, finished or failed
    recipe.yaml              every field, as resolved
    plan.json                {memory: {total_bytes, cpu_process_low_bytes, cpu_process_high_bytes}}
    result.json              what `figures` reads, and seconds, peak_memory_bytes
    evaluation/record.jsonl  prediction events (`events`)
    samples/record.jsonl     sample events (`events`)

A section whose data is absent is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from manako.core.errors import InputError, MissingFileError
from manako.core.files import read_json
from manako.core.record import Record, read_record
from manako.report.curves import run_charts
from manako.report.figures import Scores, read_scores
from manako.report.page import write_page
from manako.report.pictures import Album
from manako.report.samples import Sample, Turn, read_samples, read_turns
from manako.report.summary import machine_rows, part_rows, run_tiles, state_of
from manako.report.texts import Lang, labels

T = TypeVar("T")
_NOTHING = object()

PAGE_NAME = "report.html"
EVALUATION = Path("evaluation") / "record.jsonl"
SAMPLES = Path("samples") / "record.jsonl"
MAX_PREDICTIONS = 240
MAX_PREDICTION_BYTES = 1_400_000
"""Picture bytes of predictions; with curves, samples and text a report stays below 3 MB."""
MAX_SAMPLES = 6
MAX_SAMPLE_BYTES = 800_000
PICTURE_PIXELS = 208


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What lies in a run's folder, read."""

    folder: Path
    record: Record
    recipe: Mapping[str, Any]
    recipe_text: str
    result: Mapping[str, Any]
    plan: Mapping[str, Any]
    state: str
    evaluation: Record
    samples: Record


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answer beside what was asked; `turns` is the prompt."""

    group: str
    turns: tuple[Turn, ...]
    expected: str
    answer: str
    is_right: bool


def write_run_report(
    run_folder: Path,
    *,
    lang: Lang,
    out: Path | None = None,
    evaluation: Path | None = None,
    samples: Path | None = None,
) -> Path:
    """Write the report of a run to `out` (default: `report.html` in its folder); its path.

    `evaluation` and `samples` name records that lie elsewhere. Raises `MissingFileError` when the
    folder holds nothing to report, `InputError` for a file that is there but broken.
    """
    files = read_run(run_folder, evaluation=evaluation, samples=samples)
    out = out or run_folder / PAGE_NAME
    scores = read_scores(files.result)
    predictions, total = choose_predictions(
        files.evaluation, (evaluation or run_folder / EVALUATION).parent
    )
    t = labels(lang)
    return write_page(
        out,
        "run.html.jinja",
        lang=lang,
        title=run_folder.resolve().name,
        model=str(files.recipe.get("model") or ""),
        header=files.record.header,
        state=files.state,
        tiles=run_tiles(files.record, files.result, files.plan, t),
        scores=scores,
        parts=part_rows(files.record, files.recipe),
        charts=run_charts(files.record, t),
        predictions=predictions,
        predictions_total=total,
        groups=sorted({p.group for p in predictions}, key=_order(scores)),
        samples=_samples(files.samples, (samples or run_folder / SAMPLES).parent),
        recipe_text=files.recipe_text,
        machine=machine_rows(files.record),
    )


def read_run(
    folder: Path, *, evaluation: Path | None = None, samples: Path | None = None
) -> RunFiles:
    """Everything a report is made of; what is not there is empty."""
    recipe_text, recipe = _read_recipe(folder / "recipe.yaml")
    files = RunFiles(
        folder=folder,
        record=_read_if_there(folder / "record.jsonl"),
        recipe=recipe,
        recipe_text=recipe_text,
        result=_read_fields(folder / "result.json"),
        plan=_read_fields(folder / "plan.json"),
        state=state_of(_read_fields(folder / "state.json")),
        evaluation=_read_if_there(evaluation or folder / EVALUATION),
        samples=_read_if_there(samples or folder / SAMPLES),
    )
    if not (files.record.header or recipe or files.result or files.evaluation.header):
        raise MissingFileError(
            f"{folder} holds no run: no record.jsonl, recipe.yaml or result.json",
            next_step="give the `output_dir` of a recipe, such as runs/quickstart",
        )
    return files


def choose_predictions(record: Record, folder: Path) -> tuple[list[Prediction], int]:
    """Predictions for the page and how many there are in all.

    They are chosen in turns between kinds, and within a kind between right and wrong answers,
    until the page is full: a run that is nearly always right still shows where it errs. They are
    shown as evaluated, kinds mixed.
    """
    events = record.of_kind("prediction")
    album = Album(folder)
    chosen: list[tuple[int, Prediction]] = []
    for place in _places_in_turns(events):
        if len(chosen) >= MAX_PREDICTIONS or album.used_bytes > MAX_PREDICTION_BYTES:
            break
        chosen.append((place, _prediction(events[place], album)))
    by_group: dict[str, list[Prediction]] = {}
    for _, one in sorted(chosen, key=lambda pair: pair[0]):
        by_group.setdefault(one.group, []).append(one)
    return _in_turns(by_group.values()), len(events)


def _places_in_turns(events: Sequence[Mapping[str, Any]]) -> list[int]:
    queues: dict[str, dict[bool, list[int]]] = {}
    for place, event in enumerate(events):
        both = queues.setdefault(str(event.get("group", "")), {True: [], False: []})
        both[bool(event.get("correct"))].append(place)
    return _in_turns([_in_turns(both.values()) for both in queues.values()])


def _in_turns(queues: Iterable[Sequence[T]]) -> list[T]:
    """The first of each queue, then the second of each, and so on."""
    rounds = zip_longest(*queues, fillvalue=_NOTHING)
    return [item for item in chain.from_iterable(rounds) if item is not _NOTHING]  # type: ignore[misc]


def _prediction(event: Mapping[str, Any], album: Album) -> Prediction:
    return Prediction(
        group=str(event.get("group", "")),
        turns=read_turns(event, album, side_pixels=PICTURE_PIXELS),
        expected=str(event.get("expected", "")),
        answer=str(event.get("answer", "")),
        is_right=bool(event.get("correct")),
    )


def _samples(record: Record, folder: Path) -> list[Sample]:
    album, chosen = Album(folder), []
    for event in record.of_kind("sample")[:MAX_SAMPLES]:
        if album.used_bytes > MAX_SAMPLE_BYTES:
            break
        chosen += read_samples([event], album)
    return chosen


def _order(scores: Scores | None) -> Any:
    """Sort key: kinds in the order of the scores, then by name."""
    places = {group.name: place for place, group in enumerate(scores.groups)} if scores else {}
    return lambda name: (places.get(name, len(places)), name)


def _read_if_there(path: Path) -> Record:
    return read_record(path) if path.is_file() else Record({}, ())


def _read_fields(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    result = read_json(path)
    if not isinstance(result, dict):
        raise InputError(f"{path} holds no fields")
    return result


def _read_recipe(path: Path) -> tuple[str, Mapping[str, Any]]:
    import yaml

    if not path.is_file():
        return "", {}
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {error}") from error
    return text, recipe if isinstance(recipe, dict) else {}
