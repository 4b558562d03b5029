"""Several processes train as one would: the same packs, the same weights, the same end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from train_worlds import make_recipe, picture

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import InputError, ManakoError, NotInThisVersion
from manako.core.files import read_json
from manako.core.recipe import Evaluation, Recipe
from manako.core.record import read_record
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.families.qwen2_vl import FAMILY
from manako.nn import adapters
from manako.nn.checkpoint import load_model
from manako.train.loop import run_training
from manako.train.ranks import NEEDED, launched

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

STEPS = 20
TOLERANCE = 1e-5
"""Of the loss, and of each tensor by norm. Float32 sums in another order: one process adds packs
one by one, two add half each and then both, which differs in the last bits."""
EPSILON = 1e-5
"""Of AdamW, above the rounding of the gradients. With the default of 1e-8 one kind of tensor leaves
the tolerance (measured: 2.5e-4), `k_proj.bias`: attention takes no notice of what is added to all
keys alike, so but for the rotation its gradient is zero, and what is left (5e-9) is rounding, which
AdamW makes as large as every other step. See `test_with_the_default_epsilon`."""
SLOWEST_SECONDS = 120.0


@dataclass(frozen=True)
class Ended:
    """What the ranks of a run left."""

    folder: Path
    run: Path
    codes: list[int]

    def out(self, rank: int) -> str:
        return (self.folder / f"rank-{rank}.out").read_text(encoding="utf-8")

    def err(self, rank: int) -> str:
        return (self.folder / f"rank-{rank}.err").read_text(encoding="utf-8")

    def packs(self, rank: int) -> list[dict[str, Any]]:
        file = self.folder / f"rank-{rank}.packs"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        return [json.loads(line) for line in lines]

    @property
    def all_packs(self) -> list[dict[str, Any]]:
        packs = [pack for rank in range(len(self.codes)) for pack in self.packs(rank)]
        return sorted(packs, key=lambda pack: int(pack["number"]))

    @property
    def losses(self) -> dict[int, float]:
        events = read_record(self.run / "record.jsonl").of_kind("step")
        return {event["step"]: event["loss"] for event in events}

    @property
    def evals(self) -> dict[int, float]:
        events = read_record(self.run / "record.jsonl").of_kind("eval")
        return {event["step"]: event["loss"] for event in events}

    def weights(self, step: int = STEPS) -> dict[str, torch.Tensor]:
        folder = self.run / "checkpoints" / f"step-{step}"
        name = adapters.ADAPTER if (folder / adapters.ADAPTER).exists() else "model.safetensors"
        return load_file(folder / name)


class Zygote:
    """Starts runs of one or several ranks, one run at a time."""

    def __init__(self) -> None:
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(here) / "rank_zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MANAKO_LANG": "en"}
            | {"TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"},
        )
        self._said = b""
        self._started = (Path(), Path())
        self.pids: list[int] = []
        self.answer("ready")

    def start(
        self,
        recipe: Recipe,
        folder: Path,
        size: int,
        *,
        fails_at: tuple[int, int] = (-1, 0),
        also: Sequence[str] = (),
    ) -> list[int]:
        """Start a run; the process ids of its ranks. also: more arguments of the last rank."""
        folder.mkdir(parents=True)
        file = folder / "recipe.yaml"
        file.write_text(recipe.to_yaml(), encoding="utf-8")
        call = ["train", str(file), "--foreground"]
        asked = {
            "arguments": [call] * (size - 1) + [[*call, *also]],
            "port": free_port(),
            "folder": str(folder),
            "fails_at": fails_at,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        self._started = (folder, Path(recipe.output_dir))
        self.pids = json.loads(self.answer("pids"))
        return self.pids

    def ended(self) -> Ended:
        """Wait until all ranks have ended."""
        codes = json.loads(self.answer("ends"))
        self.pids = []
        return Ended(*self._started, codes)

    def answer(self, word: str) -> str:
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + SLOWEST_SECONDS
        while b"\n" not in self._said:
            left = deadline - time.monotonic()
            assert left > 0, f"no {word!r} within {SLOWEST_SECONDS} s"
            if select.select([descriptor], [], [], left)[0]:
                read = os.read(descriptor, 1 << 16)
                assert read, f"the zygote ended before {word!r}"
                self._said += read
        line, _, self._said = self._said.partition(b"\n")
        assert line.startswith(word.encode()), line
        return line.decode().removeprefix(word).strip()

    def end_what_runs(self) -> None:
        """After a test that failed: nothing of it goes on."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.pids:
            self.ended()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def one_zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture
