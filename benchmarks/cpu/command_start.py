"""How long a command takes from the shell to its answer: python benchmarks/cpu/command_start.py

Whole processes, paired: the commands take turns, so that a busy moment strikes all of them. Beside
Manako's stand an empty interpreter and `hf`, the Hub's own command line, which is installed with it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from manako.core.record import make_header

ROUNDS = 15
BIN = Path(sys.executable).parent
RESULTS = Path(__file__).parent.parent / "results"
MANAKO = str(BIN / "manako")
RECOMMEND = "models recommend --task read --answers-in ja --gpu 24GB --method lora"
COMMANDS = {
    "an empty interpreter": [sys.executable, "-c", "pass"],
    "hf --help": [str(BIN / "hf"), "--help"],
    "manako --help": [MANAKO, "--help"],
    "manako models list": [MANAKO, "models", "list"],
    "manako models recommend": [MANAKO, *RECOMMEND.split()],
    "manako datasets list": [MANAKO, "datasets", "list"],
    "manako cautions": [MANAKO, "cautions"],
}


def seconds_of(command: list[str]) -> float:
    """Wall time of one run. Raises `CalledProcessError` where the command fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print a line per command, and write a dated file."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            taken[name].append(seconds_of(command))
    empty = taken["an empty interpreter"]
    rows = {
        name: {
            "median_seconds": round(statistics.median(found), 4),
            "min_seconds": round(min(found), 4),
            "max_seconds": round(max(found), 4),
            "ratio_to_empty": round(
                statistics.median(a / b for a, b in zip(found, empty, strict=True)), 2
            ),
        }
        for name, found in taken.items()
    }
    for name, row in rows.items():
        sys.stdout.write(f"{name:26} {row['median_seconds']:.3f} s  ×{row['ratio_to_empty']}\n")
    header = {**make_header("command_start"), "rounds": ROUNDS, "load": os.getloadavg()[0]}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{header['created'][:10]}-command-start.json"
    path.write_text(json.dumps({"header": header, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
