"""Phi-4-multimodal: the reference's own code on torch, a tower that looks both ways, and sound."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference_sizes as reference
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import Phi4MultimodalForCausalLM

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError, ImageError, RecipeError
from manako.core.example import Example, Pack
from manako.core.family import family_of
from manako.core.files import read_json, write_json
from manako.core.images import decode_rgb
from manako.core.recipe import Recipe, Source
from manako.families._shared.sizes import image_tokens
from manako.families.phi4_multimodal import FAMILY
from manako.nn import adapters
from manako.nn.attention import use_segments
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.train.parts import prepare_parts
from manako.verify._subject import picture

FULL = ((56, 56), (112, 56), (28, 56), (40, 80))
"""Pictures that fill their sheet at a crop of 56."""
PADDED = ((100, 60), (60, 100), (300, 200), (57, 56), (30, 50), (500, 70))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phi4") / "tiny"
    FAMILY.make_tiny(folder, seed=1, initializer_range=0.1)
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny, tmp_path / "copy")
    return tmp_path / "copy"


def asked(*content: Any, answer: str = "はい。") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))), id="row")


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, FAMILY.open(folder), device="cpu", dtype=torch.float32).inputs


def unpacked(inputs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}


SIDES = (1, 2, 15, 300, 447, 448, 449, 1000, 3000, 4000)


@pytest.mark.parametrize("width", SIDES)
def test_tokens_are_those_of_the_rule_and_of_the_reference(tiny: Path, width: int) -> None:
    opened: Any = FAMILY.open(tiny)
    processor = opened.with_settings(crop=448, patch=14, max_crops=36)
    for height in SIDES:
        try:
            cost = processor.cost(width, height)
        except ImageError:
            with pytest.raises(ValueError, match="aspect ratio is very extreme"):
                reference.phi4((width, height))
            continue
        assert cost.tokens == image_tokens("phi4_crops", width, height)
        assert cost.tokens == reference.phi4((width, height))
        assert cost.tokens == FAMILY.image_tokens(width, height, processor.settings)


def the_reference(crop: int, max_crops: int) -> Callable[[list[torch.Tensor]], Any]:
    """`_preprocess` of the class, which torchvision would be needed to import, with what it calls
    of torchvision made from torch: the same kernels."""
    names = (
        "_preprocess",
        "dynamic_preprocess",
        "find_closest_aspect_ratio",
        "pad_to_max_num_crops",
        "pad_mask_to_max_num_crops",
    )
    file = "phi4_multimodal/image_processing_phi4_multimodal.py"
    taken = reference.taken_out(file, *names, owner="Phi4MultimodalImageProcessor")

    def resize(image: Any, size: Any, mode: str = "bilinear", antialias: bool = True) -> Any:
        return functional.interpolate(
            image[None], size=list(size), mode=mode, antialias=antialias, align_corners=False
        )[0]

    def pad(image: Any, sides: Sequence[int], fill: Sequence[int]) -> Any:
        return functional.pad(image, (0, sides[2], 0, sides[3]), value=fill[0])

    taken.values["tvF"] = SimpleNamespace(resize=resize, pad=pad)
    taken.values["BatchFeature"] = lambda data, tensor_type: data
    self = SimpleNamespace(
        rescale_and_normalize=lambda image, *_: (image.float() - 127.5) / 127.5,
        resize=lambda image, size, resample, antialias: resize(
            image, (size.height, size.width), "bicubic", antialias
        ),
    )
    for name in names[1:]:
        setattr(self, name, partial(getattr(taken, name), self))
    return lambda images: taken._preprocess(
        self, images, True, SimpleNamespace(height=crop, width=crop), None, True, 1 / 255, True,
        None, None, 14, max_crops, None,
    )  # fmt: skip


@pytest.mark.parametrize(("crop", "max_crops"), [(56, 6), (112, 12), (448, 36)])
def test_inputs_equal_the_reference_for_pictures_of_unequal_crops(
    tiny: Path, crop: int, max_crops: int
) -> None:
    images = [picture(*size) for size in (*FULL, *PADDED)]
    tensors = [torch.from_numpy(decode_rgb(i.data).copy()).permute(2, 0, 1) for i in images]
    theirs = the_reference(crop, max_crops)(tensors)
    opened: Any = FAMILY.open(tiny)
    processor = opened.with_settings(crop=crop, max_crops=max_crops)
    example = processor.encode(asked(*images, "?"))
    ours = processor.model_inputs(Pack(examples=(example,), pack_tokens=1))
    side = processor.settings.side
    whole = side * (side + 1) + 1
    found = [image.tokens - whole for image in example.images]
    assert found == [tokens - (256 + 16 + 1) for tokens in theirs["num_img_tokens"]]
    for key in ("image_sizes", "image_attention_mask"):
        assert np.array_equal(ours[key], theirs[key].numpy()), key
    # the same float32 arithmetic; mean and deviation are read from a file here
    gap = np.abs(ours["image_pixel_values"] - theirs["image_pixel_values"].numpy()).max()
    assert gap <= 1e-6


def logits_of(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [FULL[0], PADDED[0]])
def test_a_picture_is_seen_whole_whatever_else_is_in_the_batch(
    tiny: Path, size: tuple[int, int]
) -> None:
    """transformers' own class looks both ways in `eager` attention. In its default, SDPA, it does
    so only where some crop has padding, and is causal elsewhere: a picture's meaning then depends
    on its neighbours. Should the last line fail, that was mended, and the correction can go."""
    inputs = unpacked(inputs_of(tiny, [FAMILY.open(tiny).encode(asked(picture(*size), "?"))]))
    theirs: Any = Phi4MultimodalForCausalLM
    eager = logits_of(theirs.from_pretrained(tiny, attn_implementation="eager"), inputs)
    found = logits_of(load_model(tiny, FAMILY), inputs)
    # softmax in one kernel and by hand: float32 rounding
    assert float((found - eager).abs().max() / eager.std()) < 1e-4
    default = logits_of(theirs.from_pretrained(tiny), inputs)
    is_causal = float((default - eager).abs().max() / eager.std()) > 1e-2
    assert is_causal == (size in FULL)


def packed_and_alone(folder: Path, rows: Sequence[Conversation]) -> float:
    """The largest difference of logits, of their spread."""
    examples = [FAMILY.open(folder).encode(row) for row in rows]
    packed, alone = load_model(folder, FAMILY), load_model(folder, FAMILY)
    use_segments(packed)
    found = logits_of(packed, inputs_of(folder, examples))
    each = [logits_of(alone, unpacked(inputs_of(folder, [example]))) for example in examples]
    expected = torch.cat(each)
    return float((found - expected).abs().max() / expected.std())


def test_packed_equals_one_by_one_with_and_without_padding(tiny: Path) -> None:
    rows = [asked(picture(*size), "何?") for size in (*FULL, *PADDED)]
    rows += [asked("hello"), asked(picture(56, 56), "a", picture(100, 60), "b")]
    rows += [asked("後ろに", picture(60, 100)), asked("text again")]
    # sums in another order; the worst seen is 3e-6
    assert packed_and_alone(tiny, rows) < 1e-5


def test_the_tower_is_handed_no_filler(tiny: Path) -> None:
    """Beside a picture of six crops, one of a single crop would be filled up with five."""
    example = FAMILY.open(tiny).encode(asked(picture(300, 200), picture(56, 56), "?"))
    model: Any = load_model(tiny, FAMILY)
    use_segments(model)
    handed: list[int] = []
    tower = model.model.embed_tokens_extend.image_embed.img_processor
    tower.register_forward_pre_hook(lambda _, inputs: handed.append(len(inputs[0])))
    inputs = inputs_of(tiny, [example])
    crops = [len(image.pixels) for image in example.images]
    assert inputs["image_pixel_values"].shape[:2] == (2, max(crops))
    torch.autograd.backward(model(**inputs).logits.sum())
    assert handed == [sum(crops)]
    assert all(torch.isfinite(p.grad).all() for p in tower.parameters() if p.grad is not None)
    assert "get_img_features" not in vars(model.model.embed_tokens_extend.image_embed)


def test_long_conversations_do_not_turn_short_ones(tmp_path: Path) -> None:
    """LongRoPE has other factors above a length; here above 40 tokens."""
    FAMILY.make_tiny(tmp_path, seed=1, initializer_range=0.1, short_positions=40)
    lengths = ("short", "long " * 60, "short again", "exactly " * 4)
    rows = [asked(text, answer="yes") for text in lengths]
    rows.append(asked(picture(300, 200), "と", picture(56, 56)))
    sizes = [FAMILY.open(tmp_path).measure(row).tokens for row in rows]
    assert min(sizes) <= 40 < max(sizes)
    assert packed_and_alone(tmp_path, rows) < 1e-5


def test_sound_is_never_trained_and_gets_no_gradient(tiny: Path) -> None:
    recipe = Recipe(
        model=str(tiny),
        data=(Source(path="rows"),),
        output_dir="",
        train={"vision": "full 1e-3", "projector": "full 1e-3", "language": "full 1e-3"},
    )
    model = load_model(tiny, FAMILY)
    parts = prepare_parts(model, FAMILY, recipe)
    sound = {name for name, _ in model.named_parameters() if ".audio_embed." in name}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert sound
    assert not sound & trained
    assert {name for name, _ in model.named_parameters()} == sound | trained
    counted = sum(p.numel() for name, p in model.named_parameters() if name in sound)
    assert parts["vision"].parameters - parts["vision"].trained == counted
    use_segments(model)
    inputs = inputs_of(tiny, [FAMILY.open(tiny).encode(asked(picture(100, 60), "?"))])
    torch.autograd.backward(model(**inputs).logits.sum())
    assert all(p.grad is None for name, p in model.named_parameters() if name in sound)


@pytest.mark.parametrize(("part", "count"), [("vision", 18), ("projector", 2), ("language", 8)])
def test_adapters_sit_on_the_fused_linears_and_not_on_sound(
    tiny: Path, part: Any, count: int
) -> None:
    names = adapters.attach(load_model(tiny, FAMILY), FAMILY, [part], r=2, alpha=4)
    assert len(names) == count
    assert not [name for name in names if "audio" in name]


def test_the_repositorys_own_vision_adapter_loads(tiny: Path, tmp_path: Path) -> None:
    """In the form of `vision-lora`: PEFT's, with a pattern for the fused linears of all layers."""
    own = load_file(tiny / "model.safetensors")
    names = [n.removesuffix(".weight") for n in own if n.startswith("model.layers.")]
    names = [n for n in names if n.endswith("_proj")]
    tensors = {}
    for name in names:
        rows, columns = own[f"{name}.weight"].shape
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(4, columns) / 8
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(rows, 4) / 8
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    targets = r"layers.*((self_attn\.(qkv_proj|o_proj))|(mlp\.(gate_up|down)_proj))"
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "TBA",
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "bias": "none",
    }
    write_json(tmp_path / "adapter_config.json", config)
    model = load_model(tiny, FAMILY)
    inputs = unpacked(inputs_of(tiny, [FAMILY.open(tiny).encode(asked(picture(56, 56), "?"))]))
    before = logits_of(model, inputs)
    loaded = adapters.load(model, tmp_path)
    assert (loaded.modules, loaded.is_zero) == (8, False)
    with_adapter = logits_of(model, inputs)
    assert not torch.allclose(before, with_adapter, atol=1e-2)
    merged = logits_of(adapters.merge(model), inputs)
    assert float((merged - with_adapter).abs().max() / merged.std()) < 1e-5


