"""Gemma 3 against transformers' own code: crops, image blocks under windows, the silent key."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_rows import ODD_SIZES, asked, gap_of_packing, inputs_of
from PIL import Image as Pillow
from safetensors import safe_open
from transformers import AutoTokenizer, Gemma3ImageProcessorPil, Gemma3Processor

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import AdapterError, CheckpointError
from manako.core.files import read_json, write_json
from manako.families._shared.gemma import SquareSettings, crop_count
from manako.families._shared.sizes import image_tokens
from manako.families.gemma3 import FAMILY
from manako.nn import attention
from manako.nn.adapters import attach
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, picture, probes
from manako.verify.runner import laws

CROPS = {"pan_and_scan": True, "min_crop": 40}
"""Crops of 40 pixels and more, so that small pictures have some."""
LIVELY = {"initializer_range": 0.25}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 tokens a picture, more than the window of the shorter layers."""
    folder = tmp_path_factory.mktemp("gemma3") / "tiny"
    FAMILY.make_tiny(folder, seed=1, tokens=16, sliding_window=11, layers=4, **LIVELY)
    return folder


@pytest.fixture(scope="module")
def cropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gemma3") / "cropping"
    FAMILY.make_tiny(folder, seed=2, sliding_window=7, **CROPS, **LIVELY)
    return folder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def hard_rows() -> list[Conversation]:
    """Pictures side by side, at the beginning and at the end, none, and two turns of them."""
    square, wide, tall = picture(56, 56), picture(200, 50), picture(50, 200)
    turns = (
        Message("system", (Text("短く。\n"),)),
        Message("user", (Text("一枚目\n\n"), wide, Text("\n二枚目"), tall)),
        Message("assistant", (Text("\n はい。"),)),
        Message("user", (square, square, Text("?"))),
        Message("assistant", (Text("同じです。"),)),
    )
    return [
        asked(square, "何?"),
        asked("a", wide, answer="長い答え。" * 12),
        asked("絵のない長い問い。" * 9),
        asked(tall, square, wide),
        asked("ok"),
        Conversation(turns, id="turns"),
    ]


# -- what a picture costs, and what the reference makes of it


@pytest.mark.parametrize("size", ODD_SIZES)
def test_a_picture_costs_what_the_rule_says(tiny: Path, size: tuple[int, int]) -> None:
    processor = FAMILY.open(tiny)
    lengths = processor.measure(asked(picture(*size), "?"))
    assert lengths.image_tokens == image_tokens("fixed", *size, {"tokens": 16}) == 16
    assert lengths.vision_patches == 16


@pytest.mark.parametrize(
    ("min_crop", "max_crops", "min_ratio"), [(256, 4, 1.2), (40, 3, 1.5), (100, 7, 1.0), (13, 2, 3)]
)
def test_crops_are_those_of_the_reference(min_crop: int, max_crops: int, min_ratio: float) -> None:
    settings = SquareSettings(
        side=56,
        tokens=4,
        patch=14,
        pan_and_scan=True,
        min_crop=min_crop,
        max_crops=max_crops,
        min_ratio=min_ratio,
    )
    reference = Gemma3ImageProcessorPil()
    sides = (1, 13, 40, 56, 99, 256, 300, 307, 308, 512, 640, 1000, 1792, 4000)
    for width in sides:
        for height in sides:
            empty = np.empty((3, height, width), np.uint8)
            crops = reference.pan_and_scan(empty, min_crop, max_crops, min_ratio)
            assert crop_count(width, height, settings) == len(crops), (width, height)


