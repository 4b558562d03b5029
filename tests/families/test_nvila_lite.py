"""Heron-NVILA-Lite: tiles and prompts as published, both layouts used and trained, files that are wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import manako
from manako.cli.root import ROOT
from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import CheckpointError, RowError, TemplateError
from manako.core.family import family_of
from manako.core.files import read_json, write_json
from manako.core.images import decode_rgb
from manako.core.recipe import Recipe, Source
from manako.core.record import read_record
from manako.core.verdict import Verdict
from manako.data.convert import convert
from manako.export.safetensors import export
from manako.families._shared.nvila import NvilaSettings, tile_cost
from manako.families._shared.sizes import image_tokens
from manako.families.nvila_lite import FAMILY
from manako.nn.checkpoint import load_model, read_tensors, weight_files
from manako.samples.forms import write_forms
from manako.train.loop import run_training
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

LAYOUTS = ("folders", "flat")
PUBLISHED = NvilaSettings(tile=448, patch=14, side=16, newline_id=198)
VECTORS = {
    (448, 448): (1, 1, 1), (512, 512): (1, 1, 1), (634, 634): (2, 2, 5), (896, 896): (2, 2, 5),
    (1000, 1000): (3, 3, 10), (640, 480): (4, 3, 13), (480, 640): (3, 4, 13),
    (1024, 768): (4, 3, 13), (1920, 1080): (4, 2, 9), (300, 200): (3, 2, 7), (2000, 300): (7, 1, 8),
    (200, 1000): (1, 5, 6),
}  # fmt: skip
"""(width, height) → columns, rows and tiles with the whole: NVILA-Lite's settings."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("nvila")
    for layout in LAYOUTS:
        FAMILY.make_tiny(folder / layout, seed=1, layout=layout)
    return {layout: folder / layout for layout in LAYOUTS}


@pytest.fixture(params=LAYOUTS)
def tiny(request: pytest.FixtureRequest, made: Mapping[str, Path]) -> Path:
    return made[request.param]


@pytest.fixture
def copy(made: Mapping[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda layout: Path(shutil.copytree(made[layout], tmp_path / f"copy-{layout}"))


def asked(*contents: Any, answer: str = "はい。") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in contents)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))), id="row")


# ---------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("size", VECTORS)
def test_tiles_of_the_published_sizes(size: tuple[int, int]) -> None:
    columns, rows, tiles = VECTORS[size]
    cost = tile_cost(*size, PUBLISHED)
    assert cost.grid == (columns, rows)
    assert cost.patches == 1024 * tiles
    # the line break of the text behind the last tile is counted by the rule, and is text here
    assert cost.tokens == image_tokens("nvila_tiles", *size) - 1 == 258 * tiles - 1
    assert FAMILY.image_tokens(*size, PUBLISHED) == cost.tokens


def test_a_picture_of_four_by_three_takes_3354_places(tiny: Path) -> None:
    opened: Any = FAMILY.open(tiny)
    processor = opened.with_settings(tile=448, side=16)
    with_picture = processor.measure(asked(picture(640, 480), "?"))
    without = processor.measure(asked("?"))
    assert with_picture.tokens - without.tokens == 13 * 257 + 13 == 3354


