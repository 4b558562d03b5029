"""Writes the quickstart's data: three training sets and a test set of forms.

The files have The Cauldron's row form, `images` list<struct<bytes, path>> and `texts`
list<struct<user, assistant, source>>, so the quickstart converts them as it would any other source.
`source` is `forms/<kind>/<ja|en>`. Rows with two pictures place them by `<image>` marks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manako.core.errors import InputError
from manako.core.files import atomic_path
from manako.samples.pictures import Sheet, compose, encode_pngs
from manako.samples.plans import Deck, Form, Stage, plan_tests, plan_training
from manako.samples.questions import KINDS, SHEET_CAPTIONS, Turn
from manako.samples.scans import Glyphs, load_scans, plain_glyphs, split_scans, varied_glyphs

if TYPE_CHECKING:
    import pyarrow as pa

STAGES = (
    Stage(
        name="one",
        mix={"one": 1.0},
        turns=(1, 2),
        kinds=("read_one", "count", "colour"),
        marks=(0.4, 0.6, 0.0),
    ),
    Stage(name="short", mix={"one": 0.1, "pair": 0.3, "many": 0.4, "two": 0.2}, turns=(1, 3)),
    Stage(name="long", mix={"one": 0.12, "pair": 0.25, "many": 0.43, "two": 0.2}, turns=(2, 6)),
)
"""The training sets, in the order in which a model should see them."""

TEST = "test"
DEFAULT_ROWS: Mapping[str, int] = {"one": 2_800, "short": 9_300, "long": 15_500}
"""Conversations by training set: what 800 packs of 1,856 tokens take in when the sets have 5, 25
and 70 % of the packs (a row is about 27, 41 and 67 tokens), so that each row is seen about once."""

VARIANTS_PER_SCAN = 24
_FORMS_PER_ROW_GROUP = 1024
_DRAWING_THREADS = 2  # numpy and zlib let go of the interpreter while they work.
_SHEETS_AT_ONCE = 128  # Keeps the canvas in the processor's cache.
_SHARD = "part-00000.parquet"
_IMAGE_MARK = "<image>"


@dataclass(frozen=True, kw_only=True)
class FormsReport:
    """What `write_forms` wrote: rows by set, turns by set and kind, pictures and bytes in all."""

    out: Path
    rows: Mapping[str, int]
    turns: Mapping[str, Mapping[str, int]]
    pictures: int
    size_bytes: int


def write_forms(
    out: Path,
    *,
    seed: int = 0,
    rows: Mapping[str, int] = DEFAULT_ROWS,
    test_questions_per_kind: int = 160,
    progress: Callable[[int, int], None] | None = None,
) -> FormsReport:
    """Write `out/{one,short,long,test}/part-00000.parquet`, each whole or not at all.

    The same `seed`, numbers and library versions give the same bytes. The held-out scans, which
    the test set alone is made of, do not depend on the seed. `progress(done, total)` counts rows.
    Raises `InputError` for an unknown set or a number below its least, `MissingDependencyError`
    without scikit-learn, `WriteError` when the disk refuses.
    """
    _check_numbers(rows, test_questions_per_kind)
    training, held_out = split_scans(load_scans())
    varied = varied_glyphs(training, variants=VARIANTS_PER_SCAN, rng=np.random.default_rng(seed))
    plain = plain_glyphs(held_out)
    total = sum(rows.values()) + test_questions_per_kind * len(KINDS)
    tally = _Tally(total, progress)
    for stage in STAGES:
        if rows.get(stage.name):
            plan = plan_training(stage, varied, rows=rows[stage.name], seed=seed)
            _write_set(out, stage.name, plan, varied, seed, tally)
    tests = plan_tests(plain, questions_per_kind=test_questions_per_kind, seed=seed)
    _write_set(out, TEST, tests, plain, seed, tally)
    return tally.report(out)


def example_form(seed: int = 0) -> bytes:
    """The PNG of one form with three digits of held-out scans and a mark, for a look or a test."""
    glyphs = plain_glyphs(split_scans(load_scans())[1])
    rng = random.Random(f"forms/{seed}/example")
    sheet = Deck(glyphs, rng).sheet(cells=4, count=3, marks=1)
    return encode_pngs(compose([sheet], glyphs, np.random.default_rng(seed)))[0]


def _check_numbers(rows: Mapping[str, int], test_questions_per_kind: int) -> None:
    names = [stage.name for stage in STAGES]
    for name, count in rows.items():
        if name not in names:
            raise InputError(
                f"rows: there is no training set {name!r}",
                next_step=f"name some of {', '.join(names)}",
            )
        if count < 0:
            raise InputError(f"rows: {name} is {count}, expected 0 or more")
    if test_questions_per_kind < 1:
        raise InputError(
            f"test_questions_per_kind is {test_questions_per_kind}, expected 1 or more"
        )


class _Tally:
    """Counts what is written, and tells `progress`."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._total, self._progress = total, progress
        self._rows: Counter[str] = Counter()
        self._turns: dict[str, Counter[str]] = {}
        self._pictures = 0

    def add(self, name: str, forms: Sequence[Form]) -> None:
        conversations = [turns for form in forms for turns in form.conversations]
        kinds = self._turns.setdefault(name, Counter())
        kinds.update(turn.kind for turns in conversations for turn in turns)
        self._rows[name] += len(conversations)
        self._pictures += sum(len(form.sheets) for form in forms)
        if self._progress:
            self._progress(self._rows.total(), self._total)

    def report(self, out: Path) -> FormsReport:
        shares = {
            name: {kind: kinds[kind] for kind in KINDS if kinds[kind]}
            for name, kinds in self._turns.items()
        }
        size_bytes = sum((out / name / _SHARD).stat().st_size for name in self._rows)
        return FormsReport(
            out=out,
            rows=dict(self._rows),
            turns=shares,
            pictures=self._pictures,
            size_bytes=size_bytes,
        )


