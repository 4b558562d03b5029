"""LLaVA-OneVision against transformers' own code: tiles, several pictures, row ends, answers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_rows import ODD_SIZES, asked, gap_of_packing, inputs_of, same_as_generate
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import BatchError, CheckpointError
from manako.core.files import read_json, write_json
from manako.core.images import decode_rgb
from manako.families._shared.sheets import SheetSettings, sheet_cost
from manako.families._shared.sizes import image_tokens
from manako.families.llava_onevision import FAMILY
from manako.nn.checkpoint import load_model
from manako.verify._subject import picture

PUBLISHED = SheetSettings(
    tile=384,
    side=27,
    max_tiles=9,
    sheets=tuple((columns, rows) for rows in range(1, 7) for columns in range(1, 7)),
    several_whole=True,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onevision") / "tiny"
    FAMILY.make_tiny(folder, seed=1, initializer_range=0.05)
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny, tmp_path / "copied")
    return tmp_path / "copied"


@pytest.mark.parametrize("size", ODD_SIZES)
def test_image_tokens_in_an_example_are_what_the_rule_says(
    tiny: Path, size: tuple[int, int]
) -> None:
    processor: Any = FAMILY.open(tiny)
    assert sheet_cost(*size, PUBLISHED).tokens == image_tokens("llava_onevision", *size)
    small = {"tile": 28, "side": 2}
    if max(size) > 1000:
        assert processor.cost(*size).tokens == image_tokens("llava_onevision", *size, small)
        return
    example = processor.encode(asked(picture(*size), "何?"))
    written = int((example.input_ids == processor.image_token_id).sum())
    assert written == image_tokens("llava_onevision", *size, small)
    several = processor.encode(asked(picture(*size), "と", picture(30, 30), "何?"))
    each = image_tokens("llava_onevision", *size, {**small, "pictures": 2})
    assert [image.tokens for image in several.images] == [each, each]


@pytest.mark.parametrize(
    "sizes",
    [[(28, 28)], [(100, 40)], [(13, 200)], [(40, 100), (56, 56)], [(70, 10), (10, 90), (50, 50)]],
)
def test_inputs_are_those_of_the_processor(tiny: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Keys, shapes, counts and order of tiles. The filter is Pillow's here, whose rounding differs
    (a quarter of a level of 255 on average, 11 at worst); law 6 compares bit for bit."""
    settings = read_json(tiny / "preprocessor_config.json")
    reference = LlavaOnevisionImageProcessorPil(**settings)
    images = [picture(*size) for size in sizes]
    pictures = [np.array(decode_rgb(image.data)) for image in images]
    expected = reference(images=[pictures], return_tensors="pt")
    inputs = inputs_of(tiny, FAMILY, [FAMILY.open(tiny).encode(asked(*images, "何?"))])
    assert torch.equal(inputs["image_sizes"], expected["image_sizes"])
    assert inputs["batch_num_images"].tolist() == list(expected["batch_num_images"])
    tiles = expected["pixel_values"].flatten(0, 1)
    assert inputs["pixel_values"].shape == tiles.shape
    levels = (inputs["pixel_values"] - tiles).abs() * 255 / 2
    assert float(levels.mean()) < 0.5
    assert float(levels.max()) < 16


def test_tiles_side_by_side_are_the_padded_batch_of_the_reference(tiny: Path) -> None:
    """The model takes tiles of all pictures in one row, or a batch padded to the most tiles."""
    rows = [asked(picture(*size), "何?") for size in ((28, 28), (120, 60), (30, 170))]
    inputs = inputs_of(tiny, FAMILY, [FAMILY.open(tiny).encode(row) for row in rows])
    model: Any = load_model(tiny, FAMILY)
    counts = [2, 16, 13]
    assert sum(counts) == len(inputs["pixel_values"])
    padded = torch.zeros(3, max(counts), *inputs["pixel_values"].shape[1:])
    for row, tiles in enumerate(inputs["pixel_values"].split(counts)):
        padded[row, : len(tiles)] = tiles
    sizes = inputs["image_sizes"]
    with torch.no_grad():
        ours = model.get_image_features(
            inputs["pixel_values"], sizes, batch_num_images=inputs["batch_num_images"]
        ).pooler_output
        theirs = model.get_image_features(padded, sizes).pooler_output
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_packed_equals_one_by_one_beside_conversations_of_several_pictures(tiny: Path) -> None:
    sizes = [(1, 1), (28, 28), (200, 20), (20, 200), (168, 168), (90, 130)]
    rows = [asked(picture(*size), "何?") for size in sizes[:3]]
    rows += [asked("hello"), asked(picture(84, 56), "a", picture(200, 120), "b")]
    rows += [asked(*(picture(*size) for size in sizes), "どれ?"), asked("次", picture(33, 90))]
    rows += [asked(picture(*size), "何?") for size in sizes[3:]]
    # Sums in another order; the worst seen is 1e-6 of the spread.
    assert gap_of_packing(tiny, FAMILY, rows) < 1e-5


