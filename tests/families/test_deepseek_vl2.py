"""DeepSeek-VL2 against what its authors' public code does: tiles, prompt, files, three variants."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_rows import ODD_SIZES, asked, gap_of_packing, inputs_of, same_as_generate
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError, ImageError, TemplateError
from manako.core.family import family_of
from manako.core.files import read_json, write_json
from manako.core.images import decode_rgb
from manako.core.recipe import Recipe, Source
from manako.core.record import read_record
from manako.data.convert import convert
from manako.families._shared.deepseek_vl2 import TileSettings, tile_cost
from manako.families._shared.sizes import image_tokens
from manako.families._shared.tiny_deepseek import CANDIDATES, ROUTER_BIAS, Variant
from manako.families.deepseek_vl2 import FAMILY
from manako.nn.adapters import ADAPTER
from manako.nn.checkpoint import load_model
from manako.samples.forms import write_forms
from manako.train.loop import run_training
from manako.verify._subject import Subject, picture
from manako.verify.golden.make_deepseek_vl2 import PUBLISHED as RESOLUTIONS
from manako.verify.golden.make_deepseek_vl2 import _best
from manako.verify.runner import laws

PUBLISHED = TileSettings(
    tile=384, patch=14, side=14, sheets=tuple((w // 384, h // 384) for w, h in RESOLUTIONS)
)
VARIANTS: tuple[Variant, ...] = ("mha_softmax", "mla_softmax", "mla_sigmoid")
MERGING = [":Yes it is. :No.", "答え:Yes\n\n"] * 40
"""A corpus whose tokenizer joins a colon to the letters after it."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deepseek") / "tiny"
    FAMILY.make_tiny(folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def merging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deepseek") / "merging"
    FAMILY.make_tiny(folder, seed=1, corpus=MERGING)
    return folder


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deepseek") / request.param
    FAMILY.make_tiny(folder, seed=2, variant=request.param, initializer_range=0.2)
    return folder


# ---- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sheet", "tokens"),
    [
        ((384, 384), (384, 384), 421),
        ((640, 480), (768, 768), 1023),
        ((1920, 1080), (1536, 768), 1807),
        ((1000, 1000), (1152, 1152), 2017),
        ((200, 1000), (384, 1152), 841),
        ((2000, 300), (2304, 384), 1401),
        ((1024, 768), (1152, 768), 1415),
        ((384, 3456), (384, 3456), 2101),
        ((3456, 384), (3456, 384), 1989),
    ],
)
def test_published_sizes_cost_what_they_should(
    size: tuple[int, int], sheet: tuple[int, int], tokens: int
) -> None:
    cost = tile_cost(*size, PUBLISHED)
    assert (cost.size, cost.tokens) == (sheet, tokens)
    assert cost.patches == 27**2 * (1 + cost.grid[0] * cost.grid[1])


@pytest.mark.parametrize("size", ODD_SIZES)
def test_sheet_and_tokens_are_those_of_the_authors_rule(size: tuple[int, int]) -> None:
    if max(size) >= 768 * min(size):  # such a side is under half a pixel in a tile of 384
        with pytest.raises(ImageError, match="in a tile"):
            tile_cost(*size, PUBLISHED)
        with pytest.raises(ImageError, match="in a tile"):
            image_tokens("deepseek_vl2", *size)
        return
    cost = tile_cost(*size, PUBLISHED)
    assert cost.size == _best(size, list(RESOLUTIONS))
    assert cost.tokens == image_tokens("deepseek_vl2", *size)
    one = tile_cost(*size, PUBLISHED, is_cut=False)
    assert (one.grid, one.tokens) == ((1, 1), 421)


def test_the_tiny_candidates_are_the_published_ones() -> None:
    assert PUBLISHED.sheets == CANDIDATES
    assert len(set(CANDIDATES)) == len(CANDIDATES) == 23