def _write_set(
    out: Path, name: str, plan: Iterator[Form], glyphs: Glyphs, seed: int, tally: _Tally
) -> None:
    import pyarrow.parquet as pq

    schema = _schema()
    rng = np.random.default_rng([seed, *name.encode("utf-8")])
    drawn = 0
    with (
        ThreadPoolExecutor(_DRAWING_THREADS) as threads,
        atomic_path(out / name / _SHARD) as partial,
        # The pictures are compressed already; only the texts gain.
        pq.ParquetWriter(partial, schema, compression=_compression(schema)) as writer,
    ):
        while forms := list(islice(plan, _FORMS_PER_ROW_GROUP)):
            pictures = _draw(
                [sheet for form in forms for sheet in form.sheets], glyphs, rng, threads
            )
            files = (
                {"bytes": png, "path": f"{name}/{number:06d}.png"}
                for number, png in enumerate(pictures, start=drawn)
            )
            drawn += len(pictures)
            rows = [row for form in forms for row in _rows(form, files)]
            writer.write_table(_table(rows, schema))
            tally.add(name, forms)


def _schema() -> pa.Schema:
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    text = pa.struct([(key, pa.string()) for key in ("user", "assistant", "source")])
    return pa.schema([("images", pa.list_(image)), ("texts", pa.list_(text))])


def _compression(schema: pa.Schema) -> dict[str, str]:
    columns = ["images.list.element.bytes", "images.list.element.path"]
    columns += [
        f"texts.list.element.{field.name}" for field in schema.field("texts").type.value_type
    ]
    return {column: "none" if column.endswith("bytes") else "zstd" for column in columns}


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema)


def _draw(
    sheets: Sequence[Sheet], glyphs: Glyphs, rng: np.random.Generator, threads: ThreadPoolExecutor
) -> list[bytes]:
    """The PNG of each sheet; sheets of one size are composed together."""
    batches = []
    for cells in sorted({sheet.cells for sheet in sheets}):
        places = [i for i, sheet in enumerate(sheets) if sheet.cells == cells]
        starts = range(0, len(places), _SHEETS_AT_ONCE)
        batches += [places[start : start + _SHEETS_AT_ONCE] for start in starts]

    # Each batch has a generator of its own, so threads cannot change what is drawn.
    def draw(batch: list[int], own: np.random.Generator) -> list[bytes]:
        return encode_pngs(compose([sheets[i] for i in batch], glyphs, own))

    drawn = threads.map(draw, batches, rng.spawn(len(batches)))
    pictures = dict(zip(chain(*batches), chain.from_iterable(drawn), strict=True))
    return [pictures[i] for i in range(len(sheets))]


def _rows(form: Form, files: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    images = list(islice(files, len(form.sheets)))
    for turns in form.conversations:
        yield {"images": images, "texts": _texts(turns, len(images))}


def _texts(turns: Sequence[Turn], pictures: int) -> list[dict[str, str]]:
    texts = [
        {"user": turn.question, "assistant": turn.answer, "source": turn.source} for turn in turns
    ]
    if pictures == 2:
        captions = SHEET_CAPTIONS[turns[0].language]
        shown = "".join(f"{_IMAGE_MARK}{caption}" for caption in captions)
        texts[0]["user"] = shown + texts[0]["user"]
    return texts
