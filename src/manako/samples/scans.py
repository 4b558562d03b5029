"""Real handwritten digits, split by scan, and the glyphs that forms are composed of.

The scans are the 1,797 images of 8x8 pixels that scikit-learn carries (`load_digits`): the test part
of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998 (CC BY 4.0). Nothing is downloaded.

Dimension letters: S scans, V variants per scan, G glyphs (= S * V), H and W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import MissingDependencyError

SCAN_PIXELS = 8
GLYPH_PIXELS = 20
HELD_OUT_PER_DIGIT = 30
SPLIT_SEED = 20_240_229
"""Fixes which scans are held out. It is no parameter: whatever seed a set is made with, a scan that
one set tests is in no other set's training part, so models trained on any of them can be compared."""

_ROTATION_DEGREES = 12.0
_SCALE = (0.85, 1.12)
_SHEAR = 0.18
_SHIFT_PIXELS = 1.5
_CONTRAST = (0.75, 1.1)
_GLYPHS_AT_ONCE = 512  # Keeps the temporary arrays in the processor's cache.


@dataclass(frozen=True, kw_only=True)
class Scans:
    """Scans and the digit each of them shows.

    `ink_SHW` float32 [S, 8, 8] in 0..1 (1 is ink), `digits_S` int64 [S], and `rows_S` int64 [S]:
    the rows of `load_digits` they came from.
    """

    ink_SHW: NDArray[np.float32]
    digits_S: NDArray[np.int64]
    rows_S: NDArray[np.int64]

    def pick(self, rows: NDArray[np.int64]) -> Scans:
        """The scans at `rows`, in that order."""
        return Scans(
            ink_SHW=self.ink_SHW[rows], digits_S=self.digits_S[rows], rows_S=self.rows_S[rows]
        )


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """Scans brought to the size of a form's cell.

    `ink_GHW` uint8 [G, 20, 20] (255 is full ink), `digits_G` int64 [G]; the variants of scan s are
    the rows s * V to s * V + V - 1, with V = `variants`.
    """

    ink_GHW: NDArray[np.uint8]
    digits_G: NDArray[np.int64]
    variants: int

    @property
    def scans(self) -> int:
        """How many different scans the glyphs were made of."""
        return len(self.digits_G) // self.variants


def load_scans() -> Scans:
    """All 1,797 scans. Raises `MissingDependencyError` where scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            "the scans of the quickstart come with scikit-learn, which is not installed",
            next_step="pip install 'manako[quickstart]'",
        ) from error
    bunch = load_digits()
    digits = np.asarray(bunch.target, dtype=np.int64)
    return Scans(
        ink_SHW=(np.asarray(bunch.images) / 16.0).astype(np.float32),
        digits_S=digits,
        rows_S=np.arange(len(digits), dtype=np.int64),
    )


def split_scans(scans: Scans) -> tuple[Scans, Scans]:
    """Part the scans in (training, held out): 30 of each digit are held out, always the same."""
    rng = np.random.default_rng(SPLIT_SEED)
    held_out = np.zeros(len(scans.digits_S), dtype=bool)
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(scans.digits_S == digit))
        held_out[rows[:HELD_OUT_PER_DIGIT]] = True
    return scans.pick(np.flatnonzero(~held_out)), scans.pick(np.flatnonzero(held_out))


def plain_glyphs(scans: Scans) -> Glyphs:
    """The scans enlarged to 20 pixels and changed in no other way: what tests are made of."""
    zeros = np.zeros(len(scans.digits_S), np.float32)
    ones = np.ones(len(scans.digits_S), np.float32)
    still = Motion(turn=zeros, scale=ones, shear=zeros, right=zeros, down=zeros)
    ink_GHW = _to_bytes(_resample(scans.ink_SHW, still), ones)
    return Glyphs(ink_GHW=ink_GHW, digits_G=scans.digits_S, variants=1)


def varied_glyphs(scans: Scans, *, variants: int, rng: np.random.Generator) -> Glyphs:
    """Each scan `variants` times, turned, scaled, sheared, shifted and paled at random."""
    sources = np.repeat(np.arange(len(scans.digits_S)), variants)
    ink_GHW = np.empty((len(sources), GLYPH_PIXELS, GLYPH_PIXELS), np.uint8)
    for start in range(0, len(sources), _GLYPHS_AT_ONCE):
        some = sources[start : start + _GLYPHS_AT_ONCE]
        moved = _resample(scans.ink_SHW[some], Motion.draw(len(some), rng))
        ink_GHW[start : start + len(some)] = _to_bytes(moved, _uniform(_CONTRAST, len(some), rng))
    return Glyphs(ink_GHW=ink_GHW, digits_G=scans.digits_S[sources], variants=variants)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What is done to each of G scans: float32 [G] each; `turn` in radians, shifts in pixels."""

    turn: NDArray[np.float32]
    scale: NDArray[np.float32]
    shear: NDArray[np.float32]
    right: NDArray[np.float32]
    down: NDArray[np.float32]

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> Motion:
        """One random motion per glyph, within the limits at the top of this file."""
        turn = math.radians(_ROTATION_DEGREES)
        return cls(
            turn=_uniform((-turn, turn), count, rng),
            scale=_uniform(_SCALE, count, rng),
            shear=_uniform((-_SHEAR, _SHEAR), count, rng),
            right=_uniform((-_SHIFT_PIXELS, _SHIFT_PIXELS), count, rng),
            down=_uniform((-_SHIFT_PIXELS, _SHIFT_PIXELS), count, rng),
        )


