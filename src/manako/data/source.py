"""What the loader asks of a data set: rows by number, and how they lie on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from manako.core.conversation import Conversation


class RowSource(Protocol):
    """Rows that can be read in any order. Picklable: worker processes get a copy.

    groups: (first row, rows, bytes) of each stretch that is read together, in order of rows and
        without gaps; a Parquet row group is one.
    manifest_sha256: changes whenever a row does.
    """

    @property
    def rows(self) -> int: ...

    @property
    def groups(self) -> Sequence[tuple[int, int, int]]: ...

    @property
    def manifest_sha256(self) -> str: ...

    def conversation(self, index: int) -> Conversation:
        """Row `index` (0 ≤ index < rows). Raises `RowError` when the row contradicts itself."""
        ...

    def outline(self, index: int) -> Conversation:
        """The same row, cheaper where pictures are large: they know their sizes, and may have no
        bytes. Enough to measure."""
        ...
