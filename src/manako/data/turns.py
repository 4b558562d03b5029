"""The `messages` column of a batch, unrolled into one entry per turn, without a Python loop per row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCRIPT_PATTERNS = {
    "japanese": r"[\p{Hiragana}\p{Katakana}]",
    "hangul": r"\p{Hangul}",
    "han": r"\p{Han}",
    "latin": r"\p{Latin}",
    "other": r"\p{L}",
}
"""In order of precedence: a turn with kana is Japanese whatever else it holds."""
SCRIPTS = (*SCRIPT_PATTERNS, "none")


@dataclass(frozen=True, kw_only=True)
class Turns:
    """One entry per turn. R rows, T turns, P content parts.

    turns_per_row: int64 [R]; roles: T; characters: int64 [T], of all text parts;
    is_trained, is_blank (nothing but white space, and no picture): bool [T].
    parts_per_turn: int64 [T]; texts: Arrow strings [P], empty for pictures.
    """

    turns_per_row: NDArray[np.int64]
    roles: list[str]
    characters: NDArray[np.int64]
    is_trained: NDArray[np.bool_]
    is_blank: NDArray[np.bool_]
    parts_per_turn: NDArray[np.int64]
    texts: Any

    def per_row(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [R]: sums over each row's turns of int64 [T]."""
        return _sums(values, self.turns_per_row)

    def scripts(self) -> list[str]:
        """The script of each turn, one of `SCRIPTS`."""
        import pyarrow.compute as pc

        names = np.full(len(self.roles), SCRIPTS.index("none"))
        for number, pattern in reversed(list(enumerate(SCRIPT_PATTERNS.values()))):
            found = _numbers(pc.match_substring_regex(self.texts, pattern))
            names[_sums(found, self.parts_per_turn) > 0] = number
        return [SCRIPTS[number] for number in names.tolist()]

    def row_texts(self) -> Iterator[bytes]:
        """All text of each row as UTF-8, turn after turn."""
        import pyarrow as pa

        texts = pa.concat_arrays([self.texts])
        _, offsets, data = texts.buffers()
        ends_P = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
        parts_R = self.per_row(self.parts_per_turn)
        part_ends_R = np.concatenate([[0], np.cumsum(parts_R)])
        view = memoryview(data) if data is not None else memoryview(b"")
        for start, end in zip(part_ends_R[:-1].tolist(), part_ends_R[1:].tolist(), strict=True):
            yield bytes(view[int(ends_P[start]) : int(ends_P[end])])


def turns_of(batch: Any) -> Turns:
    """The turns of a record batch with the columns `messages` and, where it matters, `train`."""
    import pyarrow.compute as pc

    messages = batch.column("messages")
    turns_per_row = _counts(messages)
    roles, contents = messages.flatten().flatten()
    parts_per_turn = _counts(contents)
    types, texts = contents.flatten().flatten()
    texts = pc.fill_null(texts, "")
    blank_parts = pc.and_(
        pc.equal(types, "text"), pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
    )
    roles = roles.to_pylist()
    return Turns(
        turns_per_row=turns_per_row,
        roles=roles,
        characters=_sums(_numbers(pc.utf8_length(texts)), parts_per_turn),
        is_trained=_trained(batch, roles, turns_per_row),
        is_blank=_sums(_numbers(blank_parts), parts_per_turn) == parts_per_turn,
        parts_per_turn=parts_per_turn,
        texts=texts,
    )


def _trained(batch: Any, roles: list[str], turns_per_row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [T]: answers are trained, unless the row's `train` says otherwise."""
    default = np.array([role == "assistant" for role in roles], bool)
    if "train" not in batch.schema.names or batch.column("train").null_count == batch.num_rows:
        return default
    ends = np.cumsum(turns_per_row).tolist()
    for end, count, overrides in zip(
        ends, turns_per_row.tolist(), batch.column("train").to_pylist(), strict=True
    ):
        for place, override in enumerate(overrides or ()):
            if override is not None:
                default[end - count + place] = override
    return default


def _counts(lists: Any) -> NDArray[np.int64]:
    import pyarrow.compute as pc

    return _numbers(pc.fill_null(pc.list_value_length(lists), 0))


def _numbers(array: Any) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = array.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _sums(values: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of consecutive stretches of `values`, `counts` long (0 allowed)."""
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    differences: NDArray[np.int64] = sums[ends[1:]] - sums[ends[:-1]]
    return differences
