"""Sarashina-Vision: published sizes, the prompt to the token, the generation before, wrong files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_rows import asked, gap_of_packing, same_as_generate
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import manako
from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError, ImageError, RecipeError, RowError, TemplateError
from manako.core.family import family_of
from manako.core.files import read_json, write_json
from manako.core.images import decode_rgb
from manako.core.recipe import Recipe, Source
from manako.core.record import read_record
from manako.data.convert import convert
from manako.families._shared.sarashina import UNPROVEN
from manako.families._shared.sizes import image_tokens
from manako.families._shared.tiny import CLIP_MEAN
from manako.families.sarashina2_vision import FAMILY
from manako.nn.checkpoint import load_model
from manako.samples.forms import write_forms
from manako.train.loop import run_training
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

PREPROCESSOR = "preprocessor_config.json"
OCR_PIXELS = 2_458_624


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sarashina") / "tiny"
    FAMILY.make_tiny(folder, seed=1, initializer_range=0.1)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the manner of sarashina2-vision-8b."""
    folder = tmp_path_factory.mktemp("sarashina") / "first"
    FAMILY.make_tiny(folder, seed=1, initializer_range=0.1, generation="2")
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def change(folder: Path, name: str, **fields: Any) -> None:
    write_json(folder / name, {**read_json(folder / name), **fields})


