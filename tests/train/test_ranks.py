"""Several processes train as one would: the same packs, the same weights, the same end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rank_runs import (
    STEPS,
    TOLERANCE,
    MakeRun,
    Zygote,
    by_norm_of,
    check_alike,
    differences,
    pictures_by_rank,
    run,
    start,
    wait_for_step,
)

from manako.core.errors import InputError
from manako.core.files import read_json
from manako.core.recipe import Evaluation
from manako.core.record import read_record
from manako.families.qwen2_vl import FAMILY
from manako.nn.checkpoint import load_model
from manako.train.ranks import NEEDED, launched

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


SLOW_CASES = ("odd packs", "one pack, one rank idle")
CASES: dict[str, dict[str, Any]] = {
    "two packs each": {},
    "lora": {
        "method": "lora",
        "train": {"language": "1e-3", "projector": "lora 1e-3"},
        "lora_r": 4,
        "lora_dropout": 0.1,
    },
    "odd packs": {"global_batch_packs": 3},
    "one pack, one rank idle": {"global_batch_packs": 1},
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW_CASES else ()) for name in CASES],
)
def test_two_ranks_follow_one(zygote: Zygote, make_run: MakeRun, case: str) -> None:
    one = run(zygote, make_run("one", **CASES[case]), 1)
    two = run(zygote, make_run("two", **CASES[case]), 2)
    check_alike(case, one, two)


@pytest.mark.slow
def test_with_the_default_epsilon(zygote: Zygote, make_run: MakeRun) -> None:
    """All tensors but the keys' biases stay within the tolerance, and those within 1e-3."""
    one = run(zygote, make_run("one", adam_epsilon=1e-8), 1)
    two = run(zygote, make_run("two", adam_epsilon=1e-8), 2)
    found = by_norm_of(one, two)
    keys = {name: value for name, value in found.items() if name.endswith("k_proj.bias")}
    others = {name: value for name, value in found.items() if name not in keys}
    worst = max(others, key=lambda name: others[name])
    print(f"default epsilon | {max(keys.values()):.1e} | {worst} {others[worst]:.1e}")  # noqa: T201
    assert others[worst] < TOLERANCE, worst
    assert max(keys.values()) < 1e-3


def test_a_rank_may_have_only_text(zygote: Zygote, make_run: MakeRun, few_pictures: Path) -> None:
    """Its vision tower gets no gradient, and the sum is that of the other rank."""
    one = run(zygote, make_run("one", data_folder=few_pictures), 1)
    two = run(zygote, make_run("two", data_folder=few_pictures), 2)
    kinds = {pictures_by_rank(two, step) for step in range(1, STEPS + 1)}
    assert kinds >= {(False, True), (True, False)}
    check_alike("one rank has only text", one, two)


def test_the_last_step_of_an_epoch_may_leave_a_rank_nothing(
    zygote: Zygote, make_run: MakeRun
) -> None:
    changes = {"max_steps": 0, "num_train_epochs": 2.0, "global_batch_packs": 4}
    one = run(zygote, make_run("one", **changes), 1)
    two = run(zygote, make_run("two", **changes), 2)
    steps = max(one.losses)
    assert not [pack for pack in two.packs(1) if pack["step"] == steps]
    assert [pack for pack in two.packs(0) if pack["step"] == steps]
    check_alike("no rows left for one rank", one, two, steps)


def test_stopped_and_gone_on_with_other_numbers_of_ranks(
    zygote: Zygote, make_run: MakeRun, world: Any
) -> None:
    """1, then 2, then 3 ranks: the same rows in the same order, and the same numbers. SIGTERM
    reaches one rank, and all of them stop at the same step."""
    evaluation = Evaluation(data=str(world.held_out), every_steps=5, max_rows=8)
    changes = {"eval": evaluation, "global_batch_packs": 6, "lr_scheduler_type": "cosine"}
    whole = run(zygote, make_run("whole", **changes), 1)
    recipe = make_run("changing", **changes)
    taken: list[str] = []
    for size, until in ((1, 4), (2, 10), (3, STEPS)):
        pids = start(zygote, recipe, size)
        if until < STEPS:
            wait_for_step(Path(recipe.output_dir), until)
            os.kill(pids[-1], signal.SIGTERM)
        part = zygote.ended()
        assert set(part.codes) == {3 if until < STEPS else 0}, part.err(0)
        assert len({pack["step"] for pack in part.packs(0)}) == len(
            {pack["step"] for pack in part.packs(size - 1)}
        )
        taken += [pack["hash"] for pack in part.all_packs]
    assert taken == [pack["hash"] for pack in whole.all_packs]
    loss, worst, by_norm = differences(whole, part)
    print(f"1, 2, 3 ranks | loss {loss:.1e} | {worst} {by_norm:.1e}")  # noqa: T201
    assert max(loss, by_norm) < TOLERANCE, worst
    assert whole.evals.keys() == part.evals.keys()
    for step, value in whole.evals.items():
        assert part.evals[step] == pytest.approx(value, rel=TOLERANCE)
    resumed = read_record(part.run / "record.jsonl").of_kind("resumed")
    assert [event["not_bit_for_bit"] for event in resumed] == [
        ["world_size: 1 then, 2 now"],
        ["world_size: 2 then, 3 now"],
    ]
    trainer = read_json(part.run / "checkpoints" / f"step-{STEPS}" / "trainer.json")
    assert trainer["setting"]["world_size"] == 3