def test_up_to_two_pictures_of_a_whole_conversation_are_cut_up(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    wide = picture(120, 40)
    first = Message("user", (wide, Text("a")))
    answer = Message("assistant", (Text("b"),))
    for turns, grid in (([first], (3, 1)), ([first, answer, first], (3, 1)), ([first] * 3, (1, 1))):
        example = processor.encode_prompt(Conversation(tuple(turns)))
        assert {image.grid for image in example.images} == {grid}
        assert processor.measure(Conversation((*turns, answer))).image_tokens == sum(
            image.tokens for image in example.images
        )


def test_inputs_are_the_whole_then_tiles_row_by_row_and_their_places(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    images = [picture(84, 40), picture(30, 126)]
    inputs = inputs_of(tiny, FAMILY, [processor.encode(asked("a", *images, "b"))])
    assert inputs["images_spatial_crop"].tolist() == [[2, 1], [1, 3]]
    assert inputs["pixel_values"].shape == (1 + 2 + 1 + 3, 3, 42, 42)
    mask, ids = inputs["images_seq_mask"], inputs["input_ids"]
    assert mask.dtype == torch.bool
    assert torch.equal(mask, ids == processor.image_token_id)
    assert int(mask.sum()) == sum(
        7 + 2 * rows * (2 * columns + 1) for columns, rows in [(2, 1), (1, 3)]
    )
    # 84 × 40 fills its sheet but for a row above and below: there, and only there, it is grey.
    sheet = processor.resize(decode_rgb(images[0].data), processor.cost(84, 40))
    assert (sheet[0] == 127).all()
    assert np.array_equal(sheet[1:41], decode_rgb(images[0].data))
    tiles = ((inputs["pixel_values"][1:3] * 0.5 + 0.5) * 255).round().byte().numpy()
    assert np.array_equal(np.concatenate(list(tiles), axis=2).transpose(1, 2, 0), sheet)


# ---- prompt --------------------------------------------------------------------------------------


def authors_ids(folder: Path, turns: Sequence[tuple[str, str]], counts: Sequence[int]) -> list[int]:
    """As the authors' processor writes and encodes a conversation, piece by piece: `<image>` stands
    in the text, counts: tokens of each picture."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    begin, end, image = (
        tokenizer.token_to_id(token)
        for token in ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<image>")
    )
    left = iter(counts)
    ids = [begin]
    for role, content in turns:
        text = content.strip()
        if role == "user":
            text = f"<|User|>: {text}\n\n<|Assistant|>:"
        first, *others = text.split("<image>")
        ids += tokenizer.encode(first, add_special_tokens=False).ids
        for other in others:
            ids += [image] * next(left)
            ids += tokenizer.encode(other, add_special_tokens=False).ids
        if role == "assistant":
            ids.append(end)
    return ids


def test_prompt_and_answers_are_the_authors_ids(merging: Path) -> None:
    """With a tokenizer that would join the colon of the answer's head to the answer."""
    processor: Any = FAMILY.open(merging)
    wide, tall = picture(120, 40), picture(40, 90)
    row = Conversation(
        (
            Message("system", (Text(" 簡潔に。 "),)),
            Message("user", (wide, Text("Is it wide?"))),
            Message("assistant", (Text("Yes it is."),), train=False),
            Message("user", (Text("And this: "), tall, Text("\nshorter?\n"))),
            Message("assistant", (Text("\nNo."),)),
            Message("user", (Text("Yes?"),)),
            Message("assistant", (Text("Yes"),)),
        )
    )
    turns = [
        ("system", " 簡潔に。 "),
        ("user", "<image>\nIs it wide?"),
        ("assistant", "Yes it is."),
        ("user", "And this: <image>\nshorter?\n"),
        ("assistant", "\nNo."),
        ("user", "Yes?"),
        ("assistant", "Yes"),
    ]
    example = processor.encode(row)
    counts = [image.tokens for image in example.images]
    expected = authors_ids(merging, turns, counts)
    assert example.input_ids.tolist() == expected
    asked_ids = processor.encode_prompt(Conversation(row.messages[:-1])).input_ids.tolist()
    assert asked_ids == authors_ids(merging, turns[:-1], counts)
    joined = Tokenizer.from_file(str(merging / "tokenizer.json")).encode(
        processor.tokenizer.decode(expected), add_special_tokens=False
    )
    assert joined.ids != expected
    assert Subject(merging).verdict(laws()[0]).state == "holds"
    trained = processor.token_texts(example.input_ids[example.trained].tolist())
    end = "<｜end▁of▁sentence｜>"
    assert "".join(trained) == f"No.{end}Yes{end}"


@pytest.mark.parametrize(
    ("content", "written"),
    [
        (["何?"], "<|User|>: 何?\n\n"),
        (["P", "何?"], "<|User|>: <image>\n何?\n\n"),
        (["何? ", "P"], "<|User|>: 何? <image>\n\n"),
        (["P"], "<|User|>: <image>\n\n"),
        (["P", "P", "違いは?"], "<|User|>: <image>\n<image>\n違いは?\n\n"),
        (
            ["This is image_1: ", "P", "This is image_2: ", "P", "\n What?"],
            "<|User|>: This is image_1: <image>\nThis is image_2: <image>\n What?\n\n",
        ),
    ],
)
def test_the_prompt_is_written_as_the_authors_write_it(
    tiny: Path, content: list[str], written: str
) -> None:
    processor: Any = FAMILY.open(tiny)
    parts = [picture(30, 30) if part == "P" else part for part in content]
    layout = processor.maker.prompt(Conversation.of(parts))
    text = processor.tokenizer.decode(layout.ids)
    assert text == f"<｜begin▁of▁sentence｜>{written}<|Assistant|>:"


def test_turns_that_the_format_does_not_have_are_refused(tiny: Path) -> None:
    processor = FAMILY.open(tiny)
    user, answer = Message("user", (Text("a"),)), Message("assistant", (Text("b"),))
    late = Message("system", (Text("c"),))
    seen = Message("assistant", (picture(9, 9), Text("b")))
    for turns, said in (
        ((user, late, user), "a system turn cannot stand here"),
        ((user, seen), "no image"),
    ):
        with pytest.raises(TemplateError, match=said):
            processor.encode(Conversation((*turns, user, answer)))


def test_places_are_tokens_also_in_a_content(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    answer = "<|ref|>犬<|/ref|><|det|>[[0, 10, 999, 500]]<|/det|>"
    spelled = "<|User|><image><｜end▁of▁sentence｜>"
    row = asked(picture(30, 30), f"<|grounding|>{spelled}<|ref|>犬<|/ref|>", answer=answer)
    example = processor.encode(row)
    count = {
        token: int((example.input_ids == processor.tokenizer.id_of(token)).sum())
        for token in ("<|grounding|>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|User|>")
    }
    assert list(count.values()) == [1, 2, 2, 1, 1, 1]
    assert int((example.input_ids == processor.image_token_id).sum()) == example.images[0].tokens
    answered = example.input_ids[example.trained].tolist()
    assert processor.tokenizer.id_of("<|det|>") in answered
    assert processor.parse(answered).text == answer


# ---- files ---------------------------------------------------------------------------------------


def changed(folder: Path, target: Path, file: str, **fields: Any) -> Path:
    """A copy with other fields in one of its files; None takes a field out."""
    shutil.copytree(folder, target)
    whole = {**read_json(target / file), **fields}
    write_json(target / file, {key: value for key, value in whole.items() if value is not None})
    return target


def of_tower(name: str | None) -> dict[str, Any]:
    return {"vision_config": {} if name is None else {"model_name": name}}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            of_tower("deeplip_b_l"),
            r"vision tower is deeplip_b_l, that of DeepSeek-OCR; expected sig",
        ),
        (of_tower("deepencoderv2"), r"deepencoderv2, that of DeepSeek-OCR 2;"),
        (of_tower("siglip_large_patch16_384"), r"is siglip_large_patch16_384; expected"),
        (of_tower(None), r"names no vision tower \(vision_config\.model_name\)"),
        ({"vision_config": None}, r"names no vision tower"),
        ({"projector_config": {"projector_type": "linear"}}, r"linear, that of DeepSeek-OCR;"),
    ],
)
def test_models_of_the_same_type_are_told_apart(
    tiny: Path, tmp_path: Path, fields: Mapping[str, Any], said: str
) -> None:
    folder = changed(tiny, tmp_path / "other", "config.json", **fields)
    with pytest.raises(CheckpointError, match=said):
        family_of(folder)
    assert family_of(tiny) is FAMILY


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("processor_config.json", {"patch_size": 16}, "patch_size 16, config.json 14"),
        ("processor_config.json", {"downsample_ratio": 3}, "downsample_ratio 3, config.json 2"),
        ("processor_config.json", {"candidate_resolutions": [[42, 42]]}, "candidate_resolutions"),
        ("processor_config.json", {"image_mean": [0.4] * 3}, "image_mean"),
        ("processor_config.json", {"image_std": [0.4] * 3}, "image_std"),
        ("processor_config.json", {"normalize": False}, "normalize False"),
        ("processor_config.json", {"image_token": "<img>"}, "image_token '<img>'"),
        ("processor_config.json", {"sft_format": "plain"}, "sft_format 'plain'"),
        ("config.json", {"tile_tag": "1D"}, "tile_tag 1D"),
        ("config.json", {"tile_tag": None}, "tile_tag None"),
        ("config.json", {"global_view_pos": "tail"}, "global_view_pos tail"),
    ],
)
def test_files_that_contradict_each_other_or_the_facts_are_refused(
    tiny: Path, tmp_path: Path, file: str, fields: dict[str, Any], said: str
) -> None:
    folder = changed(tiny, tmp_path / "other", file, **fields)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(folder)


