"""Ranks that share weights, gradients and optimizer state out train as one process would."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rank_runs import (
    STEPS,
    TOLERANCE,
    Ended,
    MakeRun,
    Zygote,
    check_alike,
    differences,
    pictures_by_rank,
    run,
    start,
    wait_for_step,
)
from safetensors.torch import load_file
from train_worlds import make_model

from manako.core.errors import ManakoError, NotInThisVersion
from manako.core.recipe import Evaluation
from manako.core.record import read_record
from manako.train.launch_settings import as_launched

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CASES: dict[str, dict[str, Any]] = {
    "two packs each": {},
    "frozen vision": {"train": {"language": "3e-3", "projector": "3e-3"}},
    "layers computed again": {"gradient_checkpointing": True},
    "odd packs": {"global_batch_packs": 3},
    "one pack, one rank idle": {"global_batch_packs": 1},
}
QUICK = ("two packs each",)


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES],
)
def test_two_ranks_follow_one(zygote: Zygote, make_run: MakeRun, case: str) -> None:
    one = run(zygote, make_run("one", **CASES[case]), 1)
    two = run(zygote, make_run("two", fsdp=True, **CASES[case]), 2)
    check_alike(f"sharded, {case}", one, two)
    setup = read_record(two.run / "record.jsonl").of_kind("setup")[0]
    assert setup["sharding"] == "fsdp2"
    assert norms_of(two) == pytest.approx(norms_of(one), rel=1e-4)


def norms_of(ended: Ended) -> list[float]:
    """The gradients' norms of each part at the first step, where weights are still equal."""
    return list(read_record(ended.run / "record.jsonl").of_kind("step")[0]["grad_norms"].values())


def test_a_rank_may_have_only_text(zygote: Zygote, make_run: MakeRun, few_pictures: Path) -> None:
    """Also steps in which no rank has a picture: as in one process, nothing of the tower moves."""
    one = run(zygote, make_run("one", data_folder=few_pictures), 1)
    two = run(zygote, make_run("two", data_folder=few_pictures, fsdp=True), 2)
    kinds = {pictures_by_rank(two, step) for step in range(1, STEPS + 1)}
    assert kinds >= {(False, True), (True, False)}
    check_alike("sharded, one rank has only text", one, two)


@pytest.mark.slow
def test_the_last_step_of_an_epoch_may_leave_a_rank_nothing(
    zygote: Zygote, make_run: MakeRun
) -> None:
    changes = {"max_steps": 0, "num_train_epochs": 2.0, "global_batch_packs": 4}
    one = run(zygote, make_run("one", **changes), 1)
    two = run(zygote, make_run("two", fsdp=True, **changes), 2)
    steps = max(one.losses)
    assert not [pack for pack in two.packs(1) if pack["step"] == steps]
    check_alike("sharded, no rows left for one rank", one, two, steps)


@pytest.mark.slow
def test_embeddings_and_head_of_their_own(
    zygote: Zygote, make_run: MakeRun, tmp_path: Path
) -> None:
    model = str(make_model(tmp_path / "untied", tie_embeddings=False))
    one = run(zygote, make_run("one").replace(model=model), 1)
    two = run(zygote, make_run("two", fsdp=True).replace(model=model), 2)
    check_alike("sharded, embeddings and head not tied", one, two)
    assert "lm_head.weight" in two.weights()


@pytest.mark.slow
def test_refused_rows_leave_a_pack_to_the_filler(
    zygote: Zygote, make_run: MakeRun, torn_pictures: Path
) -> None:
    changes = {"data_folder": torn_pictures, "pack_tokens": 64, "max_steps": 8}
    changes |= {"global_batch_packs": 6}
    one = run(zygote, make_run("one", **changes), 1)
    two = run(zygote, make_run("two", fsdp=True, **changes), 2)
    steps = [pack["step"] for pack in one.all_packs]
    assert any(0 < steps.count(step) < 6 for step in one.losses)  # packs of which no row is left
    check_alike("sharded, rows refused", one, two, 8)