def test_frozen_parts_stay(zygote: Zygote, make_run: MakeRun, world: Any) -> None:
    ended = run(zygote, make_run("run", train={"language": "3e-3"}, max_steps=3), 2)
    before = load_model(world.model, FAMILY).state_dict()
    after = load_model(ended.run / "checkpoints" / "step-3", FAMILY).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {FAMILY.part_of(name) for name in changed} == {"language"}


def test_refused_rows_of_every_rank_are_recorded(
    zygote: Zygote, make_run: MakeRun, torn_pictures: Path
) -> None:
    found = []
    for size in (1, 2):
        recipe = make_run(f"of-{size}", data_folder=torn_pictures, max_steps=4)
        record = read_record(run(zygote, recipe, size).run / "record.jsonl")
        events = [(e["step"], e["id"], e["reason"]) for e in record.of_kind("failed_row")]
        found.append((sorted(events), [e["trained_tokens"] for e in record.of_kind("step")]))
    assert found[0] == found[1]
    assert len(found[0][0]) > 2


@pytest.mark.kill
@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_rank_ends_the_others_and_they_say_why(
    zygote: Zygote, make_run: MakeRun, killed: int
) -> None:
    recipe = make_run("run", max_steps=2000, dataloader_num_workers=1)
    pids = start(zygote, recipe, 2)
    wait_for_step(Path(recipe.output_dir), 3)
    workers = [child for pid in pids for child in psutil.Process(pid).children()]
    assert workers
    os.kill(pids[killed], signal.SIGKILL)
    ended = zygote.ended()
    other = 1 - killed
    assert ended.codes[killed] == -signal.SIGKILL
    assert ended.codes[other] == 1
    said = ended.err(other)
    assert re.search(rf"rank {other} of 2 waited at step \d+ for (the|whether) ", said), said
    assert "Traceback" not in said
    if killed == 1:
        assert re.search(r"rank 1 \(last at step \d+\): no answer, killed or hanging", said), said
        assert read_json(ended.run / "state.json")["state"] == "failed"
    assert not psutil.wait_procs(workers, timeout=10)[1]


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_hanging_rank_is_not_waited_for_longer_than_the_recipe_says(
    zygote: Zygote, make_run: MakeRun, stopped: int
) -> None:
    recipe = make_run("run", max_steps=2000).replace(ddp_timeout=3)
    pids = start(zygote, recipe, 2)
    wait_for_step(Path(recipe.output_dir), 3)
    os.kill(pids[stopped], signal.SIGSTOP)
    begun = time.monotonic()
    with contextlib.suppress(psutil.NoSuchProcess):
        other = psutil.Process(pids[1 - stopped])
        while other.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() - begun < 30
            time.sleep(0.05)
    os.kill(pids[stopped], signal.SIGKILL)
    ended = zygote.ended()
    said = ended.err(1 - stopped)
    assert "within ddp_timeout (3 s)" in said, said
    assert f"rank {1 - stopped} of 2 waited at step" in said


def test_what_went_wrong_on_another_rank_is_told_by_the_first(
    zygote: Zygote, make_run: MakeRun
) -> None:
    start(zygote, make_run("run"), 3, fails_at=(1, 5))
    ended = zygote.ended()
    assert set(ended.codes) == {1}
    assert "rank 0 of 3 waited at step 5 for the step's packs" in ended.err(0)
    assert "rank 1 has failed: the disk is on fire" in ended.err(0)
    assert not ended.err(1)
    assert "rank 1 has failed" in ended.err(2)


def test_what_goes_wrong_on_the_first_rank_is_told_once(zygote: Zygote, make_run: MakeRun) -> None:
    start(zygote, make_run("run"), 2, fails_at=(0, 5))
    ended = zygote.ended()
    assert ended.codes == [1, 1]
    assert "the disk is on fire" in ended.err(0)
    assert "fetch water" in ended.err(0)
    assert not ended.err(1)


@pytest.mark.parametrize("asked", [0, 1])
def test_asked_to_stop_while_a_run_is_opened_all_ranks_stop(
    zygote: Zygote, make_run: MakeRun, asked: int
) -> None:
    start(zygote, make_run("run"), 2, fails_at=(asked, 0))
    ended = zygote.ended()
    assert ended.codes == [3, 3], ended.err(0)
    assert not ended.err(0) + ended.err(1)
    assert read_json(ended.run / "state.json")["state"] == "stopped"


def test_ranks_with_other_settings_are_refused(zygote: Zygote, make_run: MakeRun) -> None:
    start(zygote, make_run("run"), 2, also=("--set", "seed=1"))
    ended = zygote.ended()
    assert ended.codes == [2, 2]
    assert "rank 1 has recipe" in ended.err(0)
    assert not ended.err(1)


def test_a_finished_run_is_refused_once(zygote: Zygote, make_run: MakeRun) -> None:
    recipe = make_run("run", max_steps=2)
    run(zygote, recipe, 2)
    start(zygote, recipe, 2)
    ended = zygote.ended()
    assert ended.codes[0] == 2
    assert "nothing remains" in ended.err(0)
    assert not ended.err(1)


def test_an_environment_that_speaks_of_several_and_not_where_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    assert launched() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InputError, match="MASTER_ADDR, MASTER_PORT is not set"):
        launched()
