"""A global step: what all ranks together train on before the weights move once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from manako.core.example import Example, Pack


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which packs of a step one of several processes trains: every `ranks`-th, from `rank` on."""

    rank: int = 0
    ranks: int = 1

    def has(self, place: int) -> bool:
        """Whether the pack at `place` in its step (from 0) is among them."""
        return place % self.ranks == self.rank


ALL_OF_IT = Share()


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What the packs hold that other processes train."""

    tokens: int = 0
    trained_tokens: int = 0
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """`number` counts from 1; `packs` is the full list, whoever trains which: those of other
    processes are empty here, and what they hold stands in `elsewhere` once it has been told."""

    number: int
    packs: tuple[Pack, ...]
    elsewhere: Elsewhere = field(default=Elsewhere())

    @property
    def tokens(self) -> int:
        return sum(pack.tokens for pack in self.packs) + self.elsewhere.tokens

    @property
    def trained_tokens(self) -> int:
        return sum(pack.trained_tokens for pack in self.packs) + self.elsewhere.trained_tokens

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """(row id, reason) of the rows whose place stays empty."""
        here = tuple(failed for pack in self.packs for failed in pack.failed)
        return here + self.elsewhere.failed

    @property
    def fill(self) -> float:
        """Share of the packs' room that real tokens take."""
        return self.tokens / sum(pack.pack_tokens for pack in self.packs)


def batch_hash(step: Step) -> str:
    """SHA-256 over what a model reads of a step: row ids, tokens, mask, grids, pixels."""
    digest = hashlib.sha256(f"step {step.number} {len(step.packs)}".encode())
    for pack in step.packs:
        digest.update(f"pack {pack.number} {len(pack.examples)}".encode())
        for example in pack.examples:
            _add_example(digest, example)
    return digest.hexdigest()


def _add_example(digest: hashlib._Hash, example: Example) -> None:
    digest.update(f"row {example.id!r} {example.tokens} {len(example.images)}".encode())
    digest.update(example.input_ids.tobytes())
    digest.update(example.trained.tobytes())
    for image in example.images:
        pixels = image.pixels
        digest.update(f"image {image.grid} {image.start} {image.tokens}".encode())
        digest.update(f"{pixels.dtype} {pixels.shape}".encode())
        digest.update(pixels.tobytes())
