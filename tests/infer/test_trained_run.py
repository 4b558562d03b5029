"""A LoRA run, from the real training loop to an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import Qwen2VLForConditionalGeneration

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.infer.decode import prepare
from manako.infer.open import open_model
from manako.train.loop import run_training

MAX_PIXELS = 784 * 4


@pytest.fixture
def run(
    lively: Path,
    tmp_path: Path,
    picture: Callable[[int, int], Image],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Three steps: adapters on the language part, the projector in full, picture limits of its own."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with write_store(tmp_path / "data") as writer:
        for number in range(12):
            asked = (picture(28 * (1 + number % 4), 56), Text("何ですか"))
            turns = (Message("user", asked), Message("assistant", (Text(f"{number}です"),)))
            writer.add(row_of(Conversation(turns, id=f"row-{number}")))
    recipe = Recipe(
        model=str(lively),
        data=(Source(path=str(tmp_path / "data")),),
        output_dir=str(tmp_path / "run"),
        method="lora",
        lora_r=2,
        train={"language": "1e-2", "projector": "full 1e-3"},
        max_pixels=MAX_PIXELS,
        pack_tokens=256,
        global_batch_packs=1,
        pack_window_rows=8,
        max_steps=3,
        dataloader_num_workers=0,
    )
    run_training(recipe)
    return tmp_path / "run"


# PEFT 0.21 asks transformers 5.24 by a name that it left.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_it_is_what_peft_makes_of_it_and_sees_what_it_was_trained_on(
    run: Path, lively: Path, picture: Callable[[int, int], Image]
) -> None:
    model = open_model(run)
    assert model.adapter is not None
    assert (model.folder, model.adapter.name) == (lively, "step-3")
    seen = model.processor.see(picture(200, 200))
    assert seen.pixels.shape[0] * seen.pixels.shape[1] <= MAX_PIXELS

    asked = Conversation.of([picture(90, 60), "何ですか"])
    inputs = prepare(
        [model.processor.encode_prompt(asked)],
        model.processor,
        max_new_tokens=1,
        network=model.network,
    ).inputs
    base = Qwen2VLForConditionalGeneration.from_pretrained(lively)
    reference = PeftModel.from_pretrained(base, model.adapter).eval()
    with torch.no_grad():
        mine, expected = model.network(**inputs).logits, reference(**inputs).logits
        without = open_model(lively).network(**inputs).logits
    # The same operations in the same order; only the modules around them differ.
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)
    assert (mine - without).abs().max() > 1e-2
