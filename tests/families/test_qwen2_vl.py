"""Qwen2-VL against transformers' own code where it runs without torchvision, and by properties."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.core.conversation import Conversation, Image, Message
from manako.core.errors import BatchError, CheckpointError, ImageError, RecipeError, RowError
from manako.core.example import Pack
from manako.core.files import read_json, write_json
from manako.families._shared.qwen import ImageSettings, image_tokens
from manako.families._shared.sizes import qwen_size
from manako.families.qwen2_vl import FAMILY

SIDES = st.integers(1, 3000)


def picture(width: int, height: int, seed: int = 0) -> Image:
    from PIL import Image as Pillow

    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(noise).save(buffer, format="PNG")
    return Image(buffer.getvalue())


def asked(*content: Any, answer: str = "はい。", id: str = "row") -> Conversation:
    return Conversation((Message("user", content), Message("assistant", answer)), id=id)  # type: ignore[arg-type]


@settings(max_examples=400, deadline=None)
@given(SIDES, SIDES, st.sampled_from([(3136, 12_845_056), (3136, 1_003_520), (784, 50_176)]))
def test_size_equals_the_reference(width: int, height: int, limits: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    smallest, largest = limits
    try:
        expected = smart_resize(height, width, 28, smallest, largest)
    except ValueError:
        with pytest.raises(ImageError, match="aspect ratio"):
            qwen_size(width, height, factor=28, min_pixels=smallest, max_pixels=largest)
        return
    found = qwen_size(width, height, factor=28, min_pixels=smallest, max_pixels=largest)
    assert found == expected[::-1]


@pytest.mark.parametrize(
    ("size", "limit", "tokens"),
    [  # published counts: facts of the catalogue, section 3.2, measured with transformers 5.23
        ((1240, 1754), 12_845_056, 2772),
        ((1240, 1754), 1_003_520, 1260),
    ],
)
def test_published_token_counts(size: tuple[int, int], limit: int, tokens: int) -> None:
    rule = ImageSettings(patch=14, merge=2, temporal=2, min_pixels=3136, max_pixels=limit)
    assert image_tokens(*size, rule) == tokens


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(["a", "これは", "x y\n"]), st.tuples(SIDES, SIDES)),
        min_size=1,
        max_size=6,
    )
)
def test_positions_equal_get_rope_index(tiny_qwen: Path, parts: list[Any]) -> None:
    import torch
    from transformers import Qwen2VLConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

    processor = FAMILY.open(tiny_qwen).with_pixel_limits(max_pixels=100_000)
    content = [
        part if isinstance(part, str) else picture(max(1, part[0] // 9), max(1, part[1] // 9))
        for part in parts
    ]
    try:
        example = processor.encode(asked(*content))
    except ImageError:
        return  # an aspect ratio that the reference refuses as well
    inputs = processor.model_inputs(Pack(examples=(example,), pack_tokens=4096))
    with torch.device("meta"):
        model = Qwen2VLModel(Qwen2VLConfig(**read_json(tiny_qwen / "config.json")))
    grid = inputs.get("image_grid_thw")
    expected, _ = model.get_rope_index(
        torch.from_numpy(inputs["input_ids"]),
        torch.from_numpy(inputs["mm_token_type_ids"]),
        image_grid_thw=None if grid is None else torch.from_numpy(grid),
    )
    assert np.array_equal(inputs["position_ids"], expected.numpy())


def test_patches_equal_the_pil_processor_where_nothing_is_resized(tiny_qwen: Path) -> None:
    import torch
    from PIL import Image as Pillow
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from manako.nn.batch import normalise

    image = picture(112, 84)
    theirs = Qwen2VLImageProcessorPil()(
        images=[Pillow.open(io.BytesIO(image.data))], return_tensors="pt"
    )
    processor = FAMILY.open(tiny_qwen)
    example = processor.encode(asked(image, "?"))
    ours = normalise(torch.from_numpy(example.images[0].pixels), processor.pixel_rule)
    assert example.images[0].grid == tuple(theirs["image_grid_thw"][0].tolist())
    # float32 with the scale folded in, against rescale then normalise: rounding of the last bits
    assert torch.allclose(ours, theirs["pixel_values"], atol=2e-6)


def test_measure_equals_encode_and_decodes_nothing(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.families._shared import processor as shared

    processor = FAMILY.open(tiny_qwen)
    row = asked(picture(90, 60), "一枚目", picture(30, 200), "二枚目")
    example = processor.encode(row)
    monkeypatch.setattr(shared, "decode_rgb", lambda *a, **k: pytest.fail("a pixel was decoded"))
    assert FAMILY.open(tiny_qwen).measure(row) == example.lengths


def test_image_spans_stand_where_the_words_say(tiny_qwen: Path) -> None:
    processor = FAMILY.open(tiny_qwen)
    example = processor.encode(
        asked("before", picture(56, 56), "between", picture(84, 56), "after")
    )
    texts = processor.token_texts(example.input_ids)
    places = []
    for image in example.images:
        span = texts[image.start : image.start + image.tokens]
        assert set(span) == {"<|image_pad|>"}
        places.append("".join(texts[: image.start]))
    assert places[0].endswith("before<|vision_start|>")
    assert "between" in places[1]
    assert [image.tokens for image in example.images] == [4, 6]


def test_a_picture_cannot_be_forged_by_text(tiny_qwen: Path) -> None:
    processor = FAMILY.open(tiny_qwen)
    example = processor.encode(asked("<|vision_start|><|image_pad|><|vision_end|> hi"))
    assert not (example.input_ids == processor.image_token_id).any()
    assert not example.images


def test_a_template_without_an_image_rule_is_refused(tiny_qwen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "text-only-template"
    shutil.copytree(tiny_qwen, folder)
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}"
        "{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(RowError, match="0 image marks for 1 images") as caught:
        FAMILY.open(folder).encode(asked(picture(56, 56), "?"))
    assert caught.value.reason == "no_image_token"
    assert caught.value.row_id == "row"


def test_untrained_turns_and_blank_answers(tiny_qwen: Path) -> None:
    processor = FAMILY.open(tiny_qwen)
    row = Conversation(
        (
            Message("user", "a"),  # type: ignore[arg-type]
            Message("assistant", "skip", train=False),  # type: ignore[arg-type]
            Message("user", "b"),  # type: ignore[arg-type]
            Message("assistant", "keep"),  # type: ignore[arg-type]
        )
    )
    example = processor.encode(row)
    trained = processor.tokenizer.decode(example.input_ids[example.trained].tolist())
    assert trained == "keep<|im_end|>"
    with pytest.raises(RowError, match="no words") as caught:
        processor.encode(asked("a", answer="  "))
    assert caught.value.reason == "no_words"


def test_it_pickles_and_its_fingerprint_names_what_changed(tiny_qwen: Path) -> None:
    processor = FAMILY.open(tiny_qwen)
    row = asked(picture(56, 84), "何?")
    copy = pickle.loads(pickle.dumps(processor))  # noqa: S301 (our own bytes)
    assert np.array_equal(copy.encode(row).input_ids, processor.encode(row).input_ids)
    assert copy.fingerprint == processor.fingerprint
    smaller = processor.with_pixel_limits(max_pixels=50_176)
    changed = {k for k, v in smaller.fingerprint.items() if v != processor.fingerprint[k]}
    assert changed == {"images"}


def test_saved_settings_are_those_in_force(tiny_qwen: Path, tmp_path: Path) -> None:
    processor = FAMILY.open(tiny_qwen).with_pixel_limits(min_pixels=784, max_pixels=20_000)
    processor.save(tmp_path)
    shutil.copyfile(tiny_qwen / "config.json", tmp_path / "config.json")
    shutil.copyfile(tiny_qwen / "generation_config.json", tmp_path / "generation_config.json")
    again = FAMILY.open(tmp_path)
    row = asked(picture(300, 200), "?")
    assert np.array_equal(again.encode(row).input_ids, processor.encode(row).input_ids)


@pytest.mark.parametrize(("smallest", "largest"), [(3136, 783), (4000, 3999), (None, 10)])
def test_impossible_limits_are_refused(tiny_qwen: Path, smallest: int | None, largest: int) -> None:
    with pytest.raises(RecipeError, match="max_pixels"):
        FAMILY.open(tiny_qwen).with_pixel_limits(min_pixels=smallest, max_pixels=largest)


def test_files_that_disagree_are_refused(tiny_qwen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_qwen, folder)
    settings_ = read_json(folder / "preprocessor_config.json")
    write_json(folder / "preprocessor_config.json", {**settings_, "patch_size": 16})
    with pytest.raises(CheckpointError, match="patch_size 16"):
        FAMILY.open(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        FAMILY.open(folder)


def test_a_missing_key_is_an_error_naming_it(tiny_qwen: Path) -> None:
    processor = FAMILY.open(tiny_qwen)
    example = processor.encode(asked(picture(56, 56), "?"))
    inputs = processor.model_inputs(Pack(examples=(example,), pack_tokens=512))
    inputs.pop("mm_token_type_ids")
    with pytest.raises(BatchError, match="mm_token_type_ids"):
        processor.require(inputs)