HALF_TOLERANCE = 2e-2
"""Under bfloat16 a layer's matrices are rounded alike, but norms' gains as well, and sums of
products fall out differently beside a conversation more; measured 1e-3 to 5e-3."""


@pytest.mark.slow
@pytest.mark.parametrize("train", ["all", "frozen vision"])
def test_in_bfloat16_the_masters_stay_float32(
    zygote: Zygote, make_run: MakeRun, train: str
) -> None:
    changes = {"bf16": True, **CASES.get(train, {})}
    one = run(zygote, make_run("one", **changes), 1)
    two = run(zygote, make_run("two", fsdp=True, **changes), 2)
    loss, worst, by_norm = differences(one, two)
    print(f"sharded, bf16, {train} | loss {loss:.1e} | {worst} {by_norm:.1e}")  # noqa: T201
    assert loss < HALF_TOLERANCE
    assert two.weights()["model.layers.0.mlp.up_proj.weight"].dtype == torch.float32
    assert {k: v.dtype for k, v in two.weights().items()} == {
        k: v.dtype for k, v in one.weights().items()
    }


@pytest.mark.slow
def test_moments_in_bfloat16_are_rounded_as_one_process_rounds_them(
    zygote: Zygote, make_run: MakeRun
) -> None:
    """The same numbers meet the same chance; where a gradient's last bit decides, they part by
    one step of bfloat16."""
    changes = {"optim_state_dtype": "bfloat16"}
    one = run(zygote, make_run("one", **changes), 1)
    two = run(zygote, make_run("two", fsdp=True, **changes), 2)
    loss, worst, by_norm = differences(one, two)
    print(f"sharded, moments in bfloat16 | loss {loss:.1e} | {worst} {by_norm:.1e}")  # noqa: T201
    assert max(loss, by_norm) < 1e-3


