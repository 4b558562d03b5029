"""Qwen3-VL against transformers' own code: template, positions, deepstack, the required key."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import BatchError, CheckpointError, RowError
from manako.core.example import Example, Pack
from manako.core.files import read_json, write_json
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.families._shared.render import Renderer
from manako.families._shared.sizes import RULES
from manako.families._shared.template import ChatTemplate
from manako.families._shared.tiny_qwen import QWEN3_TEMPLATE
from manako.families.qwen3_vl import FAMILY
from manako.nn import attention
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.nn.patches import multiply_patches
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

SIZES = ((32, 32), (64, 32), (128, 128), (113, 200), (160, 96), (300, 34), (34, 300), (192, 288))
COUNTED = [(w, h) for w in (1, 31, 32, 33, 200, 999, 4000) for h in (1, 16, 63, 500, 1754, 4000)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four blocks in the tower, deepstack from two of them into the first two of three layers."""
    folder = tmp_path_factory.mktemp("qwen3") / "tiny"
    FAMILY.make_tiny(
        folder,
        seed=1,
        vision_layers=4,
        layers=3,
        deepstack=(0, 2),
        min_pixels=1024,
        initializer_range=0.08,
    )
    return folder


def published(name: str = "qwen3_vl") -> str:
    found = importlib.util.find_spec("trl")
    assert found
    assert found.submodule_search_locations
    file = Path(found.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja"
    return file.read_text(encoding="utf-8")


def asked(*content: Any, answer: str = "はい。", id: str = "row") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))), id=id)


ROWS = [
    asked("何?"),
    asked(picture(64, 32), " 説明して\n"),
    asked(picture(64, 32), "これは日本です", picture(32, 96), "これはオーストリアです", "違いは?"),
    Conversation(
        (
            Message("system", (Text("あなたは親切な助手です。"),)),
            Message("user", (Text("a"), picture(32, 32))),
            Message("assistant", (Text(" b "),)),
            Message("user", (picture(32, 32),)),
            Message("assistant", (Text("c\n"),)),
        )
    ),
]


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, FAMILY.open(folder), device="cpu", dtype=torch.float32).inputs


def own_inputs(folder: Path, example: Example) -> dict[str, Any]:
    """What transformers' own call gets: no segments, no positions of ours."""
    inputs = inputs_of(folder, [example])
    return {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_our_rewritten_template_renders_like_the_published_one(
    row: Conversation, prompt: bool
) -> None:
    ours, theirs = (Renderer(ChatTemplate(source)) for source in (QWEN3_TEMPLATE, published()))
    assert ours.render(row, prompt=prompt).text == theirs.render(row, prompt=prompt).text


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_trained_is_what_the_marked_template_of_trl_trains_but_for_the_newline(
    tiny: Path, row: Conversation
) -> None:
    """TRL's marks take the newline after the end of turn along, which no model ever writes."""
    processor: Any = FAMILY.open(tiny)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    messages = [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text} if isinstance(part, Text) else {"type": "image"}
                for part in message.content
            ],
        }
        for message in row.messages
    ]
    theirs = tokenizer.apply_chat_template(
        messages,
        chat_template=published("qwen3_vl_training"),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    marked = np.array(theirs["assistant_masks"], dtype=bool)
    expected = tokenizer.decode(np.array(theirs["input_ids"])[marked])
    example = processor.encode(row)
    found = processor.tokenizer.decode(example.input_ids[example.trained].tolist())
    assert found == expected.replace("<|im_end|>\n", "<|im_end|>")


@pytest.mark.parametrize("sizes", [(), ((32, 32),), ((113, 200), (300, 34), (64, 64))])
def test_positions_equal_get_rope_index(tiny: Path, sizes: Sequence[tuple[int, int]]) -> None:
    content = [part for size in sizes for part in (picture(*size), "と")]
    inputs = inputs_of(tiny, [FAMILY.open(tiny).encode(asked("先", *content))])
    with torch.device("meta"):
        model = Qwen3VLModel(Qwen3VLConfig.from_dict(read_json(tiny / "config.json")))
    expected, _ = model.get_rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        image_grid_thw=inputs.get("image_grid_thw"),
    )
    assert torch.equal(inputs["position_ids"], expected)


def test_image_tokens_are_those_of_the_rule(tiny: Path) -> None:
    settings: Any = FAMILY.open(tiny).with_pixel_limits(min_pixels=65_536)
    counted = 0
    for width, height in COUNTED:
        if max(width, height) > 200 * min(width, height):
            continue  # refused by name; law 5 sees it
        rule = RULES["qwen"].count(
            width, height, factor=32, min_pixels=65_536, max_pixels=16_777_216
        )
        assert FAMILY.image_tokens(width, height, settings.settings) == rule
        counted += 1
    assert counted >= 30


def test_packed_equals_one_by_one_with_deepstack(tiny: Path) -> None:
    """Pictures of every shape, several in a row, and text alone between them: what deepstack adds
    must fall on the places of its own picture."""
    processor = FAMILY.open(tiny)
    rows = [asked(picture(*size), "何?") for size in SIZES[:4]]
    rows += [asked("hello"), asked(picture(96, 64), "a", picture(200, 120), "b"), asked("再び")]
    rows += [asked(picture(*size), "何?") for size in SIZES[4:]]
    examples = [processor.encode(row) for row in rows]
    packed = load_model(tiny, FAMILY)
    attention.use_segments(packed)
    assert multiply_patches(packed) == 1
    alone: Any = load_model(tiny, FAMILY)
    with torch.no_grad():
        found = packed(**inputs_of(tiny, examples)).logits[0]
        singles = [alone(**own_inputs(tiny, example)).logits[0] for example in examples]
        expected = torch.cat(singles)
        for merger in alone.model.visual.deepstack_merger_list:
            merger.linear_fc2.weight.zero_()
        without = torch.cat([alone(**own_inputs(tiny, e)).logits[0] for e in examples])
    spread = expected.std()
    # Sums in another order; the worst seen is 3e-6 of the spread.
    assert float((found - expected).abs().max() / spread) < 1e-5
    # Deepstack counts for something here, so the figure above is about it too.
    assert float((without - expected).abs().max() / spread) > 1e-2


