"""Writing a data set in canonical form: shards, dropped rows, manifest; whole or not there."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import InputError, RowError
from manako.core.files import PARTIAL_MARK, atomic_folder, write_text
from manako.core.row import arrow_schema
from manako.data.columns import Columns, row_bytes
from manako.data.manifest import (
    DROPPED_NAME,
    MANIFEST_NAME,
    Manifest,
    StoredFile,
    sha256_of,
)

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MAX_ROW_BYTES = 2**30
"""One row stays well below the 2 GiB that an Arrow array of 32-bit offsets can hold."""
NAMED_COUNTS = 1000
"""So many different sources or licences are counted by name in the manifest; the rest as one."""
IMAGE_COLUMN = "images.list.element.bytes"
REPEATING_COLUMNS = (
    "messages.list.element.role",
    "messages.list.element.content.list.element.type",
    "source",
    "license",
    "language",
)


@dataclass(frozen=True, kw_only=True)
class WriterSettings:
    """How large row groups and shards become.

    A row group is closed at `row_group_bytes`, or before a row would bring it over
    `max_row_group_bytes`; a shard at `shard_bytes`.
    """

    row_group_bytes: int = 24 * 10**6
    max_row_group_bytes: int = 32 * 10**6
    shard_bytes: int = 500 * 10**6


@dataclass(frozen=True, kw_only=True)
class DroppedRow:
    """A row that did not go in: where it stood, why, and what it said (pictures as hashes).

    sha256: of `row`, which holds the sha256 of every picture, so it names the row's content.
    """

    file: str
    index: int
    id: str
    sha256: str
    reason: str
    detail: str
    row: str


@contextlib.contextmanager
def write_store(
    out: Path,
    *,
    origin: Mapping[str, Any] | None = None,
    settings: WriterSettings | None = None,
) -> Iterator[StoreWriter]:
    """Write a data set to `out`; it appears when the block ends well, and only then.

    What an earlier, killed call left beside `out` is deleted. Raises `InputError` when `out` holds
    files already, `WriteError` when the disk fails.
    """
    check_is_free(out)
    _remove_left_over(out)
    with atomic_folder(out) as partial:
        writer = StoreWriter(partial, settings or WriterSettings())
        try:
            yield writer
            writer.finish(origin or {})
        except BaseException:
            writer.abandon()
            raise


def _remove_left_over(out: Path) -> None:
    if not out.parent.is_dir():
        return
    for path in list(out.parent.iterdir()):
        if path.name.startswith(out.name + PARTIAL_MARK):
            shutil.rmtree(path, ignore_errors=True)


def check_is_free(out: Path) -> None:
    """Raise `InputError` when `out` is a file, or a folder with something in it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} exists already{' and holds files' if out.is_dir() else ''}",
            next_step="choose another --out, or delete it first; nothing is overwritten",
        )


