"""How full packs are: python -m benchmarks.cpu.pack_fill

Made-up mixes of conversation lengths, packed window by window as the loader does, beside what would
be reached if each window were closed for itself (what its emptiest pack lacks is then lost), beside
padding as TRL's collator pads (random batches, and batches of like length), and beside TRL's own
best-fit packing, which sees a thousand rows at a time. TRL refuses to pack rows with pictures: its
packing stands here on lengths alone.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from time import perf_counter

from benchmarks import measure, trl_peer
from manako.data.pack import Drawn, fill_of, fill_packs

PACKS = 400
COMPARED_PACK_TOKENS, COMPARED_WINDOW_ROWS = 8192, 256
PADDED_ROWS = (4, 8, 16)
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


def measure_ours(
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


def compare(length: Callable[[random.Random], float]) -> dict[str, float]:
    """Share of the room that tokens take, by each way of putting rows together."""
    pack_tokens = COMPARED_PACK_TOKENS
    carried, closed, micros = measure_ours(length, pack_tokens, COMPARED_WINDOW_ROWS)
    draw = random.Random(0)
    mean = sum(_tokens(length, draw) for _ in range(2000)) / 2000
    draw = random.Random(0)
    rows = [_tokens(length, draw) for _ in range(int(PACKS * pack_tokens / mean))]
    found = {
        "manako": carried,
        "manako_windows_closed": closed,
        "manako_us_per_row": micros,
        "trl_best_fit": _trl_fill(rows, pack_tokens),
    }
    for count in PADDED_ROWS:
        found[f"padded_{count}"] = _padded_fill(rows, count)
        found[f"padded_{count}_like_lengths"] = _padded_fill(sorted(rows), count)
    return {name: round(value, 4) for name, value in found.items()}


def _padded_fill(rows: list[int], count: int) -> float:
    batches = [rows[start : start + count] for start in range(0, len(rows), count)]
    return sum(rows) / sum(max(batch) * len(batch) for batch in batches)


def _trl_fill(rows: list[int], pack_tokens: int) -> float:
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    made = Dataset.from_dict({"input_ids": [[0] * count for count in rows]})
    packed = pack_dataset(made, pack_tokens, strategy="bfd")
    return sum(rows) / (len(packed) * pack_tokens)


def _tokens(length: Callable[[random.Random], float], draw: random.Random) -> int:
    return min(COMPARED_PACK_TOKENS, max(8, int(length(draw))))


def main() -> None:
    """Print one line per mix, pack size and window; write the comparison."""
    trl_peer.quiet()
    out = sys.stdout.write
    out(f"{'lengths':32} {'pack':>6} {'window':>6} {'fill':>7} {'closed':>7} {'us/row':>7}\n")
    for name, length in MIXES.items():
        for pack_tokens in (4096, 8192, 32768):
            for window_rows in (64, 256, 1024):
                fill, closed, micros = measure_ours(length, pack_tokens, window_rows)
                out(
                    f"{name:32} {pack_tokens:6} {window_rows:6} {fill:7.2%} {closed:7.2%}"
                    f" {micros:7.1f}\n"
                )
    fills = {name: compare(length) for name, length in MIXES.items()}
    for name, found in fills.items():
        parts = " ".join(f"{way} {fill:.3g}" for way, fill in found.items())
        out(f"{name}: {parts}\n")
    head = measure.header(
        "pack_fill", pack_tokens=COMPARED_PACK_TOKENS, window_rows=COMPARED_WINDOW_ROWS
    )
    measure.write_result("pack-fill", head, {"fill": fills}, measure.RESULTS)


if __name__ == "__main__":
    main()
