"""What a run says of its operations: per device, of a known peak or of none, and never invented."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from manako.core.example import Pack
from manako.core.family import families, family_of
from manako.core.recipe import Recipe, Source
from manako.core.record import read_record
from manako.data.step import Step
from manako.nn.checkpoint import load_model
from manako.train.loop import run_training
from manako.train.meter import Measured, Meter
from manako.train.operations import Operations, device_peak, open_operations
from manako.train.parts import prepare_parts
from manako.train.ranks import Ranks

MakeRecipe = Callable[..., Recipe]
SXM = "NVIDIA H100 80GB HBM3"


def test_a_run_on_a_cpu_says_tflops_and_no_mfu(recipe: MakeRecipe, tmp_path: Path) -> None:
    run_training(recipe(max_steps=4, logging_steps=2))
    record = read_record(tmp_path / "run" / "record.jsonl")
    (setup,), steps = record.of_kind("setup"), record.of_kind("step")
    assert setup["operations"] == {"peak_tflops": None}
    assert [step["step"] for step in steps] == [1, 2, 4]
    for step in steps:
        assert "mfu" not in step
        # A tiny model has about 100,000 parameters: 6 operations each per token, pictures beside.
        per_token = step["tflops"] * 1e12 / step["tokens_per_second"]
        assert 1e5 < per_token < 1e8


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
@pytest.mark.parametrize("train", ["1e-4", "lora 1e-4"])
def test_the_matrices_of_a_model_are_those_that_are_counted(
    tmp_path: Path, name: str, train: str
) -> None:
    model, recipe = opened(tmp_path / "model", name, train)
    found = open_operations(model, families().items[name], recipe, "cpu")
    assert found.why_not == ""
    assert found.dims is not None


def test_a_model_with_something_more_is_not_counted_and_says_why(tmp_path: Path) -> None:
    model, recipe = opened(tmp_path / "model", "qwen2_vl", "1e-4")
    model.model.visual.merger.more = torch.nn.Linear(3, 5)
    found = open_operations(model, families().items["qwen2_vl"], recipe, "cpu")
    assert "the projector part has matrices of" in found.described()["not_counted"]
    assert found.rates(1e12, 1.0) == {}
    assert found.of(Step(number=1, packs=())) == 0


def test_a_run_that_cannot_be_counted_records_the_reason_once(
    recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manako.train.operations.describe", lambda config, family: None)
    run_training(recipe(max_steps=2))
    record = read_record(tmp_path / "run" / "record.jsonl")
    assert "names no sizes" in record.of_kind("setup")[0]["operations"]["not_counted"]
    assert all("tflops" not in step for step in record.of_kind("step"))


@pytest.mark.parametrize(
    ("device", "bf16", "peak"),
    [
        (SXM, True, 989.0),
        (SXM, False, 67.0),
        ("NVIDIA A100 80GB PCIe", True, 312.0),
        (f"{SXM} MIG 1g.10gb", True, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", True, None),
        ("", True, None),
    ],
)
def test_peaks_go_by_the_whole_name_of_a_cuda_device(
    monkeypatch: pytest.MonkeyPatch, device: str, bf16: bool, peak: float | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: device)
    found = device_peak("cuda:0", bf16=bf16)
    assert (found.value if found else None) == peak
    assert device_peak("cpu", bf16=bf16) is None
    assert device_peak("mps", bf16=bf16) is None


def test_products_in_tf32_have_no_peak_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: SXM)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert device_peak("cuda", bf16=False) is None
    assert device_peak("cuda", bf16=True) is not None


class TwoRanks(Ranks):
    """The other rank has three times as much."""

    def __init__(self) -> None:
        super().__init__(0, 2)

    def sum(self, values: Sequence[float], what: str) -> list[float]:
        return [4.0 * value for value in values]


def test_the_rate_is_that_of_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Operations, "of", lambda self, step: 10**12)
    monkeypatch.setattr(Operations, "rates", lambda self, flops, seconds: {"tflops": flops / 1e12})
    assert read(Meter(Operations(settings={}), Ranks()))["tflops"] == 2
    assert read(Meter(Operations(settings={}), TwoRanks()))["tflops"] == 4


def test_waiting_for_the_device_is_time_of_the_steps() -> None:
    """On CUDA a step returns before it is computed; reading its loss is what waits."""

    class Slow:
        def __float__(self) -> float:
            time.sleep(0.05)
            return 1.0

    meter = Meter(Operations(settings={}), Ranks())
    assert read(meter, loss=Slow())["seconds"] >= 0.5 + 0.05 / 2
    assert read(meter)["seconds"] < 0.5 + 0.05 / 2


def read(meter: Meter, loss: Any = 0.0) -> dict[str, Any]:
    for number in (1, 2):
        step = Step(number=number, packs=(Pack(examples=(), pack_tokens=8),))
        meter.add(Measured(step=step, loss=loss, grad_norms={}, data_wait_seconds=0.0, seconds=0.5))
    return meter.read()


def opened(folder: Path, name: str, train: str) -> tuple[Any, Recipe]:
    """A tiny model, all parts trained as `train` says."""
    families().items[name].make_tiny(folder)
    family = family_of(folder)
    parts = dict.fromkeys(family.parts, train)
    recipe = Recipe(
        model=str(folder), data=(Source(path="x"),), output_dir="x", train=parts, lora_r=4
    )
    model = load_model(folder, family)
    prepare_parts(model, family, recipe)
    return model, recipe
