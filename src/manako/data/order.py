"""The order of rows: pure functions of integers, the same on every machine and in every version.

Shuffling sorts by the outputs of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom
number generators, OOPSLA 2014), a bijection of 64-bit integers, so no two rows share a sort key.
numpy's own `Generator.permutation` is not used: its stream may change between versions.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import InputError

SUPER_BLOCK_BYTES = 256 * 10**6
"""Rows are shuffled inside stretches of about this size: large enough to mix, small enough that
the row groups of one stretch stay in the page cache while it is read."""
GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1

Groups = Sequence[tuple[int, int, int]]


def key_of(*parts: int | str) -> int:
    """A 64-bit key of these parts."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "little")


def permutation(count: int, key: int) -> NDArray[np.int64]:
    """int64 [count]: 0 … count − 1 in an order that `key` decides."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(key & MASK)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.argsort(z)


class EpochOrder:
    """One pass over a source: every row exactly once.

    Groups are permuted and gathered into super-blocks of about `block_bytes`; rows are permuted
    inside a super-block. A small set is fully shuffled, a large one is read a few groups at a time.
    Memory: one number per group, and one per row of the super-block that is being read.
    """

    def __init__(self, groups: Groups, key: int, *, block_bytes: int = SUPER_BLOCK_BYTES) -> None:
        self._key = key
        self._blocks = _gathered(groups, permutation(len(groups), key), block_bytes)
        self._starts = [0]
        for block in self._blocks:
            self._starts.append(self._starts[-1] + sum(rows for _, rows in block))
        self._current: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def row(self, position: int) -> int:
        """The row at `position` (0 ≤ position < rows)."""
        block = bisect_right(self._starts, position) - 1
        if block != self._current[0]:
            self._current = (block, self._rows_of(block))
        return int(self._current[1][position - self._starts[block]])

    def _rows_of(self, block: int) -> NDArray[np.int64]:
        rows = np.concatenate(
            [np.arange(first, first + count) for first, count in self._blocks[block]]
        )
        return rows[permutation(len(rows), key_of(self._key, block))]


def _gathered(
    groups: Groups, order: NDArray[np.int64], block_bytes: int
) -> list[list[tuple[int, int]]]:
    blocks: list[list[tuple[int, int]]] = []
    size = block_bytes
    for number in order.tolist():
        first, rows, group_bytes = groups[number]
        if not rows:
            continue
        if not blocks or size + group_bytes > block_bytes:
            blocks.append([])
            size = 0
        blocks[-1].append((first, rows))
        size += group_bytes
    return blocks


class SourceOrder:
    """The endless order of one source: epoch after epoch, each a permutation of its own."""

    def __init__(
        self,
        name: str,
        groups: Groups,
        rows: int,
        *,
        seed: int,
        block_bytes: int = SUPER_BLOCK_BYTES,
    ) -> None:
        _check_groups(name, groups, rows)
        self.name = name
        self.rows = rows
        self._groups = groups
        self._seed = seed
        self._block_bytes = block_bytes
        self._epochs: dict[int, EpochOrder] = {}

    def row(self, epoch: int, position: int) -> int:
        """The row at `position` (0 ≤ position < rows) of pass `epoch` (0, 1, …)."""
        if epoch not in self._epochs:
            key = key_of(self._seed, self.name, epoch)
            kept = {e: order for e, order in self._epochs.items() if abs(e - epoch) == 1}
            new = EpochOrder(self._groups, key, block_bytes=self._block_bytes)
            self._epochs = {**kept, epoch: new}
        return self._epochs[epoch].row(position)

    def after(self, epoch: int, position: int) -> tuple[int, int]:
        """The place that follows (epoch, position)."""
        return (epoch, position + 1) if position + 1 < self.rows else (epoch + 1, 0)


def _check_groups(name: str, groups: Groups, rows: int) -> None:
    expected = 0
    for first, count, _ in groups:
        if first != expected or count < 0:
            raise InputError(
                f"source {name}: a row group starts at row {first} with {count} rows; "
                f"expected row {expected}",
                next_step="convert the data set again",
            )
        expected += count
    if expected != rows or not rows:
        raise InputError(
            f"source {name}: row groups hold {expected} rows, the data set says {rows}"
            if rows
            else f"source {name} has no rows",
            next_step="look at the data set with `manako data census`",
        )


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Integers in exactly the proportion of the decimal numbers given: 0.1, 0.25 → 2, 5."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(value.denominator for value in exact))
    return tuple(int(value * scale) for value in exact)


def largest_deficit(weights: Sequence[int], spent: Sequence[int]) -> int:
    """The source that lies furthest behind its share of what has been spent so far.

    `spent` counts rows or answer tokens. Exact integers; the first of equals wins; a source of
    weight 0 is never drawn.
    """
    total_weight = sum(weights)
    next_total = sum(spent) + 1
    best, best_deficit = -1, 0
    for source, (weight, cost) in enumerate(zip(weights, spent, strict=True)):
        deficit = weight * next_total - cost * total_weight
        if weight and (best < 0 or deficit > best_deficit):
            best, best_deficit = source, deficit
    return best