def test_several_pictures_are_one_tile_each(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    example = processor.encode(asked(picture(640, 480), "と", picture(30, 90), "?"))
    assert [len(image.pixels) for image in example.images] == [1, 1]
    assert [image.tokens for image in example.images] == [5, 5]


def test_pixels_are_pillows(tiny: Path) -> None:
    from PIL import Image as Pillow

    processor: Any = FAMILY.open(tiny)
    image = picture(300, 200)
    pixels = processor.encode(asked(image, "?")).images[0].pixels
    source = Pillow.fromarray(decode_rgb(image.data))
    sheet = np.asarray(source.resize((168, 112)))
    assert pixels.shape == (7, 3, 56, 56)
    assert np.array_equal(pixels[4].transpose(1, 2, 0), sheet[56:, 56:112])
    assert np.array_equal(pixels[6].transpose(1, 2, 0), np.asarray(source.resize((56, 56))))


# ---------------------------------------------------------------------------------- prompts


def text_of(folder: Path, conversation: Conversation) -> str:
    """The prompt as text, with a tile's places and its line break as one ▣."""
    processor: Any = FAMILY.open(folder)
    prompt = Conversation(conversation.messages[:-1])
    ids = processor.encode_prompt(prompt).input_ids.tolist()
    written = processor.tokenizer.decode(ids)
    return str(written.replace("<image>" * 4 + "\n", "▣"))


SYSTEM = "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
HEAD = "<|im_end|>\n<|im_start|>assistant\n"


def test_prompts_are_written_as_by_the_authors_code(tiny: Path) -> None:
    square, wide = picture(56, 56), picture(112, 56)
    written = {
        ("画像を説明してください。", square): "画像を説明してください。▣",
        (square, "画像を説明してください。"): "▣\n画像を説明してください。",
        (wide, "何?"): "▣\n▣\n▣\n何?",
        ("前", wide, "後"): "前▣\n▣\n▣\n後",
        ("  前 \n", wide, "\n"): "前 \n▣\n▣\n▣",
        (
            square,
            "これは日本の画像です",
            wide,
            "違いを説明して",
        ): "▣これは日本の画像です▣違いを説明して",
        (square, "と", wide): "▣と▣",
        ("  question \n",): "question",
    }
    for contents, expected in written.items():
        found = text_of(tiny, asked(*contents))
        assert found == f"{SYSTEM}<|im_start|>user\n{expected}{HEAD}", contents


def test_a_spelled_placeholder_stays_text(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    example = processor.encode(asked(picture(56, 56), "what does <image> mean?"))
    assert int((example.input_ids == processor.image_token_id).sum()) == 4
    assert "what does <image> mean?" in processor.tokenizer.decode(example.input_ids.tolist())


def test_a_picture_stands_in_a_user_turn_only(tiny: Path) -> None:
    processor = FAMILY.open(tiny)
    answer = Message("assistant", (picture(56, 56), Text("that")))
    with pytest.raises(TemplateError, match="takes no picture in a assistant turn"):
        processor.encode(Conversation((Message("user", (Text("?"),)), answer)))


def test_the_template_that_config_json_names_is_taken(copy: Callable[[str], Path]) -> None:
    folder = copy("folders")
    change(folder / "config.json", chat_template="qwen2")
    with pytest.raises(CheckpointError, match=r"there is no qwen2\.jinja"):
        FAMILY.open(folder)
    (folder / "qwen2.jinja").write_text(
        "{% for message in messages %}\n"
        "    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}\n",
        encoding="utf-8",
    )
    expected = "<|im_start|>user\n▣\n何?<|im_end|><|im_start|>assistant\n"
    assert text_of(folder, asked(picture(56, 56), "何?")) == expected
    saved = folder.parent / "saved"
    shutil.copytree(folder, saved, ignore=shutil.ignore_patterns("*.jinja", "token*"))
    FAMILY.open(folder).save(saved)
    assert text_of(saved, asked(picture(56, 56), "何?")) == expected


# ---------------------------------------------------------------------------------- laws


SAME_CODE = (5, 6, 12)
"""Laws that tests/laws asks of the published layout, and that no file has a say in."""


@pytest.mark.parametrize(
    "law",
    [law for law in laws() if law.number not in SAME_CODE],
    ids=lambda law: f"law{law.number:02}",
)
def test_a_law_holds_on_the_assumed_layout(law: Any, made: Mapping[str, Path]) -> None:
    verdict: Verdict = Subject(made["flat"]).verdict(law)
    assert verdict.state in ("holds", "not applicable"), verdict


def test_both_layouts_are_the_same_model(made: Mapping[str, Path]) -> None:
    weights = [load_model(made[layout], FAMILY).state_dict() for layout in LAYOUTS]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    probe = asked(picture(300, 200), "何?")
    ids = [FAMILY.open(made[layout]).encode(probe).input_ids for layout in LAYOUTS]
    assert np.array_equal(*ids)


def test_the_assumed_layout_is_called_that_where_it_is_opened(made: Mapping[str, Path]) -> None:
    assert any("assumed layout" in note for note in manako.load(made["flat"]).notes)
    assert not any("assumed" in note for note in manako.load(made["folders"]).notes)


def test_flat_weights_of_other_names_are_said_to_be_unknown(copy: Callable[[str], Path]) -> None:
    folder = copy("flat")
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("llm.", "language_model."): t for name, t in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"begin with language_model; .*assumed layout"):
        manako.load(folder)


# ------------------------------------------------------------------------------ calls of the survey


def two_pictures() -> tuple[Image, Image]:
    return picture(64, 48), picture(30, 90)


def test_the_calls_of_the_survey_in_python(tiny: Path) -> None:
    model = manako.load(tiny)
    first, second = two_pictures()
    reply = model.generate_content([first, "画像を説明してください。"], max_new_tokens=3)
    assert len(reply.token_ids) == 3 or reply.finish_reason == "stop"
    compared = [
        first, "これは日本の画像です", second, "これはオーストリアの画像です", "各画像の違いを説明して",
    ]  # fmt: skip
    assert model.generate_content(compared, max_new_tokens=3).token_ids


def test_the_calls_of_the_survey_from_the_command_line(tiny: Path, tmp_path: Path) -> None:
    places = []
    for name, image in zip("ab", two_pictures(), strict=True):
        (tmp_path / f"{name}.png").write_bytes(image.data)
        places.append(f"@{tmp_path / name}.png")
    calls = [
        [places[0], "画像を説明してください。"],
        [
            places[0],
            "これは日本の画像です",
            places[1],
            "これはオーストリアの画像です",
            "違いを説明して",
        ],
    ]
    for parts in calls:
        arguments = ["generate", str(tiny), *parts, "--max-new-tokens", "3", "--json"]
        result = CliRunner().invoke(ROOT, arguments)
        assert result.exit_code == 0, result.output


# ---------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of the quickstart's data."""
    folder = tmp_path_factory.mktemp("forms")
    write_forms(folder / "raw", rows={"one": 24, "short": 0, "long": 0}, test_questions_per_kind=1)
    convert(folder / "raw" / "one", folder / "data")
    return folder / "data"


def recipe_for(model: Path, data: Path, run: Path, **changes: Any) -> Recipe:
    return Recipe(
        model=str(model),
        data=(Source(path=str(data)),),
        output_dir=str(run),
        pack_tokens=400,
        global_batch_packs=1,
        max_steps=6,
        save_steps=2,
        dataloader_num_workers=0,
        logging_steps=1,
    ).replace(**changes)


WAYS: Mapping[str, dict[str, Any]] = {
    "full": {"train": {"language": "3e-3", "projector": "3e-3", "vision": "1e-3"}},
    "lora": {"method": "lora", "train": {"language": "lora 1e-2", "projector": "lora 1e-2"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_quickstarts_data_lowers_the_loss_and_a_run_resumes_exactly(
    layout: str, way: str, made: Mapping[str, Path], forms: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    trained_twice(made[layout], forms, tmp_path, monkeypatch, way=way, steps=12)


def test_full_training_lowers_the_loss_and_resumes_exactly(
    made: Mapping[str, Path], forms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_twice(made["folders"], forms, tmp_path, monkeypatch, way="full", steps=2)


def trained_twice(
    model: Path, forms: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, way: str, steps: int
) -> None:
    """At once, and with a stop in the middle: the same weights; and the loss is lower at the end."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    changes = {**WAYS[way], "max_steps": steps, "save_steps": steps // 2}
    whole = run_training(recipe_for(model, forms, folder / "whole", **changes))
    halves = recipe_for(model, forms, folder / "halves", **changes)

    def stop(event: Mapping[str, Any]) -> None:
        if event.get("kind") == "save":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(halves, listener=stop)
    told: list[Mapping[str, Any]] = []
    again = run_training(halves, listener=told.append)
    assert (told[0]["kind"], told[0]["step"]) == ("resume", steps // 2)
    assert again.step == whole.step == steps
    losses = [e["loss"] for e in read_record(whole.folder / "record.jsonl").of_kind("step")]
    assert losses[-1] < losses[0]
    one, two = (tensors_of(outcome.folder) for outcome in (whole, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert manako.load(folder / "whole").generate_content(["?"], max_new_tokens=1).token_ids


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    """All weights of a run's last checkpoint."""
    (step,) = sorted((run / "checkpoints").iterdir(), key=lambda p: int(p.name[5:]))[-1:]
    files = [f for f in step.rglob("*.safetensors") if f.name.startswith(("model", "adapter"))]
    assert files
    return {f"{f.relative_to(step)}/{n}": t for f in files for n, t in load_file(f).items()}


@pytest.mark.slow
def test_an_export_has_the_published_folders(made: Mapping[str, Path], tmp_path: Path) -> None:
    report = export(made["folders"], tmp_path / "out", dtype="bfloat16")
    files = {name for name, _ in report.files}
    assert {
        "config.json",
        "llm/model.safetensors",
        "vision_tower/preprocessor_config.json",
    } <= files
    assert read_json(tmp_path / "out" / "config.json")["model_dtype"] == "torch.bfloat16"
    names = {n for f in weight_files(tmp_path / "out") for n in read_tensors(f)}
    assert names == {n for f in weight_files(made["folders"]) for n in read_tensors(f)}
    assert manako.load(tmp_path / "out").generate_content(["?"], max_new_tokens=1).token_ids


# ---------------------------------------------------------------------------------- wrong files


def change(file: Path, **fields: Any) -> None:
    write_json(file, {**read_json(file), **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"s2": True}, r"several scales \(S2\)"),
        ({"dynamic_s2": True}, r"several scales \(S2\)"),
        ({"image_aspect_ratio": "dynamic_s2"}, r"several scales \(S2\)"),
        ({"image_aspect_ratio": "pad"}, "image_aspect_ratio is 'pad', expected dynamic"),
        ({"mm_vision_select_feature": "patch"}, "mm_vision_select_feature is 'patch'"),
        (
            {"mm_projector_cfg": {"mm_projector_type": "mlp_downsample_3x3_fix"}},
            "'mlp_downsample_3x3_fix' .*NVIDIA's own NVILA-Lite, which joins 3 × 3",
        ),
        ({"mm_projector_cfg": {"mm_projector_type": "mlp2x_gelu"}}, "projector is 'mlp2x_gelu'"),
        (
            {"vision_tower_cfg": {"model_type": "intern_vit_6b"}},
            "the vision tower is 'intern_vit_6b', expected siglip_vision_model",
        ),
        ({"llm_cfg": {"model_type": "phi3"}}, "language model is 'phi3', expected qwen2 or llama"),
    ],
)
def test_another_nvila_is_refused_by_name(
    fields: dict[str, Any], said: str, copy: Callable[[str], Path]
) -> None:
    folder = copy("folders")
    change(folder / "config.json", **fields)
    with pytest.raises(CheckpointError, match=said) as caught:
        family_of(folder)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("part", "fields", "said"),
    [
        ("mm_projector", {"mm_projector_type": "mlp_downsample_3x3_fix"}, "joins 3 × 3"),
        (
            "vision_tower",
            {"model_type": "clip_vision_model"},
            "vision tower is 'clip_vision_model'",
        ),
        ("llm", {"model_type": "mistral"}, "the language model is 'mistral'"),
    ],
)
def test_a_wrong_part_is_seen_in_its_folder_too(
    part: str, fields: dict[str, Any], said: str, copy: Callable[[str], Path]
) -> None:
    folder = copy("folders")
    change(folder / part / "config.json", **fields)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(folder)
    with pytest.raises(CheckpointError, match=next(iter(fields.values()))):
        load_model(folder, FAMILY)


@pytest.mark.parametrize("part", FAMILY.part_folders)
def test_a_part_that_is_missing_is_named(part: str, copy: Callable[[str], Path]) -> None:
    folder = copy("folders")
    (folder / part / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=rf"{part} has no weights: model.safetensors missing"):
        manako.load(folder)
    shutil.rmtree(folder / part)
    for act in (manako.load, FAMILY.open):
        with pytest.raises(CheckpointError, match=rf"{part}/? (is missing|has no weights)"):
            act(folder)


def test_weights_in_both_layouts_at_once_are_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("folders")
    shutil.copy(folder / "llm" / "model.safetensors", folder)
    for act in (manako.load, FAMILY.open):
        with pytest.raises(CheckpointError, match="has its weights twice") as caught:
            act(folder)
        assert "keep one layout" in caught.value.next_step


def test_code_without_weights_is_said_to_be_that(copy: Callable[[str], Path]) -> None:
    folder = copy("folders")
    for part in FAMILY.part_folders:
        shutil.rmtree(folder / part)
    (folder / "modeling_vila.py").write_text("raise SystemExit\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="has no weights") as caught:
        manako.load(folder)
    assert "llm/, mm_projector/, vision_tower/" in caught.value.next_step
    assert "modeling_vila.py is code, which is never run" in caught.value.next_step
    paths = {
        "llm_cfg": "llm",
        "vision_tower_cfg": "vision_tower",
        "mm_projector_cfg": "mm_projector",
    }
    change(folder / "config.json", **paths)
    with pytest.raises(
        CheckpointError, match=r"has none of the folders llm/.*code, which is never"
    ):
        FAMILY.open(folder)


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("vision_tower/preprocessor_config.json", {"size": {"height": 448, "width": 448}}, "tile"),
        ("vision_tower/preprocessor_config.json", {"resample": 2}, "say.* resample 2"),
        ("config.json", {"hidden_size": 99}, "hidden_size 32, config.json 99"),
        ("config.json", {"mm_hidden_size": 99}, "mm_hidden_size 24, config.json 99"),
        ("config.json", {"max_tiles": 0}, "min_tiles 1 and max_tiles 0"),
        ("config.json", {"image_token_id": 3}, "the id of <image> .*config.json 3"),
    ],
)
def test_files_that_disagree_are_refused(
    file: str, fields: dict[str, Any], said: str, copy: Callable[[str], Path]
) -> None:
    folder = copy("folders")
    change(folder / file, **fields)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(folder)


def test_settings_of_the_checkpoint_are_taken(copy: Callable[[str], Path]) -> None:
    folder = copy("folders")
    change(folder / "config.json", max_tiles=4, mm_vision_select_layer=-1)
    processor: Any = FAMILY.open(folder)
    assert processor.cost(2000, 300).grid == (4, 1)
    model: Any = load_model(folder, FAMILY)
    assert model.config.mm_vision_select_layer == -1
    assert FAMILY.image_tokens(2000, 300, processor.settings) == 5 * 6 - 1


def test_projector_of_another_width_is_named(copy: Callable[[str], Path]) -> None:
    folder = copy("folders")
    file = folder / "mm_projector" / "model.safetensors"
    weights = load_file(file)
    weights["layers.4.bias"] = torch.zeros(31)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"mm_projector\.layers\.4\.bias \(31,\) for \(32,\)"):
        load_model(folder, FAMILY)


def test_a_video_is_refused(tiny: Path) -> None:
    from manako.verify._subject import film

    with pytest.raises(RowError, match="takes no videos"):
        FAMILY.open(tiny).encode(asked(film(56, 56, 2), "?"))