def test_a_sheet_that_is_no_number_of_tiles_is_refused(tiny: Path, tmp_path: Path) -> None:
    odd = {"candidate_resolutions": [[42, 42], [42, 63]]}
    folder = changed(tiny, tmp_path / "other", "config.json", **odd)
    write_json(
        folder / "processor_config.json", {**read_json(tiny / "processor_config.json"), **odd}
    )
    with pytest.raises(CheckpointError, match="no multiple of a tile's 42"):
        FAMILY.open(folder)


def test_a_tokenizer_without_the_prompts_tokens_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = changed(tiny, tmp_path / "other", "tokenizer_config.json", added_tokens_decoder=None)
    whole = read_json(folder / "tokenizer.json")
    kept = [token for token in whole["added_tokens"] if token["content"] != "<|Assistant|>"]
    write_json(folder / "tokenizer.json", {**whole, "added_tokens": kept})
    with pytest.raises(CheckpointError, match=r"no control token <\|Assistant\|>"):
        FAMILY.open(folder)


def test_what_a_processor_file_leaves_out_is_read_from_the_config(
    tiny: Path, tmp_path: Path
) -> None:
    folder = changed(tiny, tmp_path / "other", "processor_config.json")
    write_json(folder / "processor_config.json", {"processor_class": "DeepseekVLV2Processor"})
    assert FAMILY.open(folder).settings == FAMILY.open(tiny).settings  # type: ignore[attr-defined]


