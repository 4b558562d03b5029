"""Qwen2.5-VL against transformers' own code: positions, windows, the silent key, and the whole path."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import BatchError
from manako.core.example import Example, Pack
from manako.core.family import families
from manako.core.files import read_json
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.families.qwen2_5_vl import FAMILY
from manako.nn import attention
from manako.nn.adapters import attach
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.nn.patches import multiply_patches
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

SIZES = ((28, 28), (56, 28), (112, 112), (113, 200), (140, 84), (300, 30), (30, 300), (168, 252))
"""Pictures of one token, of one whole window, and of windows that are cut at either edge."""


@pytest.fixture(scope="module", params=[56, 112], ids=["window-56", "window-112"])
def windowed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four blocks, one of them over the whole picture. 112 is the published size of a window."""
    folder = tmp_path_factory.mktemp("qwen25") / "model"
    FAMILY.make_tiny(
        folder,
        min_pixels=784,
        vision_layers=4,
        full_blocks=(2,),
        window_size=request.param,
        initializer_range=0.1,
    )
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen25") / "tiny"
    FAMILY.make_tiny(folder, seed=1, min_pixels=784, initializer_range=0.05)
    return folder


def asked(*content: Any, answer: str = "はい。") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))))


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, FAMILY.open(folder), device="cpu", dtype=torch.float32).inputs


def examples_of(folder: Path) -> list[Example]:
    processor = FAMILY.open(folder)
    rows = [asked(picture(*size), "何?") for size in SIZES]
    rows += [asked("hello"), asked(picture(84, 56), "a", picture(200, 120), "b")]
    return [processor.encode(row) for row in rows]


@pytest.mark.parametrize("sizes", [(), ((28, 28),), ((113, 200), (300, 30), (56, 56))])
def test_positions_equal_get_rope_index(tiny: Path, sizes: Sequence[tuple[int, int]]) -> None:
    content = [part for size in sizes for part in (picture(*size), "と")]
    inputs = inputs_of(tiny, [FAMILY.open(tiny).encode(asked("先", *content))])
    with torch.device("meta"):
        model = Qwen2_5_VLModel(Qwen2_5_VLConfig(**read_json(tiny / "config.json")))
    expected, _ = model.get_rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        image_grid_thw=inputs.get("image_grid_thw"),
    )
    assert torch.equal(inputs["position_ids"], expected)


def test_packed_equals_one_by_one_in_windows_of_every_shape(windowed: Path) -> None:
    examples = examples_of(windowed)
    packed = load_model(windowed, FAMILY)
    attention.use_segments(packed)
    assert multiply_patches(packed) == 1
    alone = load_model(windowed, FAMILY)
    with torch.no_grad():
        found = packed(**inputs_of(windowed, examples)).logits[0]
        singles = []
        for example in examples:
            inputs = inputs_of(windowed, [example])
            inputs = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
            singles.append(alone(**inputs).logits[0])
    expected = torch.cat(singles)
    # Sums in another order; the worst seen is 2e-6 of the spread.
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


