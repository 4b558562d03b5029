"""Runs from beginning to end: what moves, what does not, and what is written down."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_worlds import make_conversation, make_store

from manako.core.errors import (
    CheckpointError,
    InputError,
    ManakoError,
    MissingFileError,
    RecipeError,
    ResumeError,
    RowError,
)
from manako.core.files import read_json
from manako.core.recipe import Evaluation, Recipe, Source
from manako.core.record import read_record
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.families.qwen2_vl import FAMILY
from manako.nn import adapters
from manako.nn.checkpoint import load_model
from manako.train.loop import run_training
from manako.train.outcome import Outcome
from manako.train.run_folder import RunFolder

MakeRecipe = Callable[..., Recipe]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def final(outcome: Outcome) -> Path:
    assert outcome.checkpoint is not None
    return outcome.checkpoint


def moved(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def stop_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    """A listener that asks for a stop, as a user's Ctrl-C or a scheduler does."""

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return listen


def test_the_loss_falls_and_every_part_moves(recipe: MakeRecipe, world: Any) -> None:
    outcome = run_training(recipe(max_steps=12))
    losses = [
        event["loss"] for event in read_record(outcome.folder / "record.jsonl").of_kind("step")
    ]
    assert losses[-1] < losses[0] - 0.5
    names = moved(weights(world.model), weights(final(outcome)))
    assert {name.split(".")[0] for name in names} == {"model", "visual"}
    assert any("merger" in name for name in names)
    assert (outcome.state, outcome.step, outcome.exit_code) == ("finished", 12, 0)


@pytest.mark.parametrize("frozen", ["vision", "projector", "language"])
def test_a_frozen_part_does_not_move_by_a_bit(recipe: MakeRecipe, world: Any, frozen: str) -> None:
    train = {part: "3e-3" for part in ("vision", "projector", "language") if part != frozen}
    outcome = run_training(recipe(train=train, max_steps=2, optim="muon", weight_decay=0.1))
    before = load_model(world.model, FAMILY).state_dict()
    after = load_model(final(outcome), FAMILY).state_dict()
    assert {FAMILY.part_of(name) for name in moved(before, after)} == set(train)


def test_lora_moves_adapters_only_and_saves_no_whole_model(recipe: MakeRecipe, world: Any) -> None:
    train = {"language": "1e-2", "projector": "lora 1e-2"}
    outcome = run_training(recipe(method="lora", train=train, lora_r=4, max_steps=3))
    assert not (final(outcome) / "model.safetensors").exists()
    assert (final(outcome) / "tokenizer.json").is_file()
    tensors = load_file(final(outcome) / adapters.ADAPTER)
    assert all(".lora_A." in name or ".lora_B." in name for name in tensors)
    model = load_model(world.model, FAMILY)
    found = adapters.load(model, final(outcome), base=world.model)
    assert not found.is_zero
    assert found.modules == 16


def test_a_part_may_be_trained_in_full_beside_adapters(recipe: MakeRecipe, world: Any) -> None:
    train = {"language": "1e-2", "projector": "1e-2"}
    outcome = run_training(recipe(method="lora", train=train, lora_r=4, max_steps=2))
    model = load_model(world.model, FAMILY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapters.load(model, final(outcome), base=world.model)
    after = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not adapters.is_adapter_parameter(name)
    }
    assert {FAMILY.part_of(name) for name in moved(before, after)} == {"projector"}


def test_bfloat16_keeps_trained_weights_in_float32_and_frozen_ones_as_they_were(
    recipe: MakeRecipe, world: Any, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(world.model, tmp_path / "bfloat16"))
    rounded = {name: tensor.bfloat16() for name, tensor in weights(base).items()}
    save_file(rounded, base / "model.safetensors", metadata={"format": "pt"})
    made = recipe(bf16=True, train={"language": "3e-3"}, max_steps=2).replace(model=str(base))
    after = weights(final(run_training(made)))
    for name, tensor in after.items():
        if name.startswith("visual."):
            assert torch.equal(tensor, rounded[name])
        else:
            assert tensor.dtype == torch.float32
    assert moved(rounded, after) >= {"model.embed_tokens.weight"}


