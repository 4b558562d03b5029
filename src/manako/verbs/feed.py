"""Feed: a source becomes a data set, a data set is counted, and both it and a run are looked at."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import InputError, MissingFileError
from manako.verbs.runs import is_run

if TYPE_CHECKING:
    from manako.core.family import Processor
    from manako.data.census import Census
    from manako.data.convert import ConvertReport
    from manako.data.store import Store
    from manako.report.events import Entry
    from manako.report.texts import Lang

Progress = Callable[[int, int], None]
SAMPLES = 24
MANIFEST = "manifest.json"
RUN_FILES = ("recipe.yaml", "result.json")


def format_names() -> list[str]:
    """Names of the formats that `convert` reads."""
    from manako.data.convert import format_names

    return format_names()


def convert(
    src: Path,
    out: Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> ConvertReport:
    """Convert a source into a new data set folder; as `data.convert.convert`."""
    from manako.data.convert import convert

    return convert(src, out, format=format, images=images, progress=progress)


def census(folder: Path, *, model: str | None = None, progress: Progress | None = None) -> Census:
    """Count a data set; with `model` also in its tokens."""
    from manako.data.census import take_census
    from manako.data.store import Store

    store = Store.open(folder)
    measure = None if model is None else open_processor(model).measure
    return take_census(store, measure=measure, progress=progress)


def open_processor(model: str | Path) -> Processor:
    """The processor of whatever `load` opens, without its weights."""
    from manako.core.family import family_of
    from manako.infer.source import CONFIG, find_model

    named = find_model(model)
    has_own = named.adapter is not None and (named.adapter / CONFIG).is_file()
    folder = named.adapter if has_own and named.adapter is not None else named.folder
    return family_of(named.folder).open(folder)


def view(
    what: Path,
    *,
    lang: Lang,
    model: str | None = None,
    out: Path | None = None,
    samples: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the page of a data set or of a run; its path.

    Raises `MissingFileError` where there is neither, `InputError` where a setting is for the other.
    """
    if _is_data(what):
        return view_data(
            what, lang=lang, model=model, out=out, samples=samples or SAMPLES, progress=progress
        )
    if given := [name for name, v in (("--model", model), ("--samples", samples)) if v]:
        raise InputError(
            f"{' and '.join(given)}: {what} is a run, whose report shows what its own files hold",
            next_step="leave it out, or give a data set",
        )
    return view_run(what, lang=lang, out=out)


def view_data(
    folder: Path,
    *,
    lang: Lang,
    model: str | None = None,
    out: Path | None = None,
    samples: int = SAMPLES,
    progress: Progress | None = None,
) -> Path:
    """Write the page of `samples` rows, spread evenly over a data set; its path.

    With `model`, rows as its processor sees them: pictures with their token grid, tokens, mask.
    """
    from manako.data.store import Store
    from manako.report.events import write_entries
    from manako.report.samples import write_samples_page

    store = Store.open(folder)
    processor = None if model is None else open_processor(model)
    name = folder.resolve().name
    out = out or Path(f"{name}-view.html")
    with tempfile.TemporaryDirectory(prefix="manako-view-") as temporary:
        record = write_entries(
            Path(temporary),
            _entries(store, _spread(store.rows, samples), processor, progress),
            verb="view",
            data=str(folder),
            rows=store.rows,
            **({} if model is None else {"model": str(model)}),
        )
        return write_samples_page(record, out, lang=lang, title=name)


def view_run(folder: Path, *, lang: Lang, out: Path | None = None) -> Path:
    """Write the report of a run; its path."""
    from manako.report.run import write_run_report

    if not folder.is_dir():
        raise MissingFileError(f"no such folder: {folder}")
    if not (is_run(folder) or any((folder / name).is_file() for name in RUN_FILES)):
        raise MissingFileError(
            f"{folder} is neither a data set (no {MANIFEST}) nor a run (no record.jsonl)",
            next_step="give a folder that `manako data convert` or `manako train` made",
        )
    return write_run_report(folder, lang=lang, out=out)


@contextlib.contextmanager
def view_row(
    folder: Path, row: int, *, model: str | None = None
) -> Iterator[tuple[dict[str, Any], Path]]:
    """One row as a sample event (`report/events.py`), and the folder where its pictures lie
    as long as the block lasts."""
    from manako.data.store import Store
    from manako.report.events import write_entries

    if not _is_data(folder):
        raise InputError(
            f"--row: {folder} is no data set (no {MANIFEST})",
            next_step="give a folder that `manako data convert` made",
        )
    store = Store.open(folder)
    processor = None if model is None else open_processor(model)
    with tempfile.TemporaryDirectory(prefix="manako-view-") as temporary:
        (entry,) = _entries(store, [row], processor, None)
        write_entries(Path(temporary), [entry], verb="view")
        yield entry.event, Path(temporary)


def _is_data(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _spread(rows: int, samples: int) -> list[int]:
    """At most `samples` row numbers, evenly over all rows."""
    count = min(rows, samples)
    return [number * rows // count for number in range(count)]


def _entries(
    store: Store, rows: list[int], processor: Processor | None, progress: Progress | None
) -> Iterator[Entry]:
    from manako.report.events import encode_sample, sample_entry

    for done, row in enumerate(rows, start=1):
        conversation = store.conversation(row)
        if processor is None:
            yield sample_entry(conversation, number=row)
        else:
            yield encode_sample(conversation, processor, number=row)
        if progress is not None:
            progress(done, len(rows))