def test_weights_with_adapters_inside_are_refused(copied: Path) -> None:
    file = copied / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.0.self_attn.o_proj"
    weights[f"{name}.base_layer.weight"] = weights.pop(f"{name}.weight")
    for side in "AB":
        weights[f"{name}.lora_{side}.vision.weight"] = torch.zeros(2, 2)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lora_A\.vision") as caught:
        load_model(copied, FAMILY)
    assert "adapters of their own" in caught.value.next_step


def test_the_older_layout_is_not_taken_for_this_one(copied: Path) -> None:
    change(copied, "config.json", model_type="phi4mm")
    with pytest.raises(CheckpointError, match="'phi4mm' belongs to no family"):
        family_of(copied)


def test_marks_of_the_older_code_stay_text(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    example = processor.encode(asked(picture(56, 56), "<|image_1|><|image|>何?"))
    ids = example.input_ids.tolist()
    assert ids.count(processor.image_token_id) == example.images[0].tokens
    assert "<|image_1|><|image|>何?" in processor.tokenizer.decode(ids)


def test_max_pixels_sets_the_number_of_crops_and_is_saved(tiny: Path, tmp_path: Path) -> None:
    processor = FAMILY.open(tiny)
    row = asked(picture(300, 200), "?")
    limited = processor.with_pixel_limits(max_pixels=2 * 56**2)
    assert limited.encode(row).images[0].size == (112, 56)
    assert processor.encode(row).images[0].size == (168, 112)
    assert processor.with_pixel_limits(max_pixels=10**9).measure(row) == processor.measure(row)
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(tiny / name, tmp_path / name)
    limited.save(tmp_path)
    assert FAMILY.open(tmp_path).measure(row) == limited.measure(row)


@pytest.mark.parametrize("limits", [{"min_pixels": 100}, {"max_pixels": 56**2 - 1}])
def test_limits_that_mean_nothing_here_are_refused(tiny: Path, limits: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=next(iter(limits))):
        FAMILY.open(tiny).with_pixel_limits(**limits)


def change(folder: Path, name: str, **fields: Any) -> None:
    write_json(folder / name, {**read_json(folder / name), **fields})


PREPROCESSOR = "preprocessor_config.json"
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "crop": (lambda f: change(f, PREPROCESSOR, size={"height": 84, "width": 84}), "crop_size 84"),
    "square": (lambda f: change(f, PREPROCESSOR, size={"height": 56, "width": 84}), "size"),
    "patch": (lambda f: change(f, PREPROCESSOR, patch_size=16), "patch_size 16"),
    "filter": (lambda f: change(f, PREPROCESSOR, resample=2), "resample 2"),
    "files": (lambda f: (f / PREPROCESSOR).unlink(), PREPROCESSOR),
    "token": (lambda f: change(f, "config.json", vision_config={}), "200010"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_disagree_are_refused(copied: Path, case: str) -> None:
    spoil, said = BROKEN[case]
    spoil(copied)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(copied)


def test_a_crop_of_an_odd_number_of_patches_is_refused(copied: Path) -> None:
    vision = read_json(copied / "config.json")["vision_config"]
    change(copied, "config.json", vision_config={**vision, "crop_size": 70, "image_size": 70})
    change(copied, PREPROCESSOR, size={"height": 70, "width": 70})
    with pytest.raises(CheckpointError, match="no even number of patches"):
        FAMILY.open(copied)
