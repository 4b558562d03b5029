"""Pixtral: rows of tokens, a padded batch of unequal pictures, and a tower that keeps them apart."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference_sizes as reference
import torch
from transformers.models.pixtral import modeling_pixtral

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import BatchError, CheckpointError, ImageError, RecipeError
from manako.core.example import Example, Pack
from manako.core.family import family_of
from manako.core.files import read_json, write_json
from manako.families._shared.sizes import image_tokens
from manako.families.pixtral import FAMILY
from manako.nn import attention
from manako.nn.adapters import attach
from manako.nn.batch import make_batch, normalise
from manako.nn.checkpoint import load_model, save_model
from manako.verify._subject import picture

SHAPES = ((8, 8), (64, 64), (8, 64), (64, 8), (40, 24), (17, 33), (300, 100), (90, 300), (1, 1))
"""At a patch of 8 and a longest side of 64: one token, whole, one row, one column, resized."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pixtral") / "tiny"
    FAMILY.make_tiny(folder, seed=1, layers=3, initializer_range=0.1)
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny, tmp_path / "copy")
    return tmp_path / "copy"


def asked(*content: Any, answer: str = "はい。") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))), id="row")


def opened(image: Image) -> Any:
    from PIL import Image as Pillow

    return Pillow.open(io.BytesIO(image.data)).convert("RGB")


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, FAMILY.open(folder), device="cpu", dtype=torch.float32).inputs


def examples_of(folder: Path) -> list[Example]:
    rows = [asked(picture(*size), "何?") for size in SHAPES]
    rows += [asked("hello"), asked(picture(64, 8), "a", picture(9, 60), "b", picture(64, 64))]
    rows += [asked("後ろに", picture(33, 21)), asked("text again")]
    return [FAMILY.open(folder).encode(row) for row in rows]


SIDES = (1, 2, 15, 16, 17, 300, 640, 1023, 1024, 1025, 3000, 4000)


@pytest.mark.parametrize("width", SIDES)
def test_tokens_are_those_of_the_rule_and_of_the_reference(tiny: Path, width: int) -> None:
    tiny_processor: Any = FAMILY.open(tiny)
    processor = tiny_processor.with_settings(patch=16, longest=1024)
    for height in SIDES:
        try:
            cost = processor.cost(width, height)
        except ImageError:
            with pytest.raises(ValueError, match="must be > 0"):
                reference.pixtral((width, height), cell=16, longest=1024)
            continue
        ids = processor.image_ids(cost)
        assert len(ids) == cost.tokens == image_tokens("pixtral", width, height)
        assert cost.tokens == reference.pixtral((width, height), cell=16, longest=1024)
        assert ids.count(processor.image_token_id) == cost.patches


def test_rows_are_written_as_the_reference_writes_them(tiny: Path) -> None:
    """`PixtralProcessor` needs torchvision; the method that writes the tokens does not."""
    owner = "PixtralProcessor"
    taken = reference.taken_out("pixtral/processing_pixtral.py", "replace_image_token", owner=owner)
    self = SimpleNamespace(
        patch_size=8,
        spatial_merge_size=1,
        image_token="[IMG]",
        image_break_token="[IMG_BREAK]",
        image_end_token="[IMG_END]",
    )
    processor = FAMILY.open(tiny)
    for size in SHAPES:
        example = processor.encode(asked("見て", picture(*size), "?"))
        image = example.images[0]
        span = example.input_ids[image.start : image.start + image.tokens]
        written = taken.replace_image_token(self, {"image_sizes": [image.size[::-1]]}, 0)
        assert "".join(processor.token_texts(span.tolist())) == written


def test_inputs_equal_the_reference_for_a_batch_of_unequal_pictures(tiny: Path) -> None:
    """Pictures that need no resizing, so that Pillow and torch cannot differ by their filters."""
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    images = [picture(64, 24), picture(16, 56), picture(40, 40)]
    settings = read_json(tiny / "preprocessor_config.json")
    theirs = PixtralImageProcessorPil(**settings)([opened(i) for i in images], return_tensors="pt")
    processor = FAMILY.open(tiny)
    example = processor.encode(asked(*images, "?"))
    ours = processor.model_inputs(Pack(examples=(example,), pack_tokens=1))
    assert np.array_equal(ours["image_sizes"], theirs["image_sizes"].numpy())
    found = normalise(torch.from_numpy(ours["pixel_values"]), processor.pixel_rule)
    assert found.shape == theirs["pixel_values"].shape
    for number, (height, width) in enumerate(ours["image_sizes"]):
        own = (number, slice(None), slice(height), slice(width))
        # float32 with the scale folded in, against rescale then normalise: the last bits
        assert torch.allclose(found[own], theirs["pixel_values"][own], atol=2e-6)


