"""A global step: what all ranks together train on before the weights move once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from manako.core.example import Example, Pack


@dataclass(frozen=True, kw_only=True)
class Step:
    """`number` counts from 1; `packs` is the full list, whoever trains which."""

    number: int
    packs: tuple[Pack, ...]

    @property
    def tokens(self) -> int:
        return sum(pack.tokens for pack in self.packs)

    @property
    def trained_tokens(self) -> int:
        return sum(pack.trained_tokens for pack in self.packs)

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """(row id, reason) of the rows whose place stays empty."""
        return tuple(failed for pack in self.packs for failed in pack.failed)

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