def test_greedy_tokens_are_those_of_transformers_alone_and_in_a_batch(tiny: Path) -> None:
    from manako.infer.open import open_model

    prompts: list[Any] = [[picture(*size), "何ですか"] for size in SIZES[:4]]
    prompts += [["hello"], ["前", picture(64, 96), "中", picture(96, 64), "後"]]
    model = open_model(tiny)
    together = model.generate_batch(prompts, max_new_tokens=6)
    reference = Qwen3VLForConditionalGeneration.from_pretrained(tiny).eval()
    for prompt, reply in zip(prompts, together, strict=True):
        example = model.processor.encode_prompt(Conversation.of(prompt))
        inputs = own_inputs(tiny, example)
        inputs.pop("logits_to_keep")
        answer = reference.generate(**inputs, do_sample=False, max_new_tokens=6)
        answer = answer[0, example.tokens :].tolist()
        alone = model.generate_content(prompt, max_new_tokens=6)
        assert reply.token_ids == alone.token_ids
        assert list(alone.token_ids) == answer[: len(alone.token_ids)]


@pytest.mark.slow
def test_trained_exported_and_asked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part at once, the deepstack mergers whole, with layers computed again."""
    from manako.export.safetensors import export
    from manako.infer.open import open_model
    from manako.train.loop import run_training

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with write_store(tmp_path / "data") as writer:
        for number in range(12):
            content = ("何ですか", picture(64, 96)) if number % 3 else ("言って",)
            writer.add(row_of(asked(*content, answer=f"{number}です", id=f"row-{number}")))
    recipe = Recipe(
        model=str(tiny),
        data=(Source(path=str(tmp_path / "data")),),
        output_dir=str(tmp_path / "run"),
        train={"language": "lora 3e-3", "projector": "full 1e-3", "vision": "lora 1e-3"},
        lora_r=2,
        gradient_checkpointing=True,
        pack_tokens=256,
        max_steps=3,
        dataloader_num_workers=0,
    )
    run = run_training(recipe)
    export(run.folder, tmp_path / "out", dtype="float32")
    prompt: list[Any] = [picture(64, 96), "何ですか"]
    exported, trained = open_model(tmp_path / "out"), open_model(run.folder)
    merged = exported.generate_content(prompt, max_new_tokens=8).token_ids
    assert merged == trained.generate_content(prompt, max_new_tokens=8).token_ids
    assert merged != open_model(tiny).generate_content(prompt, max_new_tokens=8).token_ids
    assert Subject(tmp_path / "out").verdict(laws()[8]).state == "holds"


def test_without_token_types_the_model_raises_and_so_do_we(tiny: Path) -> None:
    processor = FAMILY.open(tiny)
    inputs = own_inputs(tiny, processor.encode(asked(picture(113, 200), "何?")))
    inputs.pop("mm_token_type_ids")
    with pytest.raises(ValueError, match="mm_token_type_ids"):
        load_model(tiny, FAMILY)(**inputs)
    with pytest.raises(BatchError, match="mm_token_type_ids"):
        processor.require({k: v.numpy() for k, v in inputs.items() if torch.is_tensor(v)})


def test_a_system_turn_that_is_not_first_is_refused(tiny: Path) -> None:
    turns = (
        Message("user", (Text("a"),)),
        Message("system", (Text("after"),)),
        Message("assistant", (Text("b"),)),
    )
    with pytest.raises(RowError, match=r"turn 1 \(system\)"):
        FAMILY.open(tiny).encode(Conversation(turns, id="row"))


def test_a_picture_in_an_answer_is_refused(tiny: Path) -> None:
    turns = (Message("user", (Text("draw"),)), Message("assistant", (Text("a"), picture(32, 32))))
    with pytest.raises(RowError, match="0 image marks for 1 images"):
        FAMILY.open(tiny).encode(Conversation(turns, id="row"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 14}, "patch_size 14"),
        ({"merge_size": 1}, "merge_size 1"),
        ({"resample": 2}, "resample 2"),
    ],
)
def test_files_that_disagree_are_refused(
    tiny: Path, tmp_path: Path, change: dict[str, int], said: str
) -> None:
    """14 is what the shared processor class assumes where the file says nothing."""
    folder = tmp_path / "mixed"
    shutil.copytree(tiny, folder)
    file = folder / "preprocessor_config.json"
    write_json(file, {**read_json(file), **change})
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(folder)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer.json"])
def test_a_missing_file_is_named(tiny: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "missing"
    shutil.copytree(tiny, folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        FAMILY.open(folder)


def test_saved_settings_are_those_in_force(tiny: Path, tmp_path: Path) -> None:
    processor = FAMILY.open(tiny).with_pixel_limits(min_pixels=4096, max_pixels=20_000)
    processor.save(tmp_path)
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(tiny / name, tmp_path / name)
    row = asked(picture(300, 200), "?")
    again = FAMILY.open(tmp_path).encode(row)
    assert np.array_equal(again.input_ids, processor.encode(row).input_ids)
    assert read_json(tmp_path / "preprocessor_config.json")["patch_size"] == 16