@pytest.mark.parametrize("crops", [False, True])
def test_inputs_are_those_of_the_published_processor(
    tiny: Path, cropping: Path, crops: bool
) -> None:
    """The processor of transformers leaves crops off unless asked in the call."""
    folder = cropping if crops else tiny
    tokens = read_json(folder / "config.json")["mm_tokens_per_image"]
    reference = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 56, "width": 56}, image_seq_length=tokens),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
        image_seq_length=tokens,
        chat_template=read_json(folder / "tokenizer_config.json")["chat_template"],
    )
    processor: Any = FAMILY.open(folder)
    for row in [*probes(), *hard_rows()]:
        question = Conversation(row.messages[:-1], id=row.id)
        example = processor.encode_prompt(question)
        found = inputs_of(folder, FAMILY, [example])
        images = [Pillow.open(io.BytesIO(image.data)) for image in row.images]
        expected = reference(
            text=[
                reference.apply_chat_template(
                    [_plain(message) for message in question.messages], add_generation_prompt=True
                )
            ],
            images=[images] if images else None,
            add_special_tokens=False,
            return_tensors="pt",
            do_pan_and_scan=crops,
            pan_and_scan_min_crop_size=40,
        )
        assert torch.equal(found["input_ids"], expected["input_ids"]), row.id
        assert torch.equal(found["token_type_ids"], expected["token_type_ids"]), row.id
        by_rule = [FAMILY.image_tokens(*image.size, processor.settings) for image in row.images]
        assert [image.tokens for image in example.images] == by_rule
        if images:
            assert found["pixel_values"].shape == expected["pixel_values"].shape


def _plain(message: Message) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": part.text} if isinstance(part, Text) else {"type": "image"}
        for part in message.content
    ]
    return {"role": message.role, "content": parts}


def test_crops_stand_in_their_order(cropping: Path) -> None:
    left, right = np.zeros((50, 100, 3), np.uint8), np.full((50, 100, 3), 255, np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(np.concatenate([left, right], axis=1)).save(buffer, format="PNG")
    example = FAMILY.open(cropping).encode(asked(Image(buffer.getvalue()), "?"))
    pixels = example.images[0].pixels
    # Four times as wide as high, but no crop is narrower than 40 pixels: whole, then four of 50.
    assert pixels.shape == (5, 3, 56, 56)
    assert [int(view.mean()) for view in pixels[1:]] == [0, 0, 255, 255]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 8, 12, 13])
def test_laws_hold_where_pictures_are_cropped(cropping: Path, number: int) -> None:
    verdict = Subject(cropping).verdict(laws()[number - 1])
    assert verdict.state == "holds", verdict


# -- attention


@pytest.mark.parametrize("window", [3, 11, 64])
def test_packed_equals_one_by_one_under_windows(tmp_path: Path, window: int) -> None:
    FAMILY.make_tiny(tmp_path, seed=3, tokens=16, sliding_window=window, layers=4, **LIVELY)
    # Sums in another order; the worst seen is 2e-6 of the spread.
    assert gap_of_packing(tmp_path, FAMILY, hard_rows()) < 1e-5


def test_packed_equals_one_by_one_with_crops(cropping: Path) -> None:
    assert gap_of_packing(cropping, FAMILY, hard_rows()) < 1e-5