def test_padding_changes_no_logit(tiny: Path) -> None:
    """The reference pads after normalising, with 0; here padding is normalised with the rest."""
    example = FAMILY.open(tiny).encode(asked(picture(64, 8), picture(8, 64), "?"))
    inputs = inputs_of(tiny, [example])
    other = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    other["pixel_values"][0, :, 8:] = 1e4
    other["pixel_values"][1, :, :, 8:] = -1e4
    model = load_model(tiny, FAMILY)
    attention.use_segments(model)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, model(**other).logits)


def logits_alone(folder: Path, examples: Sequence[Example]) -> torch.Tensor:
    model = load_model(folder, FAMILY)
    singles = []
    for example in examples:
        inputs = inputs_of(folder, [example])
        inputs = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
        with torch.no_grad():
            singles.append(model(**inputs).logits[0])
    return torch.cat(singles)


def test_packed_equals_one_by_one_for_pictures_of_every_shape(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = examples_of(tiny)
    expected = logits_alone(tiny, examples)
    monkeypatch.setattr(
        modeling_pixtral,
        "generate_block_attention_mask",
        lambda *_: pytest.fail("a mask of all patches against all was built"),
    )
    packed = load_model(tiny, FAMILY)
    attention.use_segments(packed)
    with torch.no_grad():
        found = packed(**inputs_of(tiny, examples)).logits[0]
    # Sums in another order; the worst seen is 3e-6 of the spread.
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


@pytest.mark.parametrize("what", ["pictures", "conversations"])
def test_what_sees_its_neighbour_is_seen(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    examples = examples_of(tiny)
    expected = logits_alone(tiny, examples)
    original: Callable[..., Any] = attention._boundaries

    def joined(module: Any, query: Any, causal: bool, segments: Any, cu: Any) -> Any:
        found = original(module, query, causal, segments, cu)
        is_tower = cu is not None
        return (0, found[-1]) if found and is_tower == (what == "pictures") else found

    monkeypatch.setattr(attention, "_boundaries", joined)
    packed = load_model(tiny, FAMILY)
    attention.use_segments(packed)
    with torch.no_grad():
        found = packed(**inputs_of(tiny, examples)).logits[0]
    assert float((found - expected).abs().max() / expected.std()) > 1e-3


def test_the_tower_is_handed_one_segment_per_picture(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[tuple[int, ...]] = []
    original: Callable[..., Any] = attention._boundaries

    def noted(module: Any, query: Any, causal: bool, segments: Any, cu: Any) -> Any:
        found = original(module, query, causal, segments, cu)
        if cu is not None:
            handed.append(tuple(b - a for a, b in pairwise(found)))
        return found

    monkeypatch.setattr(attention, "_boundaries", noted)
    model = load_model(tiny, FAMILY)
    attention.use_segments(model)
    examples = examples_of(tiny)
    with torch.no_grad():
        model(**inputs_of(tiny, examples))
    patches = tuple(image.patches for example in examples for image in example.images)
    assert handed == [patches] * 3


def test_without_image_sizes_nothing_is_computed(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    example = processor.encode(asked(picture(40, 24), "?"))
    inputs = processor.model_inputs(Pack(examples=(example,), pack_tokens=1))
    inputs.pop("image_sizes")
    with pytest.raises(BatchError, match="image_sizes"):
        processor.require(inputs)


def test_a_system_text_goes_before_the_last_question(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    turns = (Message("system", (Text("短く。"),)), *asked(picture(8, 8), "何?").messages)
    again = (*turns, *asked("本当?", answer="本当。").messages)
    first = processor.encode(Conversation(turns, id="one"))
    longer = processor.encode(Conversation(again, id="two"))
    decode = processor.tokenizer.decode
    assert decode(first.input_ids.tolist()) == (
        "<s>[INST]短く。\n\n[IMG][IMG_END]何?[/INST]はい。</s>"
    )
    assert decode(longer.input_ids.tolist()) == (
        "<s>[INST][IMG][IMG_END]何?[/INST]はい。</s>[INST]短く。\n\n本当?[/INST]本当。</s>"
    )
    assert decode(longer.input_ids[longer.trained].tolist()) == "はい。</s>本当。</s>"


def test_the_seven_names_that_both_parts_share_are_told_apart(tiny: Path) -> None:
    model = load_model(tiny, FAMILY)
    names = r".*\.([qkvo]_proj|(gate|up|down)_proj)"
    shared = {name for name, _ in model.named_modules() if re.fullmatch(names, name)}
    assert {FAMILY.part_of(name) for name in shared} == {"vision", "language"}
    for part, count in (("vision", 3 * 7), ("projector", 2), ("language", 3 * 7)):
        hit = attach(load_model(tiny, FAMILY), FAMILY, [part], r=2, alpha=4)  # type: ignore[list-item]
        assert len(hit) == count
        assert {FAMILY.part_of(name) for name in hit} == {part}


def test_a_saved_model_opens_again(tiny: Path, tmp_path: Path) -> None:
    """`transformers` writes `image_token_id` where the published file has `image_token_index`."""
    processor = FAMILY.open(tiny)
    save_model(load_model(tiny, FAMILY), FAMILY, tmp_path)
    processor.save(tmp_path)
    assert family_of(tmp_path) is FAMILY
    row = asked(picture(40, 24), "?")
    again = FAMILY.open(tmp_path)
    assert np.array_equal(again.encode(row).input_ids, processor.encode(row).input_ids)
    assert again.fingerprint == processor.fingerprint


def test_max_pixels_sets_the_longest_side_and_is_saved(tiny: Path, tmp_path: Path) -> None:
    processor = FAMILY.open(tiny)
    limited = processor.with_pixel_limits(max_pixels=40 * 40 + 30)
    row = asked(picture(300, 100), "?")
    assert limited.encode(row).images[0].size == (40, 16)
    assert limited.fingerprint["images"] != processor.fingerprint["images"]
    small = asked(picture(24, 16), "?")
    assert limited.measure(small) == processor.measure(small)
    assert processor.with_pixel_limits(max_pixels=10**9).measure(row) == processor.measure(row)
    shutil.copyfile(tiny / "config.json", tmp_path / "config.json")
    shutil.copyfile(tiny / "generation_config.json", tmp_path / "generation_config.json")
    limited.save(tmp_path)
    assert FAMILY.open(tmp_path).measure(row) == limited.measure(row)


@pytest.mark.parametrize("limits", [{"min_pixels": 100}, {"max_pixels": 63}])
def test_limits_that_mean_nothing_here_are_refused(tiny: Path, limits: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=next(iter(limits))):
        FAMILY.open(tiny).with_pixel_limits(**limits)


def test_a_llava_with_another_tower_is_not_pixtral() -> None:
    assert not FAMILY.refusal({"vision_config": {"model_type": "pixtral"}})
    assert "clip_vision_model" in FAMILY.refusal(
        {"vision_config": {"model_type": "clip_vision_model"}}
    )
    assert "not described" in FAMILY.refusal({"model_type": "llava"})


def change(folder: Path, name: str, **fields: Any) -> None:
    write_json(folder / name, {**read_json(folder / name), **fields})


def no_break_token(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("[IMG_BREAK]", "[OTHER]"), encoding="utf-8")


def no_settings(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").unlink()


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "patch": (
        lambda f: change(f, "preprocessor_config.json", patch_size={"height": 14, "width": 14}),
        "patch_size",
    ),
    "size": (
        lambda f: change(f, "preprocessor_config.json", size={"height": 64, "width": 64}),
        "longest_edge",
    ),
    "filter": (lambda f: change(f, "preprocessor_config.json", resample=1), "resample 1"),
    "files": (no_settings, "preprocessor_config.json"),
    "token": (lambda f: change(f, "config.json", image_token_index=None), "image token"),
    "other": (lambda f: change(f, "config.json", image_token_index=9999), "9999"),
    "breaks": (no_break_token, r"lacks \[IMG_BREAK\]"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_disagree_are_refused(copied: Path, case: str) -> None:
    spoil, said = BROKEN[case]
    spoil(copied)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(copied)
