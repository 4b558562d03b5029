"""LLaVA 1.5 against transformers' own code: squares, an end the template leaves out, prefix blanks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_rows import ODD_SIZES, asked, gap_of_packing, inputs_of, same_as_generate
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError
from manako.core.family import families, family_of
from manako.core.files import read_json, write_json
from manako.core.images import decode_rgb
from manako.families._shared.sizes import image_tokens
from manako.families._shared.squares import SquareSettings
from manako.families.llava import FAMILY, refusal
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

PUBLISHED = SquareSettings(edge=336, crop=336, side=24)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava") / "tiny"
    FAMILY.make_tiny(folder, seed=1, initializer_range=0.05)
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny, tmp_path / "copied")
    return tmp_path / "copied"


def change(folder: Path, name: str, **fields: Any) -> None:
    write_json(folder / name, {**read_json(folder / name), **fields})


@pytest.mark.parametrize("size", ODD_SIZES)
def test_every_picture_costs_the_same(tiny: Path, size: tuple[int, int]) -> None:
    processor: Any = FAMILY.open(tiny)
    assert FAMILY.image_tokens(*size, PUBLISHED) == image_tokens("fixed", *size, {"tokens": 576})
    example = processor.encode(asked(picture(*size), "何?"))
    assert int((example.input_ids == processor.image_token_id).sum()) == 4
    assert example.images[0].pixels.shape == (1, 3, 28, 28)


@pytest.mark.parametrize("size", [(28, 28), (100, 40), (40, 100), (57, 60), (29, 300)])
def test_inputs_are_those_of_the_processor(tiny: Path, size: tuple[int, int]) -> None:
    """Shape and place of the square. The filter is Pillow's here, whose rounding differs; law 6
    compares bit for bit."""
    reference = CLIPImageProcessorPil(**read_json(tiny / "preprocessor_config.json"))
    image = picture(*size)
    expected = reference(images=[np.array(decode_rgb(image.data))], return_tensors="pt")
    inputs = inputs_of(tiny, FAMILY, [FAMILY.open(tiny).encode(asked(image, "何?"))])
    assert inputs["pixel_values"].shape == expected["pixel_values"].shape
    levels = (inputs["pixel_values"] - expected["pixel_values"]).abs() * 255 * 0.27
    assert float(levels.mean()) < 1


def test_the_whole_class_token_is_counted_where_the_strategy_is_full(copied: Path) -> None:
    change(copied, "config.json", vision_feature_select_strategy="full")
    example = FAMILY.open(copied).encode(asked(picture(50, 40), "何?"))
    assert example.images[0].tokens == 5
    with torch.no_grad():
        logits = load_model(copied, FAMILY)(
            **{
                k: v
                for k, v in inputs_of(copied, FAMILY, [example]).items()
                if k not in ("segments", "logits_to_keep")
            }
        ).logits
    assert logits.shape[1] == example.tokens


def test_packed_equals_one_by_one(tiny: Path) -> None:
    rows = [asked(picture(*size), "何?") for size in ((1, 1), (28, 28), (200, 20), (9, 300))]
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


def test_the_text_is_as_published_with_an_end_after_the_last_answer(tiny: Path) -> None:
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
        "<s> 短く。 USER: <image>\n何? 色も ASSISTANT: 灰色 USER: 次は? ASSISTANT: 帯</s> "
    )
    assert example.notes == ("end of turn appended",)
    texts = processor.token_texts(example.input_ids[example.trained].tolist())
    trained = processor.tokenizer.decode(example.input_ids[example.trained].tolist(), at="inside")
    assert trained == " 灰色 帯</s>"
    assert texts[-1] == "</s>"
    assert texts[0].startswith(" ")


def test_without_the_familys_end_no_row_can_be_trained(tiny: Path) -> None:
    subject = Subject(tiny)
    processor: Any = subject.processor
    processor.maker.end_token = None
    assert subject.verdict(laws()[2]).state == "fails"


def test_chat_answers_stop_at_the_end_token(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    ids = processor.encode(asked("何?", answer="帯です。")).input_ids.tolist()
    start = processor.encode_prompt(Conversation(asked("何?").messages[:1])).tokens
    assert processor.parse(ids[start:]).text == "帯です。"
    assert processor.tokenizer.id_of("</s>") in processor.end_ids


def test_pixtral_and_llava_are_told_apart(tiny: Path, copied: Path) -> None:
    assert family_of(tiny).name == "llava"
    assert refusal({"vision_config": {"hidden_size": 1024}}) == ""
    assert "pixtral" in refusal({"vision_config": {"model_type": "pixtral"}})
    assert "no vision tower" in refusal({"model_type": "llava"})
    change(copied, "config.json", vision_config={"model_type": "siglip_vision_model"})
    with pytest.raises(CheckpointError, match="siglip_vision_model"):
        family_of(copied)
    if "pixtral" in families().items:
        change(copied, "config.json", vision_config={"model_type": "pixtral"})
        assert family_of(copied).name == "pixtral"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"crop_size": {"height": 56, "width": 56}}, "crop_size 56"),
        ({"size": {"shortest_edge": 14}}, "a shortest_edge of at least the crop's 28"),
        ({"size": {"height": 28, "width": 28}}, "a shortest_edge of at least"),
        ({"resample": 2}, "resample 2"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    copied: Path, fields: dict[str, Any], said: str
) -> None:
    change(copied, "preprocessor_config.json", **fields)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(copied)