def test_frozen_weights_are_not_rounded_where_that_would_change_them(
    recipe: MakeRecipe, world: Any
) -> None:
    outcome = run_training(recipe(bf16=True, train={"language": "3e-3"}, max_steps=1))
    before, after = weights(world.model), weights(final(outcome))
    name = "visual.blocks.0.attn.qkv.weight"
    assert torch.equal(after[name], before[name])


def test_what_is_recorded_and_told(recipe: MakeRecipe, world: Any) -> None:
    told: list[Mapping[str, Any]] = []
    evaluation = Evaluation(data=str(world.held_out), every_steps=2, max_rows=6)
    made = recipe(max_steps=5, eval=evaluation, save_steps=2, save_total_limit=1)
    outcome = run_training(made, listener=told.append)
    record = read_record(outcome.folder / "record.jsonl")
    assert [event["kind"] for event in told] == [event["kind"] for event in record.events]
    (setup,) = record.of_kind("setup")
    assert setup["parts"]["language"]["trained"] > 0
    assert setup["optimizer"] == "AdamW (fused)"
    assert setup["threads"] == torch.get_num_threads()
    assert setup["pixel_rule"]["reference"] == "torch_aa"
    assert setup["total_steps"] == 5
    steps = record.of_kind("step")
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5]
    for event in steps:
        assert 0 < event["pack_fill"] <= 1
        assert event["trained_tokens"] > 0
        assert event["tokens_per_second"] > 0
        assert event["peak_memory_bytes"] > 0
        assert event["learning_rates"].keys() == event["grad_norms"].keys()
        assert event["data_wait_seconds"] <= event["seconds"]
    evals = [(event["step"], event["loss"]) for event in record.of_kind("eval")]
    assert [step for step, _ in evals] == [0, 2, 4, 5]
    assert evals[-1][1] < evals[0][1]
    assert [event["step"] for event in record.of_kind("save")] == [2, 4, 5]
    assert [each.name for each in (outcome.folder / "checkpoints").iterdir()] == ["step-5"]
    (end,) = record.of_kind("end")
    assert end["state"] == "finished"
    state = read_json(outcome.folder / "state.json")
    assert state["state"] == "finished"
    assert state["checkpoint"] == "checkpoints/step-5"
    assert Recipe.load(outcome.folder / "recipe.yaml") == made


def test_log_lines_may_stand_for_several_steps(recipe: MakeRecipe) -> None:
    every = run_training(recipe("every", max_steps=6))
    third = run_training(recipe("third", max_steps=6, logging_steps=3))
    single = read_record(every.folder / "record.jsonl").of_kind("step")
    several = read_record(third.folder / "record.jsonl").of_kind("step")
    assert [event["step"] for event in several] == [1, 3, 6]
    tokens = [event["trained_tokens"] for event in single]
    mean = sum(e["loss"] * e["trained_tokens"] for e in single[3:]) / sum(tokens[3:])
    assert several[-1]["loss"] == pytest.approx(mean)
    assert several[-1]["trained_tokens"] == sum(tokens[3:])


def test_nothing_in_a_checkpoint_is_pickled(recipe: MakeRecipe) -> None:
    outcome = run_training(recipe(max_steps=1))
    for file in final(outcome).iterdir():
        if file.suffix == ".safetensors":
            load_file(file)
        else:
            assert file.suffix == ".json"
            json.loads(file.read_text(encoding="utf-8"))
    names = {file.name for file in final(outcome).iterdir()}
    assert {"model.safetensors", "optimizer.safetensors", "rng.safetensors"} <= names
    assert {"config.json", "tokenizer.json", "trainer.json", "chat_template.json"} <= names


