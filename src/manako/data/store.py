"""A data set in canonical form, opened for reading: rows by number, in any order.

Row groups are decoded whole and kept while there is room, least recently used out first. A store
can be pickled; the copy opens the files again, so every worker process has its own.
"""

from __future__ import annotations

import bisect
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from manako.core.errors import InputError
from manako.core.row import conversation_of
from manako.data.manifest import MANIFEST_NAME, Manifest, sha256_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from manako.core.conversation import Conversation

CACHE_BYTES = 320 * 10**6
"""Room for the row groups that the loader shuffles together, and the first of the next ones."""
OUTLINE_COLUMNS = (
    "id",
    "messages",
    "train",
    "rejected",
    "tools",
    "widths",
    "heights",
    "source",
    "objects",
    "meta",
)
"""All that makes a Conversation but the pictures' bytes."""


class Group(NamedTuple):
    """A stretch of rows that is read together. `bytes`: uncompressed, as the file counts them."""

    first_row: int
    rows: int
    bytes: int


class _Place(NamedTuple):
    file: Path
    row_group: int


class Store:
    """Rows of a data set folder. Made by `Store.open`."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        manifest_sha256: str,
        groups: Sequence[tuple[Group, _Place]],
        cache_bytes: int,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.manifest_sha256 = manifest_sha256
        self.rows = manifest.rows
        self.groups = tuple(group for group, _ in groups)
        self._places = tuple(place for _, place in groups)
        self._starts = [group.first_row for group in self.groups]
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[tuple[int, tuple[str, ...] | None], pa.RecordBatch] = (
            OrderedDict()
        )
        self._files: dict[Path, pq.ParquetFile] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path | str, *, cache_bytes: int = CACHE_BYTES) -> Store:
        """Open a data set folder; `cache_bytes` bounds the decoded row groups kept in memory.

        Raises `MissingFileError` or `InputError` when the folder is no whole data set.
        """
        folder = Path(folder)
        manifest = Manifest.load(folder)
        digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
        return cls(folder, manifest, digest, _groups_of(folder, manifest), cache_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self._cache_bytes)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Conversation]:
        return (self.conversation(index) for index in range(self.rows))

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r}, rows={self.rows})"

    def conversation(self, index: int) -> Conversation:
        """Row `index` (0 ≤ index < rows). Raises `RowError` when the row contradicts itself."""
        return conversation_of(self.row(index))

    def outline(self, index: int) -> Conversation:
        """Like `conversation`, with pictures that know their sizes but have no bytes.

        Reads a few per cent of the file where pictures are large: for measuring and planning.
        """
        return conversation_of(self.row(index, OUTLINE_COLUMNS))

    def row(self, index: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Row `index` as plain values: all columns, or only these."""
        if not 0 <= index < self.rows:
            raise InputError(
                f"{self.folder} has no row {index}", next_step=f"rows are 0 to {self.rows - 1}"
            )
        number = bisect.bisect_right(self._starts, index) - 1
        group = self._decoded(number, None if columns is None else tuple(columns))
        row: dict[str, Any] = group.slice(index - self._starts[number], 1).to_pylist()[0]
        return row

    def batches(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """All rows in order as Arrow record batches, read past the cache."""
        import pyarrow.parquet as pq

        for file in self.manifest.files:
            with pq.ParquetFile(self.folder / file.path, memory_map=True) as parquet:
                yield from parquet.iter_batches(
                    batch_size=batch_rows, columns=None if columns is None else list(columns)
                )

    def verify(self) -> None:
        """Compare every file with its hash in the manifest. Raises `InputError` naming the first
        that differs. Reads everything."""
        for file in (*self.manifest.files, self.manifest.dropped):
            if sha256_of(self.folder / file.path) != file.sha256:
                raise InputError(
                    f"{self.folder / file.path} is not the file that the manifest names "
                    "(its sha256 differs)",
                    next_step="copy the whole folder again, or convert the data set again",
                )

    def _decoded(self, number: int, columns: tuple[str, ...] | None) -> pa.RecordBatch:
        key = (number, columns)
        with self._lock:
            if key in self._cached:
                self._cached.move_to_end(key)
                return self._cached[key]
            place = self._places[number]
            parquet = self._open_file(place.file)
            table = parquet.read_row_group(
                place.row_group,
                columns=None if columns is None else list(columns),
                use_threads=False,  # it is a copy; the cores belong to the worker processes
            )
            (group,) = table.combine_chunks().to_batches()
            self._cached[key] = group
            self._make_room()
            return group

    def _make_room(self) -> None:
        total = sum(group.nbytes for group in self._cached.values())
        while total > self._cache_bytes and len(self._cached) > 1:
            _, oldest = self._cached.popitem(last=False)
            total -= oldest.nbytes

    def _open_file(self, path: Path) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        if path not in self._files:
            self._files[path] = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
        return self._files[path]


def _reopen(folder: Path, cache_bytes: int) -> Store:
    return Store.open(folder, cache_bytes=cache_bytes)


def _groups_of(folder: Path, manifest: Manifest) -> list[tuple[Group, _Place]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups: list[tuple[Group, _Place]] = []
    first_row = 0
    for file in manifest.files:
        path = folder / file.path
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{path} is no readable Parquet file: {error}",
                next_step="copy the whole folder again, or convert the data set again",
            ) from error
        if metadata.num_rows != file.rows:
            raise InputError(
                f"{path} has {metadata.num_rows} rows, the manifest says {file.rows}",
                next_step="convert the data set again",
            )
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if group.num_rows:
                place = _Place(path, number)
                groups.append((Group(first_row, group.num_rows, group.total_byte_size), place))
            first_row += group.num_rows
    if first_row != manifest.rows:
        raise InputError(
            f"{folder / MANIFEST_NAME}: rows is {manifest.rows}, its files hold {first_row}",
            next_step="convert the data set again",
        )
    return groups
