"""Write the tables of docs/benchmarks.md from the newest files of benchmarks/results/.

python scripts/benchmark_tables.py
"""

import json
from collections.abc import Mapping
from typing import Any

from blocks import ROOT, table, write_block

PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
NOTHING = "No result yet."
WAYS = {
    "manako": "Manako",
    "manako_windows_closed": "each window for itself",
    "trl_best_fit": "TRL's best fit",
    "padded_4": "padded, 4 rows",
    "padded_8": "8 rows",
    "padded_16": "16 rows",
    "padded_8_like_lengths": "8 of like length",
}
SHOWN_VERSIONS = ("torch", "transformers", "trl", "datasets", "torchvision")


def main() -> None:
    """Rewrite every generated block."""
    for name, text in blocks().items():
        write_block(PAGE, f"generated:{name}", text)


def blocks() -> dict[str, str]:
    """The generated blocks of the page, by name."""
    return {
        "input_path": _of("input-path-*.json", _rates("samples_per_second", "samples/s")),
        "input_profile": _of("input-path-torchvision.json", _profiles),
        "train_loop": _of("train-loop-*.json", _rates("tokens_per_second", "tokens/s")),
        "train_profile": _of("train-loop-forms.json", _profiles),
        "pack_fill": _of("pack-fill.json", _fills),
        "moe_experts": _of("moe-experts.json", _rates("tokens_per_second", "tokens/s")),
        "gpu": _of("gpu-train-*.json", _gpu),
    }


def _of(pattern: str, show: Any) -> str:
    """What the newest file of each kind shows."""
    newest = {
        path.name[len("2026-01-01-") :]: path for path in sorted(RESULTS.glob(f"*-{pattern}"))
    }
    found = [
        f"{_made(result)}\n\n{show(result)}"
        for result in (json.loads(path.read_text(encoding="utf-8")) for path in newest.values())
    ]
    return "\n\n".join(found) or NOTHING


def _made(result: Mapping[str, Any]) -> str:
    """When, where and on what a file was made."""
    head = result["header"]
    versions = head["versions"]
    shown = ", ".join(f"{name} {versions[name]}" for name in SHOWN_VERSIONS if name in versions)
    words = [
        f"{head['created'][:10]}: {head['machine']} ({head.get('device') or head['processor']})",
        f"{head['threads']} thread{'s' if head['threads'] > 1 else ''}",
        f"load {head['load_1_min']} at the end",
        f"Python {head['python']}, {shown}",
    ]
    if "rounds" in head:
        words.append(f"{head['rounds']} rounds")
    data = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _data(result).items())
    return "; ".join(words) + (f".\nRows: {data}." if data else ".")


def _data(result: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result.get("data", {})
    return found


def _rates(field: str, unit: str) -> Any:
    def show(result: Mapping[str, Any]) -> str:
        rows = [[name, _spread(found, ",.4g")] for name, found in result[field].items()]
        ratios = [[f"{row['of']} ÷ {row['over']}", _spread(row, ".2f")] for row in result["ratios"]]
        rates = table(["", f"{unit}: median (least to most)"], rows)
        return rates + "\n\n" + table(["paired", "times: median (least to most)"], ratios)

    return show


def _spread(found: Mapping[str, float], form: str) -> str:
    """Median (least to most); rates without an exponent."""
    middle, least, most = (_number(found[key], form) for key in ("median", "min", "max"))
    return f"{middle} ({least} to {most})"


def _number(value: float, form: str) -> str:
    return f"{value:,.0f}" if form == ",.4g" and value >= 1000 else format(value, form)


def _profiles(result: Mapping[str, Any]) -> str:
    found = result["profile"]
    shown = [name for name in found if "tensors on the CPU" not in name]
    columns = [[f"{line['share']:.1%} `{line['function']}`" for line in found[n]] for n in shown]
    return table(shown, [list(row) for row in zip(*columns, strict=True)])


def _fills(result: Mapping[str, Any]) -> str:
    rows = [[name, *(f"{fill[way]:.1%}" for way in WAYS)] for name, fill in result["fill"].items()]
    return table(["lengths", *WAYS.values()], rows)


def _gpu(result: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            _spread(found, ",.4g"),
            _share(result["details"][name]["mfu"]),
            _gigabytes(result["details"][name]["peak_bytes"]),
            _milliseconds(result["details"][name]["data_wait_seconds"]),
        ]
        for name, found in result["tokens_per_second"].items()
    ]
    head = ["", "tokens/s: median (least to most)", "MFU", "peak memory", "data wait a step"]
    attention = [
        [
            part,
            f"{found['per_segment_ms']:.3g} ms",
            f"{found['varlen_ms']:.3g} ms" if found["varlen_ms"] else found["why"],
        ]
        for part, found in result["attention"].items()
    ]
    made = result["header"]
    what = f"{made['model']}, method {made['method']}, packs of {made['pack_tokens']:,} tokens."
    layers = table(["one layer", "per segment", "varlen"], attention)
    notes = "\n".join(f"- {note}" for note in result["notes"])
    return "\n\n".join(part for part in (what, table(head, rows), layers, notes) if part)


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1%}"


def _gigabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e9:.1f} GB"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value * 1e3:.3g} ms"


if __name__ == "__main__":
    main()