def test_a_template_that_somebody_added_is_the_one_that_is_used(tiny: Path, tmp_path: Path) -> None:
    folder = changed(
        tiny,
        tmp_path / "other",
        "tokenizer_config.json",
        chat_template=(
            "{{ bos_token }}{% for m in messages %}Q{% for p in m.content %}"
            "{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}{{ eos_token }}{% endfor %}"
        ),
    )
    layout = FAMILY.open(folder).maker.prompt(Conversation.of(["a"]))  # type: ignore[attr-defined]
    assert "Qa" in FAMILY.open(folder).tokenizer.decode(layout.ids)  # type: ignore[attr-defined]


def test_the_tiny_checkpoint_has_the_published_layout(variant: Path) -> None:
    config = read_json(variant / "config.json")
    assert "architectures" not in config
    assert config["model_type"] == "deepseek_vl_v2"
    assert not (variant / "chat_template.jinja").exists()
    assert "chat_template" not in read_json(variant / "tokenizer_config.json")
    names = set(load_file(variant / "model.safetensors"))
    layer = "language.model.layers.1"
    assert {
        "image_newline",
        "view_seperator",
        "projector.layers.0.weight",
        "projector.layers.2.bias",
        "vision.pos_embed",
        "vision.patch_embed.proj.weight",
        "vision.blocks.0.attn.qkv.weight",
        "vision.attn_pool.latent",
        "vision.attn_pool.mlp.fc2.bias",
        "language.lm_head.weight",
        f"{layer}.mlp.gate.weight",
        f"{layer}.mlp.experts.7.gate_proj.weight",
        f"{layer}.mlp.experts.7.down_proj.weight",
        f"{layer}.mlp.shared_experts.up_proj.weight",
        "language.model.layers.0.mlp.gate_proj.weight",
    } <= names
    is_latent = f"{layer}.self_attn.kv_a_proj_with_mqa.weight" in names
    assert is_latent == ("mla" in variant.name)
    has_bias = f"{layer}.mlp.gate.e_score_correction_bias" in names
    assert has_bias == variant.name.endswith("sigmoid")
    assert not [name for name in names if "gate_up" in name]