def zygote(one_zygote: Zygote) -> Iterator[Zygote]:
    yield one_zygote
    one_zygote.end_what_runs()


@pytest.fixture(scope="module")
def few_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every seventh has a picture."""
    folder = tmp_path_factory.mktemp("few") / "data"
    with write_store(folder) as writer:
        for number in range(70):
            about = (picture("red"),) if number % 7 == 0 else ()
            turns = (
                Message("user", (*about, Text(f"say {number}"))),
                Message("assistant", (Text(f"it is {number}, and I see it"),)),
            )
            writer.add(row_of(Conversation(turns, id=f"few-{number}", source="test")))
    return folder


@pytest.fixture(scope="module")
def torn_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every third has a picture whose header alone can be read."""
    folder = tmp_path_factory.mktemp("torn") / "data"
    with write_store(folder) as writer:
        for number in range(40):
            shown = picture("blue", width=84, height=56)
            torn = shown.data[:48] + bytes(12) + shown.data[60:]
            data = torn if number % 3 == 0 else shown.data
            turns = (
                Message("user", (Image(data), Text(f"say {number}"))),
                Message("assistant", (Text(f"it is {number}"),)),
            )
            writer.add(row_of(Conversation(turns, id=f"torn-{number}", source="test")))
    return folder


MakeRun = Callable[..., Recipe]


@pytest.fixture
def make_run(world: Any, tmp_path: Path) -> MakeRun:
    def make(name: str, **changes: Any) -> Recipe:
        fields = {"max_steps": STEPS, "global_batch_packs": 4, "cpu_threads": 1}
        fields |= {"adam_epsilon": EPSILON, **changes}
        data = fields.pop("data_folder", world.data)
        return make_recipe(world.model, data, tmp_path / name, ddp_timeout=60, **fields)

    return make


def start(zygote: Zygote, recipe: Recipe, size: int, **settings: Any) -> list[int]:
    place = Path(recipe.output_dir)
    folder = place.with_name(f"{place.name}-{size}-{len(list(place.parent.iterdir()))}")
    return zygote.start(recipe, folder, size, **settings)


def run(zygote: Zygote, recipe: Recipe, size: int) -> Ended:
    start(zygote, recipe, size)
    ended = zygote.ended()
    assert set(ended.codes) == {0}, (ended.codes, ended.err(0), ended.err(size - 1))
    assert not any(ended.out(rank) + ended.err(rank) for rank in range(1, size))
    return ended


def wait_for_step(run_folder: Path, step: int) -> None:
    """Until the run has recorded that step."""
    deadline = time.monotonic() + SLOWEST_SECONDS
    while True:
        with contextlib.suppress(ManakoError):
            events = read_record(run_folder / "record.jsonl").of_kind("step")
            if any(event["step"] >= step for event in events):
                return
        assert time.monotonic() < deadline, f"step {step} did not come"
        time.sleep(0.01)


def differences(one: Ended, other: Ended, steps: int = STEPS) -> tuple[float, str, float]:
    """Largest relative difference of the loss, the worst tensor, and its difference by norm."""
    assert one.losses.keys() == other.losses.keys()
    loss = max(abs(one.losses[s] - other.losses[s]) / abs(one.losses[s]) for s in one.losses)
    by_name = by_norm_of(one, other, steps)
    worst = max(by_name, key=lambda name: by_name[name])
    return loss, worst, by_name[worst]


def by_norm_of(one: Ended, other: Ended, steps: int = STEPS) -> dict[str, float]:
    """Per tensor the norm of the difference, relative to the tensor's own."""
    before, after = one.weights(steps), other.weights(steps)
    assert before.keys() == after.keys()
    return {
        name: float((after[name] - before[name]).norm() / before[name].norm().clamp(min=1e-12))
        for name in before
    }


def check_alike(case: str, one: Ended, other: Ended, steps: int = STEPS) -> None:
    loss, worst, by_norm = differences(one, other, steps)
    print(f"{case} | loss {loss:.1e} | {worst} {by_norm:.1e}")  # noqa: T201
    assert loss < TOLERANCE
    assert by_norm < TOLERANCE, worst
    taken = [[pack["hash"] for pack in each.all_packs] for each in (one, other)]
    assert taken[0] == taken[1]


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


def pictures_by_rank(ended: Ended, step: int) -> tuple[bool, ...]:
    """Whether each rank had pictures in that step."""
    return tuple(
        any(pack["images"] for pack in ended.packs(rank) if pack["step"] == step)
        for rank in range(len(ended.codes))
    )


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


def test_sharded_training_of_accelerate_is_refused(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(NotInThisVersion, match="FSDP is not in this version"):
        run_training(make_run("run"))


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