def test_answers_are_those_of_transformers_alone_and_in_a_batch(tiny: Path) -> None:
    prompts: list[list[Any]] = [
        [picture(100, 40), "何ですか"],
        [picture(28, 28), "と", picture(60, 200), "の違いを説明して"],
        ["hello"],
        [picture(30, 160), "読んで", picture(5, 5), picture(99, 98)],
        [picture(1, 300)],
    ]
    same_as_generate(tiny, FAMILY, prompts)


def test_a_picture_counted_as_alone_is_refused_by_us_not_only_by_shape(tiny: Path) -> None:
    """Without the counts the model takes every picture for one in tiles."""
    processor: Any = FAMILY.open(tiny)
    example = processor.encode(asked(picture(28, 28), picture(60, 60), "何?"))
    inputs = inputs_of(tiny, FAMILY, [example])
    own = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
    own.pop("batch_num_images")
    with pytest.raises((RuntimeError, ValueError)):
        load_model(tiny, FAMILY)(**own)
    arrays = {k: v.numpy() for k, v in own.items() if torch.is_tensor(v)}
    with pytest.raises(BatchError, match="batch_num_images"):
        processor.require(arrays)


def test_the_text_is_as_published_and_the_last_answer_as_it_is_asked_for(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    turns = (
        Message("system", (Text("短く。"),)),
        Message("user", (Text("何?"), picture(28, 28), Text("色も"))),
        Message("assistant", (Text("灰色"),)),
        Message("user", (Text("次は?"),)),
        Message("assistant", (Text("帯"),)),
    )
    example = processor.encode(Conversation(turns))
    image = example.images[0]
    ids = example.input_ids.tolist()
    shown = processor.tokenizer.decode(ids[: image.start + 1] + ids[image.start + image.tokens :])
    assert shown == (
        "<|im_start|>system \n短く。<|im_end|><|im_start|>user <image>\n何?\n色も<|im_end|>"
        "<|im_start|>assistant \n灰色<|im_end|><|im_start|>user \n次は?<|im_end|>"
        "<|im_start|>assistant\n帯<|im_end|>"
    )
    trained = processor.tokenizer.decode(example.input_ids[example.trained].tolist())
    assert trained == "灰色<|im_end|>帯<|im_end|>"
    assert example.notes == ("last answer spliced",)


def test_row_ends_belong_to_the_projector(tiny: Path) -> None:
    model = load_model(tiny, FAMILY)
    assert "model.image_newline" in dict(model.named_parameters())
    assert FAMILY.part_of("model.image_newline") == "projector"


def change(folder: Path, name: str, **fields: Any) -> None:
    write_json(folder / name, {**read_json(folder / name), **fields})


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        (
            "preprocessor_config.json",
            {"size": {"height": 56, "width": 56}},
            "the side of a tile 56",
        ),
        ("preprocessor_config.json", {"image_grid_pinpoints": [[28, 28]]}, "image_grid_pinpoints"),
        ("preprocessor_config.json", {"resample": 2}, "resample 2"),
        ("config.json", {"vision_aspect_ratio": "pad"}, "vision_aspect_ratio 'pad'"),
        ("config.json", {"vision_feature_select_strategy": "default"}, "'default'"),
        ("config.json", {"image_token_index": 9999}, "names token 9999"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    copied: Path, file: str, fields: dict[str, Any], said: str
) -> None:
    change(copied, file, **fields)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(copied)


def test_sheets_that_are_no_whole_tiles_are_refused(copied: Path) -> None:
    for file in ("config.json", "preprocessor_config.json"):
        change(copied, file, image_grid_pinpoints=[[28, 28], [28, 40]])
    with pytest.raises(CheckpointError, match="no multiple of a tile's 28"):
        FAMILY.open(copied)


def test_a_checkpoint_without_picture_settings_or_row_end_is_refused(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    weights.pop("image_newline")
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="image_newline"):
        load_model(copied, FAMILY)
    for name in ("preprocessor_config.json", "processor_config.json"):
        (copied / name).unlink()
    with pytest.raises(CheckpointError, match="neither preprocessor_config"):
        FAMILY.open(copied)