def test_every_text_layer_is_told_the_image_blocks(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    original = attention._attend_segments

    def noted(query: Any, key: Any, value: Any, boundaries: Any, sight: Any, scores: Any) -> Any:
        told.append((sight.window, sight.blocks))
        return original(query, key, value, boundaries, sight, scores)

    monkeypatch.setattr(attention, "_attend_segments", noted)
    model = load_model(tiny, FAMILY)
    attention.use_segments(model)
    processor = FAMILY.open(tiny)
    examples = [processor.encode(row) for row in hard_rows()]
    with torch.no_grad():
        model(**inputs_of(tiny, FAMILY, examples))
    starts = np.cumsum([0, *(example.tokens for example in examples)])
    blocks = tuple(
        (int(start) + image.start, int(start) + image.start + 16)
        for start, example in zip(starts, examples, strict=False)
        for image in example.images
    )
    assert len(blocks) == 9
    assert told == [(11, blocks), (None, blocks)] * 2


@pytest.mark.parametrize(
    "broken", ["no blocks", "blocks one token short", "no token_type_ids", "no window"]
)
def test_what_is_left_out_shows(tiny: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these runs without an error and gives other logits."""
    processor = FAMILY.open(tiny)
    examples = [processor.encode(row) for row in hard_rows()]
    whole = inputs_of(tiny, FAMILY, examples)
    packed = load_model(tiny, FAMILY)
    attention.use_segments(packed)
    with torch.no_grad():
        expected = packed(**whole).logits
        if broken == "no token_type_ids":
            alone = load_model(tiny, FAMILY)
            single = inputs_of(tiny, FAMILY, examples[:1])
            single = {k: v for k, v in single.items() if k not in ("segments", "image_blocks")}
            expected = alone(**single).logits
            found = alone(**{k: v for k, v in single.items() if k != "token_type_ids"}).logits
        elif broken == "no window":
            for layer in packed.model.language_model.layers:
                layer.self_attn.sliding_window = None
            found = packed(**whole).logits
        else:
            short = tuple((a, b - 1) for a, b in whole["image_blocks"])
            blocks = short if "short" in broken else ()
            found = packed(**{**whole, "image_blocks": blocks}).logits
    assert float((found - expected).abs().max() / expected.std()) > 1e-3


# -- weights, adapters, files that are wrong


def test_weights_have_the_published_names(tiny: Path) -> None:
    with safe_open(tiny / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert {
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.0.self_attn.q_norm.weight",
        "multi_modal_projector.mm_input_projection_weight",
        "multi_modal_projector.mm_soft_emb_norm.weight",
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        "vision_tower.vision_model.encoder.layers.1.self_attn.out_proj.bias",
        "vision_tower.vision_model.post_layernorm.weight",
    } <= names
    assert not any(name.startswith(("model.", "lm_head")) for name in names)


def test_adapters_sit_on_vision_and_language_alone(tiny: Path) -> None:
    assert len(attach(load_model(tiny, FAMILY), FAMILY, ["vision"], r=2, alpha=4)) == 2 * 6
    assert len(attach(load_model(tiny, FAMILY), FAMILY, ["language"], r=2, alpha=4)) == 4 * 7
    with pytest.raises(AdapterError, match="projector"):
        attach(load_model(tiny, FAMILY), FAMILY, ["projector"], r=2, alpha=4)


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = read_json(file)
    change(content)
    write_json(file, content)


WRONG: Sequence[tuple[str, Callable[[dict[str, Any]], object], str]] = (
    ("preprocessor_config.json", lambda c: c["size"].update(height=70), "size"),
    ("preprocessor_config.json", lambda c: c.update(image_seq_length=9), "image_seq_length 9"),
    ("processor_config.json", lambda c: c.update(image_seq_length=9), "image_seq_length 9"),
    ("preprocessor_config.json", lambda c: c.update(resample=3), "bilinear"),
    ("config.json", lambda c: c.update(image_token_index=100_000), "token 100000"),
    (
        "config.json",
        lambda c: c["text_config"].update(use_bidirectional_attention=True),
        "text encoders",
    ),
)


@pytest.mark.parametrize(("name", "change", "named"), WRONG)
def test_files_that_disagree_are_named(
    copy: Path, name: str, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    edit(copy / name, change)
    with pytest.raises(CheckpointError, match=named):
        FAMILY.open(copy)


def test_numbers_of_tokens_may_stand_in_config_alone(copy: Path) -> None:
    for name in ("preprocessor_config.json", "processor_config.json"):
        edit(copy / name, lambda content: content.pop("image_seq_length"))
    assert FAMILY.open(copy).measure(asked(picture(9, 9), "?")).image_tokens == 16


def test_pan_and_scan_has_the_published_values_where_they_are_null(copy: Path) -> None:
    edit(copy / "preprocessor_config.json", lambda c: c.update(do_pan_and_scan=True))
    settings: Any = FAMILY.open(copy).settings  # type: ignore[attr-defined]
    assert (settings.min_crop, settings.max_crops, settings.min_ratio) == (256, 4, 1.2)
