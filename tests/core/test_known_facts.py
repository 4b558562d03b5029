"""Facts that a checkpoint's files contradict: refused by name, or accepted by name."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

import manako
from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError
from manako.core.family import families
from manako.core.files import read_json, write_json
from manako.core.known_facts import accepting, check_facts
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.train.loop import run_training
from manako.verbs.plan import look
from manako.verify._subject import picture


def test_a_fact_is_refused_or_accepted_by_its_name() -> None:
    with pytest.raises(CheckpointError, match=r"file\.json says mean 0\.4") as caught:
        check_facts("file.json", ("std", 1, 1), ("mean", 0.4, 0.5))
    assert "accept_facts: [mean]" in str(caught.value.next_step)
    with accepting(["mean"]):
        check_facts("file.json", ("mean", 0.4, 0.5))
        with accepting(["std"]):
            check_facts("file.json", ("mean", 0.4, 0.5), ("std", 2, 1))
        with pytest.raises(CheckpointError, match="std"):
            check_facts("file.json", ("std", 2, 1))
    with pytest.raises(CheckpointError, match="mean"):
        check_facts("file.json", ("mean", 0.4, 0.5))


@pytest.fixture(scope="module")
def contradicting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny DeepSeek-VL2, and the same whose processor_config.json says another mean."""
    straight = tmp_path_factory.mktemp("facts") / "straight"
    families().items["deepseek_vl2"].make_tiny(straight)
    crooked = straight.with_name("crooked")
    shutil.copytree(straight, crooked)
    file = crooked / "processor_config.json"
    write_json(file, {**read_json(file), "image_mean": [0.4, 0.4, 0.4]})
    return straight, crooked


def test_a_model_opens_by_what_is_known_once_told(contradicting: tuple[Path, Path]) -> None:
    straight, crooked = contradicting
    with pytest.raises(CheckpointError, match="image_mean"):
        manako.load(crooked)
    asked = [picture(40, 30), "何?"]
    replies = [
        manako.load(folder, accept_facts=["image_mean"]).generate_content(asked, max_new_tokens=4)
        for folder in contradicting
    ]
    assert replies[0].token_ids == replies[1].token_ids
    assert straight != crooked


def test_a_recipe_accepts_and_its_run_opens_without_being_told_again(
    contradicting: tuple[Path, Path], tmp_path: Path
) -> None:
    with write_store(tmp_path / "data", origin={"format": "test"}) as writer:
        for number in range(3):
            turns = (
                Message("user", (picture(40, 30), Text("何?"))),
                Message("assistant", (Text("これです。"),)),
            )
            writer.add(row_of(Conversation(turns, id=str(number))))
    recipe = Recipe(
        model=str(contradicting[1]),
        data=(Source(path=str(tmp_path / "data")),),
        output_dir=str(tmp_path / "run"),
        accept_facts=("image_mean",),
        pack_tokens=2048,
        global_batch_packs=1,
        max_steps=1,
        dataloader_num_workers=0,
    )
    with pytest.raises(CheckpointError, match="image_mean"):
        look(dataclasses.replace(recipe, accept_facts=()))
    assert look(recipe).plan.memory.total > 0
    run_training(recipe)
    reply = manako.load(tmp_path / "run").generate_content(["何?"], max_new_tokens=2)
    assert len(reply.token_ids) > 0