SIZES: dict[str, Sequence[tuple[int, bool]]] = {
    "1, 2, 3 ranks": ((1, False), (2, True), (3, True)),
    "3, 2, 1 ranks": ((3, True), (2, True), (1, True)),
    "sharded, not, sharded": ((2, True), (2, False), (2, True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SIZES)
def test_stopped_and_gone_on_with_other_numbers_of_ranks(
    zygote: Zygote, make_run: MakeRun, world: Any, case: str
) -> None:
    evaluation = Evaluation(data=str(world.held_out), every_steps=5, max_rows=8)
    changes = {"eval": evaluation, "global_batch_packs": 6, "lr_scheduler_type": "cosine"}
    whole = run(zygote, make_run("whole", **changes), 1)
    taken: list[str] = []
    for (size, fsdp), until in zip(SIZES[case], (4, 10, STEPS), strict=True):
        recipe = make_run("changing", fsdp=fsdp, **changes)
        pids = start(zygote, recipe, size)
        if until < STEPS:
            wait_for_step(Path(recipe.output_dir), until)
            os.kill(pids[-1], signal.SIGTERM)
        part = zygote.ended()
        assert set(part.codes) == {3 if until < STEPS else 0}, part.err(0)
        taken += [pack["hash"] for pack in part.all_packs]
    assert taken == [pack["hash"] for pack in whole.all_packs]
    loss, worst, by_norm = differences(whole, part)
    print(f"sharded, {case} | loss {loss:.1e} | {worst} {by_norm:.1e}")  # noqa: T201
    assert max(loss, by_norm) < TOLERANCE, worst
    assert whole.evals.keys() == part.evals.keys()
    for step, value in whole.evals.items():
        assert part.evals[step] == pytest.approx(value, rel=TOLERANCE)


@pytest.mark.kill
def test_killed_and_gone_on_with_as_many_ranks_gives_the_same_bytes(
    zygote: Zygote, make_run: MakeRun
) -> None:
    changes = {"fsdp": True, "max_steps": 12, "save_steps": 4, "lr_scheduler_type": "cosine"}
    whole = run(zygote, make_run("whole", **changes), 2)
    recipe = make_run("killed", **changes)
    pids = start(zygote, recipe, 2)
    wait_for_step(Path(recipe.output_dir), 6)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    zygote.ended()
    gone_on = run(zygote, recipe, 2)
    last = [each.run / "checkpoints" / "step-12" for each in (whole, gone_on)]
    names = [sorted(str(f.relative_to(step)) for f in step.rglob("*.safetensors")) for step in last]
    assert (
        names[0]
        == names[1]
        == [
            "model.safetensors",
            "optimizer/shard-00001-model-00001-of-00001.safetensors",
            "optimizer/shard-00002-model-00001-of-00001.safetensors",
            "rng-1.safetensors",
            "rng.safetensors",
        ]
    )
    for name in names[0]:  # the order of words in a header is a matter of chance
        one, other = (load_file(step / name) for step in last)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert whole.losses == gone_on.losses


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_the_others_and_they_say_why(
    zygote: Zygote, make_run: MakeRun, killed: int
) -> None:
    recipe = make_run("run", max_steps=2000, fsdp=True)
    pids = start(zygote, recipe, 2)
    wait_for_step(Path(recipe.output_dir), 3)
    os.kill(pids[killed], signal.SIGKILL)
    ended = zygote.ended()
    said = ended.err(1 - killed)
    assert ended.codes[1 - killed] == 1
    assert re.search(rf"rank {1 - killed} of 2 waited at step \d+ for ", said), said
    assert "Traceback" not in said
    if killed == 1:
        assert re.search(r"rank 1 \(last at step \d+\): no answer, killed or hanging", said), said


@pytest.mark.slow
@pytest.mark.kill
def test_a_hanging_rank_is_not_waited_for_longer_than_the_recipe_says(
    zygote: Zygote, make_run: MakeRun
) -> None:
    recipe = make_run("run", max_steps=2000, fsdp=True).replace(ddp_timeout=3)
    pids = start(zygote, recipe, 2)
    wait_for_step(Path(recipe.output_dir), 3)
    os.kill(pids[1], signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while psutil.Process(pids[0]).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(pids[1], signal.SIGKILL)
    said = zygote.ended().err(0)
    assert "rank 0 of 2 waited at step" in said
    assert "within ddp_timeout (3 s)" in said, said
    assert "rank 1 (last at step" in said


@pytest.mark.kill
@pytest.mark.parametrize("when", [pytest.param("forward", marks=pytest.mark.slow), "backward"])
def test_a_rank_killed_within_a_pack_is_named(
    zygote: Zygote, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The other one is in the middle of the model, where layers are gathered."""
    start(zygote, make_run("run", fsdp=True), 2, dies=(1, 3, when))
    ended = zygote.ended()
    assert ended.codes == [1, -signal.SIGKILL]
    said = ended.err(0)
    assert "rank 0 of 2 waited at step 3 for the shards of all ranks" in said, said
    assert "rank 1 (last at step 3): no answer, killed or hanging" in said
    assert "Traceback" not in said


def test_what_accelerate_was_asked_for_is_done_or_refused(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_run("run")
    assert as_launched(recipe) == recipe
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(NotInThisVersion, match="version 1") as refused:
        as_launched(recipe)
    assert "--fsdp_version 2" in refused.value.next_step
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert as_launched(recipe) == recipe.replace(fsdp=True)
    for name, value in (
        ("FSDP_OFFLOAD_PARAMS", "true"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true"),
        ("FSDP_RESHARD_AFTER_FORWARD", "false"),
        ("ACCELERATE_USE_DEEPSPEED", "true"),
    ):
        with monkeypatch.context() as also:
            also.setenv(name, value)
            with pytest.raises(ManakoError) as told:
                as_launched(recipe)
        assert told.value.next_step


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optim": "muon"}, "muon"),
        ({"optim": "adamw_torch_8bit"}, "adamw_torch_8bit"),
        ({"method": "lora", "train": {"language": "1e-3"}}, "adapters"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_by_name(
    make_run: MakeRun, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(NotInThisVersion, match=named) as refused:
        make_run("run", fsdp=True, **changes)
    assert refused.value.next_step
