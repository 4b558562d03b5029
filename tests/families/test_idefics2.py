"""Idefics2 against transformers' own code: pieces, shared marks, a padded batch, the perceiver."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from transformers import AutoTokenizer
from transformers.image_utils import SizeDict
from transformers.models.idefics2.image_processing_pil_idefics2 import (
    Idefics2ImageProcessorPil,
    get_resize_output_image_size,
)
from transformers.models.idefics2.processing_idefics2 import Idefics2Processor

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import BatchError, CheckpointError, ImageError
from manako.core.example import Example, Pack
from manako.core.files import read_json, write_json
from manako.families._shared.idefics2 import piece_size
from manako.families._shared.sizes import image_tokens
from manako.families.idefics2 import FAMILY
from manako.nn import attention
from manako.nn.adapters import attach
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

SHAPES = ((42, 42), (112, 112), (42, 112), (112, 42), (57, 99), (300, 30), (30, 300), (2, 2))
"""At sides of 42 to 112 pixels: least, most, long, tall, no whole patches, resized, enlarged."""
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    kept: dict[str, Path] = {}

    def make(**changes: Any) -> Path:
        key = str(changes)
        if key not in kept:
            kept[key] = tmp_path_factory.mktemp("idefics2") / "tiny"
            FAMILY.make_tiny(kept[key], seed=1, initializer_range=0.1, **changes)
        return kept[key]

    return make


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made(), tmp_path / "copy"))


def asked(*content: Any, answer: str = "はい。") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))), id="row")


def pillow_of(image: Image) -> Any:
    return Pillow.open(io.BytesIO(image.data)).convert("RGB")


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, FAMILY.open(folder), device="cpu", dtype=torch.float32).inputs


def reference_of(folder: Path) -> Idefics2Processor:
    named = ("image_processor_type", "processor_class")
    settings = read_json(folder / "preprocessor_config.json")
    return Idefics2Processor(
        image_processor=Idefics2ImageProcessorPil(
            **{name: value for name, value in settings.items() if name not in named}
        ),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        image_seq_len=3,
    )


PROMPTS: tuple[tuple[Any, ...], ...] = (
    (picture(56, 56), "What is it?"),
    ("before", picture(120, 40), "次は", picture(45, 200), "<b>"),
    (picture(56, 56), picture(120, 40), picture(45, 200), "数字は?"),
    ("x", picture(30, 31), picture(57, 99)),
    (picture(300, 30), "<b>x"),
    ("no picture",),
)


@pytest.mark.parametrize("split", [True, False], ids=["pieces", "whole"])
@pytest.mark.parametrize("content", PROMPTS)
def test_prompts_are_those_of_the_processor(made: Made, split: bool, content: Any) -> None:
    """Ids and mask equal, marks that neighbours share included; pixels to one level, because this
    processor resizes by Pillow (law 6 holds the torchvision one bit for bit)."""
    folder = made(split=split)
    reference = reference_of(folder)
    parts = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
        for part in content
    ]
    text = reference.tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    pictures = [pillow_of(part) for part in content if not isinstance(part, str)]
    found = reference(text=text, images=[pictures] if pictures else None)
    example = FAMILY.open(folder).encode_prompt(Conversation.of(list(content)))
    assert example.input_ids.tolist() == found["input_ids"][0]
    if pictures:
        ours = inputs_of(folder, [FAMILY.open(folder).encode(asked(*content))])
        is_real = np.asarray(found["pixel_attention_mask"]).astype(bool)
        assert np.array_equal(ours["pixel_attention_mask"].numpy(), is_real)
        difference = np.abs(ours["pixel_values"].numpy() - np.asarray(found["pixel_values"]))
        assert difference[np.broadcast_to(is_real[:, :, None], difference.shape)].max() < 0.008


SIDES = (1, 2, 3, 41, 42, 43, 112, 113, 377, 980, 981, 4000)


def test_pieces_have_the_sizes_of_the_reference(made: Made) -> None:
    processor: Any = FAMILY.open(made())
    published = processor.with_settings(shortest=378, longest=980).settings
    limits = SizeDict(shortest_edge=378, longest_edge=980)
    for width, height in product(SIDES, SIDES):
        expected = get_resize_output_image_size(np.empty((3, height, width)), limits)
        assert piece_size(width, height, published) == expected[::-1]


@pytest.mark.parametrize("split", [True, False], ids=["pieces", "whole"])
def test_image_tokens_are_those_of_the_rule(made: Made, split: bool) -> None:
    processor: Any = FAMILY.open(made(split=split))
    published = processor.with_settings(vectors=64)
    for width, height in product(SIDES, SIDES):
        if split and min(width, height) == 1:
            continue
        expected = image_tokens("idefics2", width, height, {"split": int(split)})
        assert published.cost(width, height).tokens == expected
        if max(width, height) < 400:
            ids = processor.encode(asked(picture(width, height))).input_ids
            assert (ids == processor.image_token_id).sum() == 3 * expected / 64


def test_the_tower_works_on_the_frame_that_holds_all_pieces(made: Made) -> None:
    example = FAMILY.open(made()).encode(asked(picture(112, 112)))
    (image,) = example.images
    assert image.grid == (56, 56, 56, 56, 56, 56, 56, 56, 112, 112)
    assert image.pixels.shape == (5, 3, 112, 112)
    assert image.vision_patches == 5 * (112 // 14) ** 2
    assert not image.pixels[:4, :, 56:].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_a_picture_that_cannot_be_cut_in_four_is_refused(made: Made, size: Any) -> None:
    """The reference divides by zero, or resizes a piece without pixels; uncut it takes them."""
    with pytest.raises(ImageError, match="cut in four") as caught:
        FAMILY.open(made()).measure(asked(picture(*size)))
    assert caught.value.reason == "size"
    assert FAMILY.open(made(split=False)).measure(asked(picture(*size))).image_tokens == 3


def examples_of(folder: Path) -> list[Example]:
    rows = [asked(picture(*size), "何?") for size in SHAPES] + [asked("text only")]
    rows += [asked("a", picture(57, 99), picture(99, 57), "b", picture(300, 30)), asked("again")]
    return [FAMILY.open(folder).encode(row) for row in rows]


def logits_alone(folder: Path, examples: Sequence[Example]) -> torch.Tensor:
    """One by one, in the model's own attention and with its own positions."""
    model: Any = load_model(folder, FAMILY)
    singles = []
    for example in examples:
        inputs = inputs_of(folder, [example])
        inputs = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
        with torch.no_grad():
            singles.append(model(**inputs).logits[0])
    return torch.cat(singles)


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.std())


