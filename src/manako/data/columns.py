"""Canonical rows, gathered column by column into one Arrow table.

Arrow builds a nested array from flat Python lists and offsets some ten times as fast as from nested
dicts; the lists also take a tenth of the memory while a row group fills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from manako.core.row import arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_COLUMNS = ("id", "source", "license", "language", "meta")
SIDE_COLUMNS = ("widths", "heights")
EMPTY_COLUMNS = ("rejected", "tools", "objects")
"""Reserved: nothing in this version fills them."""
PART_BYTES = 32
"""Rough cost of a content part beside its characters: offsets, role and type."""


class Columns:
    """Rows waiting to become a row group. `bytes` estimates their size in the file."""

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self._texts: dict[str, list[str]] = {name: [] for name in TEXT_COLUMNS}
        self._train: list[list[bool | None] | None] = []
        self._image_ends = [0]
        self._image_bytes: list[bytes] = []
        self._image_paths: list[str | None] = []
        self._sides: dict[str, list[int]] = {name: [] for name in SIDE_COLUMNS}
        self._turn_ends = [0]
        self._roles: list[str] = []
        self._part_ends = [0]
        self._part_types: list[str] = []
        self._part_texts: list[str | None] = []

    def append(self, row: Mapping[str, Any], size_bytes: int) -> None:
        """Add one canonical row (`core.row.row_of`) of about `size_bytes` (`row_bytes`)."""
        for name, column in self._texts.items():
            column.append(row[name])
        self._train.append(row["train"])
        for image in row["images"]:
            self._image_bytes.append(image["bytes"])
            self._image_paths.append(image["path"])
        self._image_ends.append(len(self._image_bytes))
        for name, sides in self._sides.items():
            sides += row[name]
        self._append_messages(row["messages"])
        self.rows += 1
        self.bytes += size_bytes

    def _append_messages(self, messages: Sequence[Mapping[str, Any]]) -> None:
        part_types, part_texts, part_ends = self._part_types, self._part_texts, self._part_ends
        for message in messages:
            for part in message["content"]:
                part_types.append(part["type"])
                part_texts.append(part["text"])
            part_ends.append(len(part_types))
        self._roles += [message["role"] for message in messages]
        self._turn_ends.append(len(self._roles))

    def table(self) -> pa.Table:
        """The rows as a table of the canonical schema."""
        import pyarrow as pa

        schema = arrow_schema()
        arrays: dict[str, Any] = {
            name: pa.array(column, pa.string()) for name, column in self._texts.items()
        }
        arrays["train"] = pa.array(self._train, schema.field("train").type)
        arrays["images"] = _list_array(
            self._image_ends,
            pa.StructArray.from_arrays(
                [
                    pa.array(self._image_bytes, pa.binary()),
                    pa.array(self._image_paths, pa.string()),
                ],
                names=["bytes", "path"],
            ),
        )
        for name, sides in self._sides.items():
            arrays[name] = _list_array(self._image_ends, pa.array(sides, pa.int32()))
        arrays["messages"] = self._messages()
        for name in EMPTY_COLUMNS:
            arrays[name] = pa.nulls(self.rows, schema.field(name).type)
        return pa.table(
            [arrays[name].cast(schema.field(name).type) for name in schema.names], schema
        )

    def _messages(self) -> Any:
        import pyarrow as pa

        parts = pa.StructArray.from_arrays(
            [pa.array(self._part_types, pa.string()), pa.array(self._part_texts, pa.string())],
            names=["type", "text"],
        )
        turns = pa.StructArray.from_arrays(
            [pa.array(self._roles, pa.string()), _list_array(self._part_ends, parts)],
            names=["role", "content"],
        )
        return _list_array(self._turn_ends, turns)


def _list_array(ends: list[int], values: Any) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)


def row_bytes(row: Mapping[str, Any]) -> int:
    """About how many bytes a canonical row takes in a file, before compression."""
    size = len(row["id"]) + len(row["meta"]) + len(row["source"])
    for image in row["images"]:
        size += len(image["bytes"])
    texts = [part["text"] for message in row["messages"] for part in message["content"]]
    return size + PART_BYTES * len(texts) + sum(map(len, filter(None, texts)))