def test_the_published_names_of_weight_files_are_read(tiny: Path, tmp_path: Path) -> None:
    """deepseek-vl2-tiny counts its one file with six digits on one side and five on the other."""
    folder = Path(shutil.copytree(tiny, tmp_path / "named"))
    name = "model-00001-of-000001.safetensors"
    (folder / "model.safetensors").rename(folder / name)
    weight_map = dict.fromkeys(load_file(folder / name), name)
    index = {"metadata": {}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)
    pairs = zip(
        load_model(folder, FAMILY).state_dict().values(),
        load_model(tiny, FAMILY).state_dict().values(),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("lost", [("up",), ("gate", "up", "down")])
def test_an_expert_that_is_missing_is_named(
    tiny: Path, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "lacking"))
    weights = load_file(folder / "model.safetensors")
    for half in lost:
        weights.pop(f"language.model.layers.1.mlp.experts.5.{half}_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    named = rf"{len(lost)} missing: language\.model\.layers\.1\.mlp\.experts\.5\."
    with pytest.raises(CheckpointError, match=named):
        load_model(folder, FAMILY)


def test_a_folder_of_code_and_pickles_says_what_to_take(tiny: Path, tmp_path: Path) -> None:
    folder = changed(
        tiny,
        tmp_path / "remote",
        "config.json",
        auto_map={"AutoModelForCausalLM": "modeling_deepseek_vl_v2.DeepseekVLV2ForCausalLM"},
    )
    (folder / "modeling_deepseek_vl_v2.py").write_text("raise SystemExit('code was run')\n")
    assert load_model(folder, FAMILY)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="model\\.safetensors missing") as caught:
        load_model(folder, FAMILY)
    assert "never read" in caught.value.next_step


# ---- the model -----------------------------------------------------------------------------------


def test_packed_equals_one_by_one(variant: Path) -> None:
    sizes = [(1, 1), (42, 42), (200, 20), (20, 200), (126, 126)]
    rows = [asked(picture(*size), "何?") for size in sizes]
    rows += [asked("hello"), asked(picture(84, 56), "a", picture(200, 120), "b"), asked("次")]
    # Sums in another order.
    assert gap_of_packing(variant, FAMILY, rows) < 1e-5