@pytest.mark.parametrize("split", [True, False], ids=["pieces", "whole"])
def test_packed_equals_one_by_one_with_pictures_of_every_shape(made: Made, split: bool) -> None:
    """Alone a picture has another frame than in the pack, so this is about padding too."""
    folder = made(split=split)
    examples = examples_of(folder)
    packed: Any = load_model(folder, FAMILY)
    attention.use_segments(packed)
    with torch.no_grad():
        found = packed(**inputs_of(folder, examples)).logits[0]
    # Sums in another order; the worst seen is 2e-6 of the spread.
    assert gap(found, logits_alone(folder, examples)) < 1e-5


def test_packed_equals_one_by_one_in_a_sliding_window(made: Made) -> None:
    """Mistral's config has a window of 4,096 where it says nothing."""
    folder = made(sliding_window=16)
    assert load_model(made(), FAMILY).config.text_config.sliding_window == 4096
    examples = examples_of(folder)
    packed: Any = load_model(folder, FAMILY)
    attention.use_segments(packed)
    with torch.no_grad():
        found = packed(**inputs_of(folder, examples)).logits[0]
    assert gap(found, logits_alone(folder, examples)) < 1e-5
    assert gap(found, logits_alone(made(), examples)) > 0.01


def test_law_7_sees_padding_that_is_attended_to(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_padding_mask", lambda *_, **__: None)
    assert Subject(made()).verdict(laws()[6]).state == "fails"


def test_transformers_is_silent_without_the_mask_and_we_are_not(made: Made) -> None:
    folder = made()
    processor: Any = FAMILY.open(folder)
    inputs = inputs_of(folder, [processor.encode(asked(picture(42, 112), picture(112, 42)))])
    inputs.pop("segments")
    model: Any = load_model(folder, FAMILY)
    with torch.no_grad():
        right = model(**inputs).logits
        inputs.pop("pixel_attention_mask")
        silent = model(**inputs).logits
    assert gap(silent, right) > 0.01
    arrays = {name: value.numpy() for name, value in inputs.items() if torch.is_tensor(value)}
    with pytest.raises(BatchError, match="pixel_attention_mask"):
        processor.require(arrays)


def test_the_perceiver_is_adapted_as_the_projector(made: Made) -> None:
    expected = {"vision": 2 * 6, "projector": 3 + 2 * 7, "language": 2 * 7}
    for part, count in expected.items():
        model: Any = load_model(made(), FAMILY)
        names = attach(model, FAMILY, [part], r=2, alpha=4)  # type: ignore[list-item]
        assert len(names) == count
        assert {FAMILY.part_of(name) for name in names} == {part}
    linear = [n for n, _ in load_model(made(), FAMILY).named_modules() if n.endswith("q_proj")]
    assert {FAMILY.part_of(name) for name in linear} == set(expected)


def test_an_answer_comes_back_without_the_blank_of_the_template(made: Made) -> None:
    processor: Any = FAMILY.open(made())
    for answer in ("yes", "はい", "a b"):
        example = processor.encode(asked("?", answer=answer))
        start = int(np.flatnonzero(example.trained)[0])
        assert processor.parse(example.input_ids[start:].tolist()).text == answer


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("processor_config.json", {"image_seq_len": 64}, "image_seq_len 64"),
        ("preprocessor_config.json", {"resample": 3}, "resample 3"),
        ("preprocessor_config.json", {"do_normalize": False}, "switches off do_normalize"),
        ("config.json", {"image_token_id": 9999}, "token 9999"),
    ],
)
def test_files_that_contradict_each_other_are_named(
    copied: Path, file: str, changes: dict[str, Any], said: str
) -> None:
    write_json(copied / file, {**read_json(copied / file), **changes})
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(copied)