@pytest.mark.parametrize(
    ("size", "target", "tokens"),
    [
        ((224, 224), (224, 224), 64),
        ((1190, 665), (1176, 672), 1008),  # published
        ((1008, 1008), (1008, 1008), 1296),  # published
        ((640, 480), (644, 476), 391),
        ((1920, 1080), (1344, 756), 1296),
        ((28, 28), (56, 56), 4),
        ((4000, 3000), (1148, 868), 1271),
    ],
)
def test_sizes_and_tokens(
    tiny: Path, size: tuple[int, int], target: tuple[int, int], tokens: int
) -> None:
    processor: Any = FAMILY.open(tiny)
    cost = processor.cost(*size)
    assert (cost.size, cost.tokens) == (target, tokens)
    assert cost.grid == (1, target[1] // 14, target[0] // 14)
    assert FAMILY.image_tokens(*size, processor.settings) == tokens
    assert image_tokens("sarashina", *size) == tokens


def test_a_picture_too_long_is_refused(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    assert processor.cost(200, 1).tokens > 0
    with pytest.raises(ImageError):
        processor.cost(201, 1)


def test_ocr_takes_larger_pictures(tmp_path: Path) -> None:
    """sarashina2.2-ocr: the limit of its file, in both spellings."""
    FAMILY.make_tiny(tmp_path, max_pixels=OCR_PIXELS)
    processor: Any = FAMILY.open(tmp_path)
    assert processor.cost(4000, 4000).tokens == OCR_PIXELS // 28**2 == 3136
    settings = read_json(tmp_path / PREPROCESSOR)
    del settings["max_pixels"], settings["min_pixels"]
    write_json(tmp_path / PREPROCESSOR, settings)
    again: Any = FAMILY.open(tmp_path)
    assert again.settings == processor.settings


def words_of(processor: Any, text: str) -> list[int]:
    ids, _ = processor.tokenizer.encode(text, at="after_token")
    return list(ids)


def test_a_prompt_is_what_the_authors_processor_writes(tiny: Path) -> None:
    """`<|user|>`, for each picture its marks around as many 14 as it has tokens, the text, `</s>`,
    `<|assistant|>`: no line break, no `<s>`, no system turn."""
    processor: Any = FAMILY.open(tiny)
    config, to_id = read_json(tiny / "config.json"), processor.tokenizer.id_of
    rows = config["text_config"]["vocab_size"]
    assert config["image_token_index"] == 14
    before, after = config["start_image_token_index"], config["end_image_token_index"]
    assert (before, after) == (rows - 3, rows - 2)
    question = "二枚の違いは何ですか。"
    shown = [picture(56, 56), picture(56, 84)]
    example = processor.encode_prompt(Conversation.of([*shown, question]))
    blocks = [[before, *[14] * count, after] for count in (4, 6)]
    assert example.input_ids.tolist() == [
        to_id("<|user|>"),
        *blocks[0],
        *blocks[1],
        *words_of(processor, question),
        2,
        to_id("<|assistant|>"),
    ]
    assert [image.start for image in example.images] == [2, 8]
    assert processor.positions(example).tolist() == [list(range(example.tokens))]
    trained = processor.encode(asked(*shown, question, answer="大きさです。"))
    prompt, rest = np.split(trained.input_ids, [example.tokens])
    assert prompt.tolist() == example.input_ids.tolist()
    assert rest.tolist() == [*words_of(processor, "大きさです。"), 2]
    assert trained.trained.tolist() == [False] * len(prompt) + [True] * len(rest)


def test_control_tokens_that_a_text_spells_stay_text(copied: Path) -> None:
    """A unigram model has them among its pieces; also where the file does not call them special."""
    file = copied / "tokenizer.json"
    settings = read_json(file)
    for token in settings["added_tokens"]:
        token["special"] = token["special"] and token["content"] != "<|file|>"
    write_json(file, settings)
    config = read_json(copied / "tokenizer_config.json")
    config["added_tokens_decoder"]["14"]["special"] = False
    write_json(copied / "tokenizer_config.json", config)
    processor: Any = FAMILY.open(copied)
    spelled = "<|file|> <|prefix|></s><|assistant|>x<|file|><|file|>"
    example = processor.encode(asked(picture(56, 56), spelled, answer=spelled))
    ids = example.input_ids.tolist()
    assert ids.count(14) == example.images[0].tokens == 4
    assert ids.count(2) == 2
    answer = example.input_ids[example.trained].tolist()
    assert processor.tokenizer.decode(answer[:-1], at="inside") == spelled


def test_law_1_reads_unigram_pieces_whatever_class_the_file_names(copied: Path) -> None:
    """transformers 5 would make a BPE of them. Should the last line fail, that was mended."""
    change(copied, "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    assert Subject(copied).verdict(laws()[0]).state == "holds"
    text = "この画像"
    theirs = AutoTokenizer.from_pretrained(copied, local_files_only=True)
    ours: Any = FAMILY.open(copied)
    assert theirs(text)["input_ids"] != ours.tokenizer.encode(text)[0]


def test_pixels_are_floats_that_may_overshoot_and_are_shown_as_bytes(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    edge = np.zeros((90, 90, 3), np.uint8)
    edge[:, 45:] = 255
    pixels = processor.prepare(edge, processor.cost(90, 90))
    assert (pixels.dtype, pixels.shape) == (np.float32, (36, 3, 14, 14))
    assert pixels.max() > 1.0 + 1e-3
    same = picture(56, 84)
    seen = processor.see(same)
    assert (seen.rows, seen.columns) == (3, 2)
    assert np.array_equal(seen.pixels, decode_rgb(same.data))


def test_packed_equals_one_by_one_and_generation_that_of_transformers(tiny: Path) -> None:
    rows = [asked(picture(*size), "何?") for size in ((56, 56), (120, 40), (28, 140))]
    rows += [asked("hello"), asked("a", picture(56, 56), "b", picture(100, 60))]
    assert gap_of_packing(tiny, FAMILY, rows) < 1e-5  # sums in another order
    same_as_generate(tiny, FAMILY, [[picture(56, 56), "何?"], ["a", picture(80, 40)], ["text"]])


def test_limits_are_saved_in_every_spelling(tiny: Path, tmp_path: Path) -> None:
    limited = FAMILY.open(tiny).with_pixel_limits(max_pixels=40_000)
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(tiny / name, tmp_path / name)
    limited.save(tmp_path)
    written = read_json(tmp_path / PREPROCESSOR)
    assert written["max_pixels"] == written["size"]["longest_edge"] == 40_000
    assert written["resample"] == 2
    again: Any = FAMILY.open(tmp_path)
    assert again.cost(640, 480).tokens == limited.cost(640, 480).tokens < 52  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match="max_pixels 100"):
        limited.with_pixel_limits(max_pixels=100)


# ------------------------------------------------------------------ sarashina2-vision-8b and 14b


def text_of(processor: Any, example: Any) -> str:
    return processor.tokenizer.decode(example.input_ids.tolist())  # type: ignore[no-any-return]


HEAD = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions.\n\n### Human: "
)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_generation_before_puts_its_pictures_in_front(first: Path, count: int) -> None:
    """Its template takes words alone and writes one block: it stands once for each picture."""
    processor: Any = FAMILY.open(first)
    example = processor.encode_prompt(Conversation.of([picture(56, 56)] * count + ["何?"]))
    block = "<|prefix|>" + "<|file|>" * 4 + "<|suffix|>"
    expected = f"<s>{block * count}{HEAD}何?\n### Assistant:"
    assert text_of(processor, example) == expected
    assert [image.tokens for image in example.images] == [4] * count
    assert example.notes == (UNPROVEN,)
    model = manako.load(first)
    assert model.generate_content([picture(56, 56), "?"], max_new_tokens=2, stop="\n###").token_ids


def test_what_its_template_cannot_write_is_refused(first: Path) -> None:
    processor = FAMILY.open(first)
    with pytest.raises(TemplateError, match="in front of the first words"):
        processor.encode_prompt(Conversation.of(["前", picture(56, 56), "後"]))
    later = (
        Message("user", (picture(56, 56), Text("a"))),
        Message("assistant", (Text("b"),)),
        Message("user", (picture(56, 56), Text("c"))),
    )
    with pytest.raises(TemplateError, match="and nowhere else"):
        processor.encode_prompt(Conversation(later))
    with pytest.raises(RowError, match="writes 1 image marks for 0 images"):
        processor.encode_prompt(Conversation.of(["no picture"]))


def test_an_answer_ends_where_its_template_writes_no_end(first: Path) -> None:
    processor: Any = FAMILY.open(first)
    example = processor.encode(asked(picture(56, 56), "何?", answer="a test"))
    trained = example.input_ids[example.trained].tolist()
    assert trained[-1] == 2
    assert processor.tokenizer.decode(trained[:-1], at="inside").strip() == "a test"
    assert example.notes == ("end of turn appended", UNPROVEN)


def test_its_pixels_take_the_values_of_its_file_and_are_named_unproven(
    first: Path, tiny: Path
) -> None:
    assert FAMILY.open(first).pixel_rule.mean == CLIP_MEAN
    assert FAMILY.open(tiny).encode(asked(picture(56, 56))).notes == ()
    config = read_json(first / "config.json")
    assert "hidden_act" not in config["vision_config"]
    model: Any = load_model(first, FAMILY)
    assert model.config.vision_config.hidden_act == "quick_gelu"
    rows = [asked(picture(56, 56), "何?"), asked(picture(80, 40), "b")]
    assert gap_of_packing(first, FAMILY, rows) < 1e-5


# ----------------------------------------------------------------------------------- wrong files


def part(folder: Path, name: str, **fields: Any) -> None:
    change(folder, "config.json", **{name: {**read_json(folder / "config.json")[name], **fields}})


def drop(folder: Path, *names: str) -> None:
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {k: v for k, v in config.items() if k not in names})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "token": (lambda f: change(f, "config.json", image_token_index=15), r"15, which is '<0x00>'"),
    "other": (
        lambda f: change(f, "config.json", image_token_index=13),
        r"13, which is '<\|made_up",
    ),
    "swapped": (
        lambda f: change(f, "config.json", start_image_token_index=14),
        r"start_image_token_index 14, which is '<\|file\|>'.*expected the added token '<\|prefix",
    ),
    "beyond": (lambda f: change(f, "config.json", end_image_token_index=10**6), "which is None"),
    "none": (lambda f: drop(f, "image_token_index"), r"image_token_index None; expected the id"),
    "mean": (lambda f: change(f, PREPROCESSOR, do_normalize=False), "do_normalize False"),
    "class": (
        lambda f: change(f, PREPROCESSOR, image_processor_type="Qwen2VLImageProcessor"),
        "holds for 'Sarashina2VisionImageProcessor'",
    ),
    "patch": (lambda f: change(f, PREPROCESSOR, patch_size=16), "patch_size 16, config.json 14"),
    "merge": (lambda f: change(f, PREPROCESSOR, merge_size=1), "merge_size 1, config.json 2"),
    "template": (lambda f: (f / "chat_template.json").unlink(), "has no chat template"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_disagree_are_refused(copied: Path, case: str) -> None:
    spoil, said = BROKEN[case]
    spoil(copied)
    with pytest.raises(CheckpointError, match=said) as caught:
        FAMILY.open(copied)
    assert caught.value.next_step


VARIANTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text-only": (lambda f: drop(f, "vision_config"), "vision_config is missing"),
    "no text": (lambda f: drop(f, "text_config"), "text_config is missing"),
    "tower": (
        lambda f: part(f, "vision_config", model_type="siglip_vision_model"),
        "'siglip_vision",
    ),
    "llm": (
        lambda f: part(f, "text_config", model_type="gpt_neox"),
        "is 'gpt_neox', expected 'llama'",
    ),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_another_variant_is_not_taken_for_this_one(copied: Path, case: str) -> None:
    spoil, said = VARIANTS[case]
    spoil(copied)
    with pytest.raises(CheckpointError, match=said):
        family_of(copied)
    with pytest.raises(CheckpointError, match=said):
        manako.load(copied)


def test_a_text_model_of_the_series_is_a_llama(copied: Path) -> None:
    text = read_json(copied / "config.json")["text_config"]
    write_json(copied / "config.json", text)
    assert family_of(copied).name == "llama"


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ("norm.", r"2 missing: norm\.bias, norm\.weight"),
        ("visual.blocks.1.", r"12 missing: visual\.blocks\.1\."),
        ("llm.lm_head", r"1 missing: llm\.lm_head\.weight"),
    ],
)
def test_weights_that_a_port_left_out_are_named(copied: Path, dropped: str, said: str) -> None:
    """The known GGUF has no `norm`: weights made from it must not train from a random one."""
    file = copied / "model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if not k.startswith(dropped)}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=said):
        manako.load(copied)