def test_attention_is_handed_windows_and_whole_pictures(
    windowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[tuple[int, ...]] = []
    original = attention._boundaries

    def noted(module: Any, query: Any, causal: bool, segments: Any, cu: Any) -> Any:
        found = original(module, query, causal, segments, cu)
        if cu is not None:
            lengths.append(tuple(b - a for a, b in pairwise(found)))
        return found

    monkeypatch.setattr(attention, "_boundaries", noted)
    model = load_model(windowed, FAMILY)
    attention.use_segments(model)
    examples = examples_of(windowed)
    with torch.no_grad():
        model(**inputs_of(windowed, examples))
    patches = tuple(len(image.pixels) for example in examples for image in example.images)
    side = read_json(windowed / "config.json")["vision_config"]["window_size"] // 14
    in_windows = [found for place, found in enumerate(lengths) if place != 2]
    assert lengths[2] == patches
    assert len(lengths) == 4
    assert all(max(found) == side**2 and sum(found) == sum(patches) for found in in_windows)


@pytest.mark.parametrize("cut", ["windows joined", "pictures joined"])
def test_law_7_sees_windows_or_pictures_that_see_each_other(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """Boundaries that are too few, in the window blocks or in those over the whole picture."""
    original = attention._boundaries
    calls: list[int] = []

    def joined(module: Any, query: Any, causal: bool, segments: Any, cu: Any) -> Any:
        found = original(module, query, causal, segments, cu)
        if cu is None:
            return found
        calls.append(len(found))
        is_windowed = len(calls) % 2 == 1  # of two blocks, the second sees the whole picture
        if is_windowed == (cut == "windows joined"):
            return (0, found[-1]) if cut == "pictures joined" else (*found[:-2], found[-1])
        return found

    monkeypatch.setattr(attention, "_boundaries", joined)
    assert Subject(tiny).verdict(laws()[6]).state == "fails"
    assert calls


def test_transformers_is_silent_without_the_token_types_and_we_are_not(tiny: Path) -> None:
    """Why law 13 holds the key: the model raises nothing, and its answer is another."""
    processor = FAMILY.open(tiny)
    inputs = inputs_of(tiny, [processor.encode(asked(picture(113, 200), "何?"))])
    own = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
    model = load_model(tiny, FAMILY)
    with torch.no_grad():
        right = model(**own).logits
        silent = model(**{k: v for k, v in own.items() if k != "mm_token_type_ids"}).logits
    assert float((right - silent).abs().max() / right.std()) > 0.01
    without = {k: v.numpy() for k, v in own.items() if torch.is_tensor(v)}
    without.pop("mm_token_type_ids")
    with pytest.raises(BatchError, match="mm_token_type_ids"):
        processor.require(without)


def test_adapters_hit_the_mlp_of_their_own_part_only(tiny: Path) -> None:
    for part, count in (("vision", 2 * 5), ("language", 2 * 7), ("projector", 2)):
        model = load_model(tiny, FAMILY)
        names = attach(model, FAMILY, [part], r=2, alpha=4)  # type: ignore[list-item]
        assert len(names) == count
        assert {FAMILY.part_of(name) for name in names} == {part}
    model = load_model(tiny, FAMILY)
    bare = {n for n, _ in model.named_modules() if re.fullmatch(r".*\.(gate|up|down)_proj", n)}
    assert {FAMILY.part_of(name) for name in bare} == {"vision", "language"}


def test_the_two_families_differ_in_what_reads_a_checkpoint_as_theirs(tiny: Path) -> None:
    other = families().items["qwen2_vl"]
    assert not set(FAMILY.model_types) & set(other.model_types)
    assert FAMILY.open(tiny).family == "qwen2_5_vl"


def stop_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return listen


@pytest.fixture
def recipe(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with write_store(tmp_path / "data") as writer:
        for number in range(14):
            size = (28 * (1 + number % 5), 28 * (1 + number % 3))
            content = (Text("何ですか"), picture(*size)) if number % 4 else (Text("言って"),)
            turns = (Message("user", content), Message("assistant", (Text(f"{number}です"),)))
            writer.add(row_of(Conversation(turns, id=f"row-{number}")))
    return Recipe(
        model=str(tiny),
        data=(Source(path=str(tmp_path / "data")),),
        output_dir=str(tmp_path / "run"),
        pack_tokens=128,
        global_batch_packs=2,
        pack_window_rows=8,
        max_steps=4,
        dataloader_num_workers=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"language": "3e-3", "projector": "3e-3", "vision": "3e-3"}},
        {
            "method": "lora",
            "lora_r": 2,
            "train": {"language": "3e-3", "projector": "full 3e-3", "vision": "lora 3e-3"},
        },
    ],
    ids=["full", "lora"],
)
def test_trained_stopped_resumed_exported_and_asked(
    recipe: Recipe, tmp_path: Path, changes: dict[str, Any]
) -> None:
    from manako.export.safetensors import export
    from manako.infer.open import open_model
    from manako.train.loop import run_training

    whole = run_training(recipe.replace(output_dir=str(tmp_path / "whole"), **changes))
    again = recipe.replace(**changes)
    assert run_training(again, listener=stop_at(2)).state == "stopped"
    resumed = run_training(again)
    ends = [each.folder / "checkpoints" / "step-4" for each in (whole, resumed)]
    names = {file.name for file in ends[0].glob("*.safetensors")}
    assert names == {file.name for file in ends[1].glob("*.safetensors")}
    for name in names:
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes(), name

    export(resumed.folder, tmp_path / "out", dtype="float32")
    exported = open_model(tmp_path / "out")
    prompt = [picture(113, 84), "何ですか"]
    reply = exported.generate_content(prompt, max_new_tokens=12)
    assert reply.text == open_model(resumed.folder).generate_content(prompt, max_new_tokens=12).text
    reference = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    example = exported.processor.encode_prompt(Conversation.of(prompt))
    inputs = inputs_of(tmp_path / "out", [example])
    asked_of = ("input_ids", "pixel_values", "image_grid_thw", "mm_token_type_ids")
    answer = reference.generate(
        **{name: inputs[name] for name in asked_of}, do_sample=False, max_new_tokens=12
    )[0, example.tokens :]
    assert np.array_equal(answer[: len(reply.token_ids)].tolist(), reply.token_ids)


def test_pictures_of_a_batch_answer_as_alone(tiny: Path) -> None:
    from manako.infer.open import open_model

    model = open_model(tiny)
    prompts: list[list[Image | str]] = [[picture(*size), "何ですか"] for size in SIZES[:5]]
    prompts.append(["hello"])
    together = model.generate_batch(prompts, max_new_tokens=6)  # type: ignore[arg-type]
    alone = [model.generate_content(prompt, max_new_tokens=6) for prompt in prompts]  # type: ignore[arg-type]
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]