class StoreWriter:
    """Takes canonical rows, and rows that were refused. Made by `write_store`."""

    def __init__(self, folder: Path, settings: WriterSettings) -> None:
        self.rows = 0
        self.images = 0
        self.by_reason: Counter[str] = Counter()
        self._folder = folder
        self._settings = settings
        self._ids: set[str] = set()
        self._sources: Counter[str] = Counter()
        self._licences: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._pending = Columns()
        self._shard: pq.ParquetWriter | None = None
        self._shard_rows = 0
        self._shard_bytes = 0
        self._files: list[StoredFile] = []
        self._dropped = _DroppedFile(folder / DROPPED_NAME)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a canonical row. An id that is taken gets the suffix `#2`, `#3`, ...; the original
        goes to `meta["id"]`. Raises `RowError` for a row too large to store."""
        size = row_bytes(row)
        if size > MAX_ROW_BYTES:
            raise RowError(
                f"row {row['id']} has {size:,} bytes, above {MAX_ROW_BYTES:,}",
                reason="row_too_large",
                row_id=row["id"],
            )
        pending = self._pending
        if pending.rows and pending.bytes + size > self._settings.max_row_group_bytes:
            self._write_group()
        self._pending.append(self._with_own_id(row), size)
        self.rows += 1
        self.images += len(row["images"])
        self._sources[row["source"]] += 1
        self._licences[row["license"]] += 1
        self._languages[row["language"]] += 1
        if self._pending.bytes >= self._settings.row_group_bytes:
            self._write_group()

    def drop(self, row: DroppedRow) -> None:
        """Record a row that did not go in."""
        self.by_reason[row.reason] += 1
        self._dropped.append(row)

    def finish(self, origin: Mapping[str, Any]) -> None:
        """Close the files and write the manifest."""
        if self._pending.rows or not self.rows:  # a data set without rows still has a schema
            self._write_group()
        self._close_shard()
        dropped = self._dropped.close()
        manifest = Manifest(
            rows=self.rows,
            images=self.images,
            files=tuple(self._files),
            dropped=dropped,
            by_reason=dict(sorted(self.by_reason.items())),
            sources=_named(self._sources),
            licences=_named(self._licences),
            languages=_named(self._languages),
            origin=origin,
            settings={**asdict(self._settings), "image_bytes": "as they came in"},
        )
        write_text(self._folder / MANIFEST_NAME, manifest.to_json())

    def abandon(self) -> None:
        """Let go of open files; what they hold is about to be deleted, and why is on its way."""
        import pyarrow as pa

        for writer in (self._shard, self._dropped.writer):
            with contextlib.suppress(OSError, pa.ArrowException):
                if writer is not None:
                    writer.close()

    def _with_own_id(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = row["id"] or f"row:{self.rows}"
        own, number = wanted, 1
        while own in self._ids:
            number += 1
            own = f"{wanted}#{number}"
        self._ids.add(own)
        if own == row["id"]:
            return row
        meta = json.loads(row["meta"])
        meta.setdefault("id", row["id"])
        return {**row, "id": own, "meta": json.dumps(meta, ensure_ascii=False)}

    def _write_group(self) -> None:
        pending, self._pending = self._pending, Columns()
        if self._shard is None:
            self._shard = _open_shard(self._folder / self._shard_name())
        self._shard.write_table(pending.table(), row_group_size=max(pending.rows, 1))
        self._shard_rows += pending.rows
        self._shard_bytes += pending.bytes
        if self._shard_bytes >= self._settings.shard_bytes:
            self._close_shard()

    def _shard_name(self) -> str:
        # `datasets` reads the split from the name, and so leaves dropped.parquet alone.
        return f"train-{len(self._files):05d}.parquet"

    def _close_shard(self) -> None:
        if self._shard is None:
            return
        self._shard.close()
        self._files.append(_stored_file(self._folder / self._shard_name(), self._shard_rows))
        self._shard, self._shard_rows, self._shard_bytes = None, 0, 0


class _DroppedFile:
    """`dropped.parquet`, written in stretches; it is there even when nothing was dropped."""

    STRETCH_ROWS = 2000

    def __init__(self, path: Path) -> None:
        self.writer: pq.ParquetWriter | None = None
        self._path = path
        self._rows = 0
        self._pending: list[dict[str, Any]] = []

    def append(self, row: DroppedRow) -> None:
        self._pending.append(
            {
                name: _writable(value) if isinstance(value, str) else value
                for name, value in asdict(row).items()
            }
        )
        self._rows += 1
        if len(self._pending) >= self.STRETCH_ROWS:
            self._write()

    def close(self) -> StoredFile:
        self._write()
        if self.writer is not None:
            self.writer.close()
        return _stored_file(self._path, self._rows)

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        schema = pa.schema(
            {
                "file": text,
                "index": pa.int64(),
                "id": text,
                "sha256": text,
                "reason": text,
                "detail": text,
                "row": text,
            }
        )
        if self.writer is None:
            self.writer = pq.ParquetWriter(self._path, schema, compression="zstd")
        self.writer.write_table(pa.Table.from_pylist(self._pending, schema))
        self._pending = []


def _open_shard(path: Path) -> pq.ParquetWriter:
    """Images uncompressed and plain (they are compressed already), the rest zstd.

    Content-defined chunking cuts pages at content, so an edited data set uploads only what changed.
    """
    import pyarrow.parquet as pq

    schema = arrow_schema()
    leaves = _leaves(schema)
    return pq.ParquetWriter(
        path,
        schema,
        compression={leaf: "NONE" if leaf == IMAGE_COLUMN else "ZSTD" for leaf in leaves},
        use_dictionary=list(REPEATING_COLUMNS),
        write_statistics=[leaf for leaf in leaves if leaf != IMAGE_COLUMN],
        write_page_index=True,
        use_content_defined_chunking=True,
    )


def _leaves(schema: Any) -> list[str]:
    """Parquet's names of the columns that hold values, as its writer's options want them."""
    import pyarrow as pa

    def walk(name: str, kind: Any) -> list[str]:
        if pa.types.is_list(kind):
            return walk(f"{name}.list.element", kind.value_type)
        if pa.types.is_struct(kind):
            return [leaf for field in kind for leaf in walk(f"{name}.{field.name}", field.type)]
        return [name]

    return [leaf for field in schema for leaf in walk(field.name, field.type)]


def _stored_file(path: Path, rows: int) -> StoredFile:
    return StoredFile(path=path.name, sha256=sha256_of(path), rows=rows, bytes=path.stat().st_size)


def _named(counts: Counter[str]) -> dict[str, int]:
    named = dict(counts.most_common(NAMED_COUNTS))
    if others := counts.total() - sum(named.values()):
        named["(others)"] = others
    return named


def _writable(text: str) -> str:
    """Text as UTF-8 can hold it: half characters as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