def test_answers_are_those_of_transformers_alone_and_in_a_batch(variant: Path) -> None:
    prompts: list[list[Any]] = [
        [picture(100, 40), "何ですか"],
        [picture(42, 42), "と", picture(60, 200), "の違いを説明して"],
        ["hello"],
        [picture(9, 9), picture(50, 9), picture(9, 50), "三枚"],
    ]
    same_as_generate(variant, FAMILY, prompts)


@pytest.mark.parametrize("number", [7, 8, 9, 10, 12, 13])
@pytest.mark.parametrize("name", VARIANTS[1:])
def test_laws_of_weights_hold_with_latent_attention(
    name: Variant, number: int, tmp_path: Path
) -> None:
    """tests/laws runs all of them on the first variant."""
    FAMILY.make_tiny(tmp_path / name, seed=1, variant=name)
    verdict = Subject(tmp_path / name).verdict(laws()[number - 1])
    assert verdict.state == "holds", verdict


def test_the_pooling_head_and_the_routers_bias_are_never_trained(variant: Path) -> None:
    names = dict(load_model(variant, FAMILY).named_parameters())
    fixed = [name for name in names if not FAMILY.is_trainable(name)]
    assert len(fixed) == 13
    assert all(name.startswith("vision.attn_pool.") for name in fixed)
    assert not [name for name in names if name.endswith(ROUTER_BIAS)]


# ---- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of the quickstart's data."""
    folder = tmp_path_factory.mktemp("forms")
    write_forms(folder / "raw", rows={"one": 40}, test_questions_per_kind=20)
    convert(folder / "raw" / "one", folder / "data")
    return folder / "data"


def stop_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return listen


FULL = {"train": dict.fromkeys(("language", "projector", "vision"), "1e-2")}
LORA = {"method": "lora", "train": {"language": "lora 1e-1", "projector": "1e-2"}, "lora_r": 8}


@pytest.mark.parametrize(
    ("name", "changes", "falls_to"),
    # Adapters leave the random head as it is, under which a loss can fall little.
    [("mla_sigmoid", FULL, 0.7), ("mha_softmax", LORA, 0.97)],
    ids=["full", "lora"],
)
def test_the_loss_falls_and_a_run_that_was_stopped_ends_bit_for_bit(
    name: Variant,
    changes: dict[str, Any],
    falls_to: float,
    forms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # bits are promised on a CPU
    FAMILY.make_tiny(tmp_path / "model", seed=1, variant=name)

    def recipe(run: str) -> Recipe:
        return Recipe(
            model=str(tmp_path / "model"),
            data=(Source(path=str(forms)),),
            output_dir=str(tmp_path / run),
            pack_tokens=256,
            global_batch_packs=2,
            max_steps=12,
            save_steps=100,
            dataloader_num_workers=0,
            **changes,
        )

    whole = run_training(recipe("whole"))
    stopped = run_training(recipe("stopped"), listener=stop_at(3))
    assert (stopped.state, stopped.step) == ("stopped", 3)
    resumed = run_training(recipe("stopped"))
    runs = [
        [e["loss"] for e in read_record(run.folder / "record.jsonl").of_kind("step")]
        for run in (whole, resumed)
    ]
    assert runs[0] == runs[1]
    assert np.mean(runs[0][-3:]) < falls_to * runs[0][0]
    assert whole.checkpoint is not None
    assert resumed.checkpoint is not None
    file = ADAPTER if changes.get("method") == "lora" else "model.safetensors"
    assert (resumed.checkpoint / file).read_bytes() == (whole.checkpoint / file).read_bytes()
    if file == ADAPTER:
        return
    before = load_file(tmp_path / "model" / file)
    after = load_file(whole.checkpoint / file)
    still = {key for key in before if torch.equal(before[key], after[key])}
    fixed = {k for k in before if not FAMILY.is_trainable(k) or k.endswith(ROUTER_BIAS)}
    assert fixed <= still
    assert not [key for key in still - fixed if ".experts." not in key]
    assert [key for key in before if ".experts." in key and key not in still]
