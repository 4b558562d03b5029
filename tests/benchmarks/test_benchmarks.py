"""The benchmarks run, at a tiny size, and their files hold what docs/benchmarks.md takes from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OURS, PADDED, PEER = "Manako, run", "padded loop, batches ready", "TRL SFTTrainer"
AGAIN = "Manako, layers computed again"
MODELS = ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct")


def result_of(out: Path, module: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark in a process of its own, and read the one file that it writes."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--out", str(out)]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = out.glob("*.json")
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    found: dict[str, Any] = json.loads(text)
    assert {"created", "machine", "versions", "load_1_min", "threads"} <= found["header"].keys()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_gpu_benchmark_runs_at_a_tiny_size_without_a_gpu(tmp_path: Path, model: str) -> None:
    small = ("--rows", "10", "--steps", "1", "--warmup-steps", "1", "--tiny", "--model", model)
    found = result_of(tmp_path, "gpu.train", *small)
    assert found["header"]["is_tiny"]
    assert found["header"]["model"] == model
    assert found["is_complete"]
    assert found["notes"] == []
    assert found["tokens_per_second"].keys() == {OURS, AGAIN, PADDED, PEER}
    assert {ratio["over"] for ratio in found["ratios"]} == {AGAIN, PADDED, PEER}
    assert found["data"]["image_token_share"] > 0.1  # never batches without pictures
    assert found["flops"]["vision_share"] > 0.1
    assert found["flops"]["peak_flops"] is None  # nobody knows a CPU's
    assert found["attention"]["vision"]["per_segment_ms"] > 0
    assert found["details"][OURS]["data_wait_seconds"] >= 0
    assert all(row["mfu"] is None for row in found["details"].values())


@pytest.mark.slow
def test_the_gpu_benchmark_writes_what_it_has_when_its_time_is_over(tmp_path: Path) -> None:
    small = ("--rows", "10", "--steps", "1", "--warmup-steps", "1", "--tiny", "--rounds", "1000")
    found = result_of(tmp_path, "gpu.train", *small, "--minutes", "0.4", "--without", PEER)
    assert found["tokens_per_second"][OURS]["median"] > 0
    assert any("left out" in note for note in found["notes"])


@pytest.mark.slow
def test_the_input_path_gives_the_same_tokens_and_pictures_as_trl(tmp_path: Path) -> None:
    found = result_of(tmp_path, "cpu.input_path", "--rows", "6", "--rounds", "1")
    assert found["pixels"]["share_unequal"] < 0.05  # Pillow's filter rounds some levels otherwise
    assert len(found["ratios"]) == 2
    assert all(len(lines) == 10 for lines in found["profile"].values())


@pytest.mark.slow
def test_the_experts_benchmark_compares_results_before_it_times_them(tmp_path: Path) -> None:
    small = ("--tokens", "16", "--width", "32", "--inner", "16", "--experts", "4", "--chosen", "2")
    found = result_of(tmp_path, "cpu.moe_experts", *small, "--rounds", "1")
    assert len(found["tokens_per_second"]) == 12
    assert len(found["ratios"]) == 8
    assert all(worst < 0.03 for worst in found["apart"].values())
