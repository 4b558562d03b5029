"""Composes forms: a row of framed cells on paper, digits in the first of them, coloured underlines.

Many forms are composed at once. The PNG files are written here because they are many, tiny, and must
be the same bytes on every run: one header, one compressed block, no filter.

Dimension letters: B forms, H and W pixels, C channels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manako.samples.scans import GLYPH_PIXELS, Glyphs

CELL_PIXELS = 28
MARK_RGB: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "blue": (32, 78, 216),
    "green": (24, 150, 60),
    "orange": (244, 140, 0),
    "purple": (140, 40, 170),
}
"""The five colours of an underline."""

_GLYPH_LEFT, _GLYPH_TOP = 4, 3
_MARK_LEFT, _MARK_RIGHT, _MARK_TOP, _MARK_BOTTOM = 4, 24, 23, 26
_PAPER = (222, 250)
_TINT = 6
_GRAIN = np.int16(4)
_INK = (10, 80)
_FRAME_SHADE = 45
_MARK_SHADE = 12


@dataclass(frozen=True, slots=True)
class Mark:
    """A coloured underline below the digit at `place` (0 is the leftmost cell)."""

    place: int
    colour: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands on one form: its cells, the glyphs from the left and the digits they show."""

    cells: int
    glyphs: tuple[int, ...]
    digits: tuple[int, ...]
    marks: tuple[Mark, ...] = ()


def compose(sheets: Sequence[Sheet], glyphs: Glyphs, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Forms with equal numbers of cells as pixels: uint8 [B, 28, 28 * cells, 3]."""
    canvas_BHWC = _paper(len(sheets), sheets[0].cells, rng)
    _draw_frames(canvas_BHWC)
    _draw_digits(canvas_BHWC, sheets, glyphs, rng)
    _draw_marks(canvas_BHWC, sheets, rng)
    return np.clip(canvas_BHWC, 0, 255).astype(np.uint8)


def _paper(count: int, cells: int, rng: np.random.Generator) -> NDArray[np.int16]:
    height, width = CELL_PIXELS, CELL_PIXELS * cells
    tone = rng.integers(*_PAPER, (count, 1, 1, 1), dtype=np.int16)
    tint = rng.integers(-_TINT, _TINT + 1, (count, 1, 1, 3), dtype=np.int16)
    # Grains of 2 x 2 pixels: half the bytes and the time of single ones in the PNG file.
    grains = rng.integers(-1, 2, (count, height // 2, 1, width // 2, 1), dtype=np.int8)
    spread = np.broadcast_to(grains * _GRAIN, (count, height // 2, 2, width // 2, 2))
    return (tone + tint) + spread.reshape(count, height, width, 1)


def _draw_frames(canvas_BHWC: NDArray[np.int16]) -> None:
    canvas_BHWC[:, 0] -= _FRAME_SHADE
    canvas_BHWC[:, -1] -= _FRAME_SHADE
    for left in range(0, canvas_BHWC.shape[2], CELL_PIXELS):
        canvas_BHWC[:, 1:-1, left] -= _FRAME_SHADE
        canvas_BHWC[:, 1:-1, left + CELL_PIXELS - 1] -= _FRAME_SHADE


def _draw_digits(
    canvas_BHWC: NDArray[np.int16],
    sheets: Sequence[Sheet],
    glyphs: Glyphs,
    rng: np.random.Generator,
) -> None:
    ink = rng.integers(*_INK, (len(sheets), 1, 1, 1), dtype=np.int16)
    ink = ink + rng.integers(-10, 11, (len(sheets), 1, 1, 3), dtype=np.int16)
    rows = slice(_GLYPH_TOP, _GLYPH_TOP + GLYPH_PIXELS)
    for place in range(sheets[0].cells):
        filled = np.array([i for i, s in enumerate(sheets) if len(s.glyphs) > place], np.intp)
        if not len(filled):
            return
        chosen = np.array([sheets[i].glyphs[place] for i in filled], np.intp)
        left = place * CELL_PIXELS + _GLYPH_LEFT
        columns = slice(left, left + GLYPH_PIXELS)
        paper = canvas_BHWC[filled, rows, columns]
        # Paper is lighter than ink, and 255 * 255 fits in 16 bits without a sign.
        depth = (paper - ink[filled]).astype(np.uint16)
        cover = glyphs.ink_GHW[chosen].astype(np.uint16)[..., None]
        canvas_BHWC[filled, rows, columns] = paper - (depth * cover >> 8).astype(np.int16)


def _draw_marks(
    canvas_BHWC: NDArray[np.int16], sheets: Sequence[Sheet], rng: np.random.Generator
) -> None:
    marks = [(i, mark) for i, sheet in enumerate(sheets) for mark in sheet.marks]
    if not marks:
        return
    forms = np.array([i for i, _ in marks], np.intp)
    lefts = np.array([m.place * CELL_PIXELS + _MARK_LEFT for _, m in marks], np.intp)
    colours = np.array([MARK_RGB[m.colour] for _, m in marks], np.int16)
    colours += rng.integers(-_MARK_SHADE, _MARK_SHADE + 1, colours.shape, dtype=np.int16)
    y = np.arange(_MARK_TOP, _MARK_BOTTOM)[None, :, None]
    x = (lefts[:, None] + np.arange(_MARK_RIGHT - _MARK_LEFT))[:, None, :]
    canvas_BHWC[forms[:, None, None], y, x] = colours[:, None, None, :]


def encode_pngs(pixels_BHWC: NDArray[np.uint8]) -> list[bytes]:
    """Each picture of uint8 [B, H, W, 3] as a PNG file, lightly compressed."""
    count, height, width, _ = pixels_BHWC.shape
    lines = np.zeros((count, height, 1 + width * 3), np.uint8)
    lines[:, :, 1:] = pixels_BHWC.reshape(count, height, width * 3)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    head, tail = b"\x89PNG\r\n\x1a\n" + header, _chunk(b"IEND", b"")
    return [head + _chunk(b"IDAT", zlib.compress(line, 1)) + tail for line in lines]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