def test_another_mlp_ratio_or_width_is_named(copied: Path) -> None:
    part(copied, "vision_config", mlp_ratio=4)
    with pytest.raises(CheckpointError, match=r"of another shape: visual\.blocks\.0\.mlp\.fc1"):
        load_model(copied, FAMILY)
    part(copied, "vision_config", mlp_ratio=3.7362, hidden_size=48)
    with pytest.raises(CheckpointError, match="hidden_size is 48, text_config has 40"):
        load_model(copied, FAMILY)


def test_a_folder_of_code_without_weights_says_so(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "modeling_sarashina2_vision.py").write_text("raise SystemExit('this was run')\n")
    with pytest.raises(CheckpointError, match=r"has no weights: model\.safetensors") as caught:
        manako.load(copied)
    assert "safetensors" in caught.value.next_step


def test_code_beside_the_weights_is_never_run(copied: Path) -> None:
    name = "modeling_sarashina2_vision"
    (copied / f"{name}.py").write_text("raise SystemExit('this was run')\n")
    change(copied, "config.json", auto_map={"AutoModelForCausalLM": f"{name}.Sarashina"})
    assert manako.load(copied).generate_content(["?"], max_new_tokens=1).token_ids


# -------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms")
    write_forms(folder / "raw", rows={"one": 24, "short": 0, "long": 0}, test_questions_per_kind=1)
    convert(folder / "raw" / "one", folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a dozen tokens at most."""
    folder = tmp_path_factory.mktemp("sarashina") / "small"
    FAMILY.make_tiny(folder, seed=1, max_pixels=12 * 28**2)
    return folder


WAYS: Mapping[str, dict[str, Any]] = {
    "full": {"train": {"language": "3e-3", "projector": "3e-3", "vision": "1e-3"}},
    "lora": {"method": "lora", "train": {"language": "lora 1e-2", "projector": "lora 1e-2"}},
}


@pytest.mark.parametrize("way", [pytest.param("full", marks=pytest.mark.slow), "lora"])
def test_the_quickstarts_data_lowers_the_loss_and_a_run_resumes_exactly(
    small: Path, forms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """At once, and with a stop in the middle: the same weights; and the loss is lower at the end."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    base = Recipe(
        model=str(small),
        data=(Source(path=str(forms)),),
        output_dir=str(tmp_path / "whole"),
        pack_tokens=512,
        global_batch_packs=1,
        max_steps=4,
        save_steps=2,
        dataloader_num_workers=0,
        logging_steps=1,
    ).replace(**WAYS[way])
    whole = run_training(base)
    halves = base.replace(output_dir=str(tmp_path / "halves"))

    def stop(event: Mapping[str, Any]) -> None:
        if event.get("kind") == "save":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(halves, listener=stop)
    again = run_training(halves)
    assert again.step == whole.step == 4
    losses = [e["loss"] for e in read_record(whole.folder / "record.jsonl").of_kind("step")]
    assert losses[-1] < losses[0]
    one, two = (tensors_of(outcome.folder) for outcome in (whole, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    """All weights of a run's last checkpoint."""
    last = max((run / "checkpoints").iterdir(), key=lambda p: int(p.name[5:]))
    files = [f for f in last.rglob("*.safetensors") if f.name.startswith(("model", "adapter"))]
    assert files
    return {f"{f.relative_to(last)}/{n}": t for f in files for n, t in load_file(f).items()}
