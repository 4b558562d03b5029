"""How full packs are: python benchmarks/cpu/pack_fill.py

Made-up mixes of conversation lengths, packed window by window as the loader does, beside what would
be reached if each window were closed for itself (what its emptiest pack lacks is then lost).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from time import perf_counter

from manako.data.pack import Drawn, fill_of, fill_packs

PACKS = 400
MIXES: dict[str, Callable[[random.Random], float]] = {
    "short chats, tiny pictures": lambda draw: draw.gauss(60, 15),
    "one picture, 200-1,200 tokens": lambda draw: (
        draw.uniform(200, 1200) + draw.expovariate(1 / 80)
    ),
    "long tail (log-normal)": lambda draw: draw.lognormvariate(6.5, 0.8),
    "half text, half large pictures": lambda draw: (
        draw.lognormvariate(5, 1) if draw.random() < 0.5 else draw.gauss(1300, 300)
    ),
    "pages of 1,500-4,000 tokens": lambda draw: draw.uniform(1500, 4000),
}


def measure(
    length: Callable[[random.Random], float], pack_tokens: int, window_rows: int
) -> tuple[float, float, float]:
    """Fill carried over, fill window by window, microseconds per row."""
    draw, held, seconds, rows = random.Random(0), (), 0.0, 0
    carried: list[tuple[Drawn, ...]] = []
    closed: list[tuple[Drawn, ...]] = []
    while len(carried) < PACKS:
        tokens = [min(pack_tokens, max(8, int(length(draw)))) for _ in range(window_rows)]
        drawn = [Drawn(0, row, count) for row, count in enumerate(tokens)]
        start = perf_counter()
        filled = fill_packs(held, drawn, pack_tokens)
        seconds += perf_counter() - start
        rows += window_rows
        carried += filled.packs
        held = filled.open
        closed += fill_packs((), drawn, pack_tokens, flush=True).packs
    return fill_of(carried, pack_tokens), fill_of(closed, pack_tokens), seconds / rows * 1e6


def main() -> None:
    """Print one line per mix, pack size and window."""
    out = sys.stdout.write
    out(f"{'lengths':32} {'pack':>6} {'window':>6} {'fill':>7} {'closed':>7} {'us/row':>7}\n")
    for name, length in MIXES.items():
        for pack_tokens in (4096, 8192, 32768):
            for window_rows in (64, 256, 1024):
                fill, closed, micros = measure(length, pack_tokens, window_rows)
                out(
                    f"{name:32} {pack_tokens:6} {window_rows:6} {fill:7.2%} {closed:7.2%}"
                    f" {micros:7.1f}\n"
                )


if __name__ == "__main__":
    main()
