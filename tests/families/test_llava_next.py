"""LLaVA-NeXT against transformers' own code: sheets, ends of rows, two language models."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_rows import ODD_SIZES, asked, gap_of_packing, inputs_of, same_as_generate
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)

from manako.core.errors import CheckpointError
from manako.core.files import read_json, write_json
from manako.core.images import decode_rgb
from manako.families._shared.sheets import SheetSettings, sheet_cost
from manako.families._shared.sizes import image_tokens
from manako.families.llava_next import FAMILY
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

PUBLISHED = SheetSettings(tile=336, side=24, sheets=((2, 1), (1, 2), (2, 2), (1, 3), (3, 1)))


@pytest.fixture(scope="module", params=["mistral", "vicuna"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava_next") / request.param
    FAMILY.make_tiny(folder, seed=1, initializer_range=0.05, vicuna=request.param == "vicuna")
    return folder


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava_next") / "one"
    FAMILY.make_tiny(folder, seed=1)
    return folder


@pytest.mark.parametrize("size", ODD_SIZES)
def test_image_tokens_in_an_example_are_what_the_rule_says(
    mistral: Path, size: tuple[int, int]
) -> None:
    processor: Any = FAMILY.open(mistral)
    assert sheet_cost(*size, PUBLISHED).tokens == image_tokens("llava_next", *size)
    small = {"tile": 28, "side": 2}
    example = processor.encode(asked(picture(*size), "と", picture(30, 30), "何?"))
    expected = image_tokens("llava_next", *size, small), image_tokens("llava_next", 30, 30, small)
    assert tuple(image.tokens for image in example.images) == expected
    assert int((example.input_ids == processor.image_token_id).sum()) == sum(expected)


@pytest.mark.parametrize("sizes", [[(28, 28)], [(100, 40)], [(40, 100), (56, 56), (84, 28)]])
def test_inputs_are_those_of_the_processor(mistral: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Keys, shapes and order of tiles. The filter is Pillow's here, whose rounding differs; law 6
    compares bit for bit."""
    reference = LlavaNextImageProcessorPil(**read_json(mistral / "preprocessor_config.json"))
    images = [picture(*size) for size in sizes]
    expected = reference(
        images=[np.array(decode_rgb(image.data)) for image in images], return_tensors="pt"
    )
    inputs = inputs_of(mistral, FAMILY, [FAMILY.open(mistral).encode(asked(*images, "何?"))])
    assert torch.equal(inputs["image_sizes"], torch.as_tensor(expected["image_sizes"]))
    place = 0
    for number, tiles in enumerate(expected["pixel_values"]):
        count = sheet_cost(*sizes[number], FAMILY.open(mistral).settings).grid  # type: ignore[attr-defined]
        count = count[0] * count[1] + 1
        found = inputs["pixel_values"][place : place + count]
        assert float((found - tiles[:count]).abs().mean()) * 255 * 0.27 < 1
        place += count
    assert place == len(inputs["pixel_values"])


def test_packed_equals_one_by_one(tiny: Path) -> None:
    sizes = [(1, 1), (28, 28), (200, 20), (20, 200), (168, 168), (90, 130)]
    rows = [asked(picture(*size), "何?") for size in sizes]
    rows += [asked("hello"), asked(picture(84, 56), "a", picture(200, 120), "b"), asked("次")]
    # Sums in another order; the worst seen is 1e-6 of the spread.
    assert gap_of_packing(tiny, FAMILY, rows) < 1e-5


def test_answers_are_those_of_transformers_alone_and_in_a_batch(tiny: Path) -> None:
    prompts: list[list[Any]] = [
        [picture(100, 40), "何ですか"],
        [picture(28, 28), "と", picture(60, 200), "の違いを説明して"],
        ["hello"],
        [picture(1, 300)],
    ]
    same_as_generate(tiny, FAMILY, prompts)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_laws_of_text_hold_with_either_language_model(tiny: Path, number: int) -> None:
    verdict = Subject(tiny).verdict(laws()[number - 1])
    assert verdict.state == "holds", verdict


def test_the_end_of_a_turn_is_the_templates_or_the_familys(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    example = processor.encode(asked("何?", answer="帯"))
    text = processor.tokenizer.decode(example.input_ids.tolist())
    if tiny.name == "mistral":
        assert (text, example.notes) == ("<s> [INST] 何? [/INST] 帯</s>  ", ())
    else:
        assert (text, example.notes) == (
            "<s> USER: 何? ASSISTANT: 帯</s>  ",
            ("end of turn appended",),
        )


def test_row_ends_belong_to_the_projector() -> None:
    assert FAMILY.part_of("model.image_newline") == "projector"


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("preprocessor_config.json", {"crop_size": {"height": 14}}, "the side of a tile 14"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 56}}, "the side of the whole 56"),
        ("preprocessor_config.json", {"image_grid_pinpoints": [[28, 28]]}, "image_grid_pinpoints"),
        ("config.json", {"vision_feature_select_strategy": "full"}, "'full'"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    mistral: Path, tmp_path: Path, file: str, fields: dict[str, Any], said: str
) -> None:
    shutil.copytree(mistral, tmp_path / "copied")
    write_json(tmp_path / "copied" / file, {**read_json(tmp_path / "copied" / file), **fields})
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(tmp_path / "copied")