def test_a_checkpoint_is_a_model_that_opens_and_trains_on(recipe: MakeRecipe, world: Any) -> None:
    first = run_training(recipe("first", max_steps=2, max_pixels=784 * 2))
    processor = FAMILY.open(final(first))
    assert processor.encode(make_conversation(0)).images[0].tokens <= 2
    again = recipe("second", max_steps=1).replace(model=str(final(first)))
    assert run_training(again).state == "finished"


def test_tensorboard_gets_the_numbers(recipe: MakeRecipe) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = run_training(recipe(max_steps=2, report_to=("tensorboard",)))
    events = EventAccumulator(str(outcome.folder / "tensorboard")).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    recorded = [e["loss"] for e in read_record(outcome.folder / "record.jsonl").of_kind("step")]
    assert losses == pytest.approx(recorded)
    assert events.Scalars("train/learning_rates/language")[1].step == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"optim": "muon", "train": {"language": "3e-3", "projector": "1e-3", "vision": "1e-3"}},
        {"method": "lora", "train": {"language": "1e-2", "projector": "1e-2"}, "lora_dropout": 0.2},
        {"bf16": True, "train": {"language": "3e-3"}},
    ],
    ids=["muon", "lora-with-dropout", "bfloat16"],
)
def test_stopped_and_started_again_it_ends_bit_for_bit(
    recipe: MakeRecipe, changes: dict[str, Any]
) -> None:
    whole = run_training(recipe("whole", **changes))
    stopped = run_training(recipe("stopped", **changes), listener=stop_at(2))
    assert (stopped.state, stopped.step, stopped.exit_code) == ("stopped", 2, 3)
    assert read_json(stopped.folder / "state.json")["state"] == "stopped"
    told: list[Mapping[str, Any]] = []
    resumed = run_training(recipe("stopped", **changes), listener=told.append)
    assert told[0]["kind"] == "resume"
    assert told[0]["step"] == 2
    assert told[0]["epoch"] > 0
    assert told[0]["positions"]
    assert told[1]["not_bit_for_bit"] == []
    for name in ("model.safetensors", adapters.ADAPTER, "optimizer.safetensors", "rng.safetensors"):
        if (final(whole) / name).exists():
            assert (final(resumed) / name).read_bytes() == (final(whole) / name).read_bytes()
    losses = [
        [e["loss"] for e in read_record(each.folder / "record.jsonl").of_kind("step")]
        for each in (whole, resumed)
    ]
    assert losses[0] == losses[1]


def test_a_stop_while_the_run_is_opened_needs_no_save(recipe: MakeRecipe) -> None:
    def stop_at_setup(event: Mapping[str, Any]) -> None:
        if event["kind"] in ("setup", "resumed"):
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_training(recipe(), listener=stop_at_setup)
    assert (outcome.state, outcome.step, outcome.checkpoint) == ("stopped", 0, None)
    run_training(recipe(), listener=stop_at(2))
    again = run_training(recipe(), listener=stop_at_setup)
    assert (again.state, again.step, again.exit_code) == ("stopped", 2, 3)
    assert read_json(again.folder / "state.json")["checkpoint"] == "checkpoints/step-2"
    assert run_training(recipe()).state == "finished"


