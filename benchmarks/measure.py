"""Paired rounds and dated result files.

The contestants take turns, the order turned round every time, so that a busy moment strikes all of
them; what counts is the ratio inside a round, and of those the median, with the least and the most.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from manako.core.record import make_header

RESULTS = Path(__file__).parent / "results"
PEERS = ("trl", "datasets", "torchvision")
TOP = 10
Contestant = Callable[[], float]


def paired(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Rates (more is better) of `rounds` rounds after one that does not count."""
    for run in contestants.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else names[::-1]:
            rates[name].append(contestants[name]())
        shown = ", ".join(f"{name} {rates[name][-1]:,.0f}" for name in names)
        sys.stderr.write(f"round {number + 1} of {rounds}: {shown}\n")
    return rates


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": significant(statistics.median(values)),
        "min": significant(min(values)),
        "max": significant(max(values)),
    }


def tabled(rates: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """The rates of every contestant."""
    return {name: spread(found) for name, found in rates.items()}


def ratios(
    rates: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """How often the first of each pair is the second, round by round."""
    rows = []
    for name, peer in pairs:
        found = [one / other for one, other in zip(rates[name], rates[peer], strict=True)]
        rows.append({"of": name, "over": peer, **spread(found)})
    return rows


def significant(value: float, digits: int = 4) -> float:
    """The value with so many digits: a rate is not known better than that."""
    return float(f"{value:.{digits}g}")


def show(
    unit: str, rates: Mapping[str, Mapping[str, float]], found: Sequence[Mapping[str, Any]]
) -> None:
    """One line per contestant and one per ratio on standard output."""
    out = sys.stdout.write
    for name, row in rates.items():
        out(f"{name:52} {row['median']:10,.1f} {unit} ({row['min']:,.1f} to {row['max']:,.1f})\n")
    for row in found:
        out(f"{row['of']} / {row['over']}: ")
        out(f"{row['median']:.2f} ({row['min']:.2f} to {row['max']:.2f})\n")


def profile(work: Callable[[], object]) -> list[dict[str, Any]]:
    """Where the time of `work` goes: the functions with the most time of their own."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    found = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in found.values())
    slowest = sorted(found.items(), key=lambda item: -item[1][2])[:TOP]
    return [
        {"function": _named(*where), "calls": calls, "share": round(own / total, 4)}
        for where, (_, calls, own, _, _) in slowest
    ]


def _named(file: str, _: int, function: str) -> str:
    """Without folders, which would name a machine's paths."""
    plain = function.strip("<>").removeprefix("built-in method ")
    return plain if file == "~" else f"{'/'.join(Path(file).parts[-2:])}: {plain}"


def header(name: str, **fields: Any) -> dict[str, Any]:
    """What a result file says of its making; the load is the machine's when it was written."""
    import torch

    made = make_header(name)
    made["versions"] = {**made["versions"], **peer_versions()}
    return {
        **made,
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "load_15_min": round(os.getloadavg()[2], 2),
        **fields,
    }


def peer_versions() -> dict[str, str]:
    """Versions of the peers that can be imported here."""
    found = {}
    for name in PEERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor_name() -> str:
    """The kind of CPU, as Linux tells it; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")


def write_result(
    name: str,
    head: Mapping[str, Any],
    fields: Mapping[str, Any],
    out: Path,
    *,
    is_told: bool = True,
) -> Path:
    """`out/DATE-name.json`; a later run of the same day takes its place."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{head['created'][:10]}-{name}.json"
    text = json.dumps({"header": head, **fields}, indent=2, ensure_ascii=False)
    half = path.with_suffix(".half")
    half.write_text(text + "\n", encoding="utf-8")
    half.replace(path)  # whole or not there, whenever the process is killed
    if is_told:
        sys.stdout.write(f"written: benchmarks/results/{path.name}\n")
    return path