def _uniform(
    limits: tuple[float, float], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    return rng.uniform(*limits, count).astype(np.float32)


def _to_bytes(ink_GHW: NDArray[np.float32], contrast_G: NDArray[np.float32]) -> NDArray[np.uint8]:
    scaled = ink_GHW * (contrast_G * 255)[:, None, None]
    ink: NDArray[np.uint8] = np.minimum(scaled + 0.5, 255).astype(np.uint8)
    return ink


def _resample(ink_GHW: NDArray[np.float32], motion: Motion) -> NDArray[np.float32]:
    """Bilinear samples of each scan [8, 8] on its own affine grid of [20, 20] points.

    Elementwise arithmetic only: no BLAS, so the number of threads cannot change a byte.
    """
    # A border of one empty pixel around the scan lets clipped coordinates read paper.
    side = SCAN_PIXELS + 2
    padded = np.pad(ink_GHW, ((0, 0), (1, 1), (1, 1))).ravel()
    x, y = _source_points(motion)
    x = np.clip(x + (side - 1) / 2, 0, side - 1.001)
    y = np.clip(y + (side - 1) / 2, 0, side - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    part_x, part_y = x - left, y - top
    first = (np.arange(len(ink_GHW), dtype=np.int32) * side * side)[:, None, None]
    corner = first + top * side + left
    upper = padded[corner] * (1 - part_x) + padded[corner + 1] * part_x
    lower = padded[corner + side] * (1 - part_x) + padded[corner + side + 1] * part_x
    ink: NDArray[np.float32] = upper + (lower - upper) * part_y
    return ink


def _source_points(motion: Motion) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where in its scan each glyph pixel looks, from the scan's centre: x and y, [G, 20, 20]."""
    to_scan = np.float32(SCAN_PIXELS / GLYPH_PIXELS)
    steps = np.arange(GLYPH_PIXELS, dtype=np.float32) - np.float32((GLYPH_PIXELS - 1) / 2)
    x = (steps[None, None, :] - motion.right[:, None, None]) * to_scan
    y = (steps[None, :, None] - motion.down[:, None, None]) * to_scan
    x = x + motion.shear[:, None, None] * y
    cos = (np.cos(motion.turn) / motion.scale)[:, None, None]
    sin = (np.sin(motion.turn) / motion.scale)[:, None, None]
    return cos * x + sin * y, cos * y - sin * x