def test_a_second_ctrl_c_does_not_wait(recipe: MakeRecipe) -> None:
    def press_twice(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_training(recipe(), listener=press_twice)
    assert run_training(recipe()).state == "finished"


def test_a_finished_run_has_nothing_left(recipe: MakeRecipe) -> None:
    outcome = run_training(recipe(max_steps=1))
    with pytest.raises(ResumeError, match="nothing remains"):
        run_training(recipe(max_steps=1))
    assert read_json(outcome.folder / "state.json")["state"] == "finished"


def test_another_recipe_or_other_data_do_not_resume(
    recipe: MakeRecipe, world: Any, tmp_path: Path
) -> None:
    run_training(recipe(), listener=stop_at(2))
    with pytest.raises(ResumeError, match=r"pack_tokens: the run has 128, now it is 256"):
        run_training(recipe(pack_tokens=256))
    with pytest.raises(ResumeError, match="train: "):
        run_training(recipe(train={"language": "1e-3"}))
    other = make_store(tmp_path / "other" / "data", 60, first=7)
    with pytest.raises(ResumeError, match=r"sources\.data"):
        run_training(recipe().replace(data=(Source(path=str(other)),)))
    moved_folder = tmp_path / "moved"
    moved_folder.mkdir()
    (moved_folder / "data").symlink_to(world.data)
    elsewhere = recipe(logging_steps=2, save_steps=3).replace(
        data=(Source(path=str(moved_folder / "data")),)
    )
    assert run_training(elsewhere).state == "finished"


def test_lora_resumes_only_on_its_base(recipe: MakeRecipe, world: Any, tmp_path: Path) -> None:
    model = Path(shutil.copytree(world.model, tmp_path / "base"))
    changes = {"method": "lora", "train": {"language": "1e-2"}}
    made = recipe(**changes).replace(model=str(model))
    run_training(made, listener=stop_at(1))
    tensors = weights(model)
    tensors["model.norm.weight"] += 1
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ResumeError, match="holds other weights"):
        run_training(made)


def test_two_processes_never_train_in_one_folder(recipe: MakeRecipe) -> None:
    made = recipe()
    with RunFolder(Path(made.output_dir)), pytest.raises(InputError, match="another process"):
        run_training(made)


def test_what_was_half_written_is_removed(recipe: MakeRecipe) -> None:
    made = recipe(max_steps=1)
    half = Path(made.output_dir) / "checkpoints" / "step-9.partial-0a1b2c3d"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert run_training(made).step == 1
    assert not half.exists()


def test_a_row_that_trains_nothing_stops_the_run_by_its_id(
    recipe: MakeRecipe, world: Any, tmp_path: Path
) -> None:
    from manako.core.conversation import Conversation, Message

    silent = Conversation((Message("user", ("hello?",)),), id="silent")  # type: ignore[arg-type]
    with write_store(tmp_path / "data") as writer:
        writer.add(row_of(make_conversation(0)))
        writer.add(row_of(silent))
    made = recipe().replace(data=(Source(path=str(tmp_path / "data")),))
    with pytest.raises(RowError, match="row silent"):
        run_training(made)
    assert read_json(Path(made.output_dir) / "state.json")["state"] == "failed"


def test_a_rate_that_tears_the_model_apart_stops_before_it_is_saved(recipe: MakeRecipe) -> None:
    made = recipe(train={"language": "1e30"}, max_grad_norm=0, save_steps=1)
    with pytest.raises(ManakoError, match="come apart"):
        run_training(made)
    folder = Path(made.output_dir)
    kept = RunFolder(folder).latest()
    assert kept is not None
    assert all(bool(tensor.isfinite().all()) for tensor in weights(kept).values())
    assert "come apart" in read_json(folder / "state.json")["error"]


def test_wrong_models_are_refused_before_anything_runs(
    recipe: MakeRecipe, world: Any, tmp_path: Path
) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        run_training(recipe().replace(model="Qwen/Qwen2-VL-2B-Instruct"))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        run_training(recipe().replace(model=str(tmp_path)))
    with pytest.raises(RecipeError, match="max_pixels"):
        run_training(recipe(max_pixels=10))


def test_settings_that_others_gave_accelerate_do_not_matter_and_are_kept(
    recipe: MakeRecipe,
) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    theirs = Accelerator(mixed_precision="no", cpu=True)
    try:
        assert run_training(recipe(max_steps=1, bf16=True)).state == "finished"
        assert theirs.mixed_precision == "no"
        assert theirs.num_processes == 1
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
