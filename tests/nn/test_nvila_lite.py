"""NVILA-Lite's network against the plain reference, block by block; its files, sizes and uses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import nvila_lite as plain
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError
from manako.core.files import read_json, write_json
from manako.families.nvila_lite import FAMILY
from manako.nn import adapters
from manako.nn.attention import use_segments
from manako.nn.checkpoint import build_empty, load_model, read_tensors, save_model, weight_files
from manako.nn.nvila_lite import (
    Downsample,
    NvilaLiteConfig,
    NvilaLiteForConditionalGeneration,
    VilaConfig,
)
from manako.nn.recompute import recompute_layers
from manako.verify._subject import picture

TOLERANCE = 1e-5
"""Of the spread: the reference is float64, ours float32 with its sums in another order; worst seen is
some 1e-6."""
SEED = 11


@pytest.fixture(scope="module", params=["even grid", "odd grid", "llama"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights wide enough apart that what is left out shows."""
    changes: dict[str, Any] = {
        "even grid": {},
        "odd grid": {"tile": 70, "tie_embeddings": False},
        "llama": {"language": "llama"},
    }[request.param]
    folder = tmp_path_factory.mktemp("nvila") / "tiny"
    FAMILY.make_tiny(folder, seed=SEED, **changes)
    widened(folder)
    return folder


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvila") / "even"
    FAMILY.make_tiny(folder, seed=SEED)
    widened(folder)
    return folder


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvila") / "flat"
    FAMILY.make_tiny(folder, seed=SEED, layout="flat")
    return folder


def widened(folder: Path) -> None:
    """Draw norms and biases too: fresh ones are ones and zeros, and would hide what is dropped."""
    drawn = torch.Generator().manual_seed(SEED)
    for file in weight_files(folder):
        weights = {
            name: tensor * 2
            if tensor.ndim > 1
            else torch.randn(tensor.shape, generator=drawn) + 0.5
            for name, tensor in load_file(file).items()
        }
        save_file(weights, file, metadata={"format": "pt"})


def arrays(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The stored weights. Llama is Qwen2 without biases: the reference is given zeros."""
    found = {
        part: {k: v.numpy() for k, v in load_file(folder / part / "model.safetensors").items()}
        for part in FAMILY.part_folders
    }
    for name, weight in list(found["llm"].items()):
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            bias = name.removesuffix("weight") + "bias"
            found["llm"].setdefault(bias, np.zeros(len(weight)))
    return found


def gap(found: torch.Tensor, expected: np.ndarray) -> float:
    spread = float(np.asarray(expected).std())
    return float(np.abs(found.detach().double().numpy() - expected).max()) / spread


def tiles(folder: Path, count: int = 3) -> np.ndarray:
    side = FAMILY.read_config(folder)["vision_tower_cfg"]["image_size"]
    bytes_ = np.random.default_rng(SEED).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return np.stack([plain.normalise(tile) for tile in bytes_])


def whole(folder: Path, model: Any) -> tuple[torch.Tensor, np.ndarray]:
    """Logits of a prompt with three tiles, ours and the reference's; ids of the fused sequence here
    are the reference's places written as ids."""
    config = FAMILY.read_config(folder)
    image_id, line_id = model.config.image_token_id, 7
    ids = [5, image_id, line_id, line_id, image_id, line_id, line_id, 30, image_id, line_id, 31, 9]
    spoken = [i for place, i in enumerate(ids) if i != line_id or ids[place - 1] != image_id]
    pixels = tiles(folder)
    expected = plain.logits(
        arrays(folder), config, spoken, pixels, image_token_id=image_id, newline_token_id=line_id
    )
    vectors = (len(expected) - len(ids)) // 3 + 1
    fused = [i for one in ids for i in [one] * (vectors if one == image_id else 1)]
    with torch.no_grad():
        found = model(
            input_ids=torch.tensor([fused]), pixel_values=torch.tensor(pixels, dtype=torch.float32)
        )
    return found.logits[0], expected


def test_the_tower_is_the_references(tiny: Path) -> None:
    model: Any = load_model(tiny, FAMILY)
    config = FAMILY.read_config(tiny)["vision_tower_cfg"]
    seen: list[torch.Tensor] = []
    model.mm_projector.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    pixels = tiles(tiny, 2)
    with torch.no_grad():
        model.get_image_features(torch.tensor(pixels, dtype=torch.float32))
    for tile, found in zip(pixels, seen[0], strict=True):
        expected = plain.vision_features(arrays(tiny)["vision_tower"], config, tile)
        assert gap(found, expected) <= TOLERANCE


@pytest.mark.parametrize("side", [2, 3, 4, 5, 32])
def test_neighbours_are_joined_as_in_the_reference(side: int) -> None:
    patches = np.random.default_rng(side).normal(size=(2, side * side, 3))
    found = Downsample()(torch.tensor(patches))
    expected = np.stack([plain.downsample(one) for one in patches])
    assert np.array_equal(found.numpy(), expected)


def projected(folder: Path, model: Any) -> tuple[torch.Tensor, np.ndarray]:
    """Of patches so alike (a deviation of 0.003) that the norm's eps counts."""
    width = FAMILY.read_config(folder)["vision_tower_cfg"]["hidden_size"]
    patches = np.random.default_rng(3).normal(size=(16, width)) * 0.003
    expected = plain.project(arrays(folder)["mm_projector"], plain.downsample(patches))
    with torch.no_grad():
        return model.mm_projector(torch.tensor(patches[None], dtype=torch.float32))[0], expected


def test_the_projector_is_the_references(tiny: Path) -> None:
    assert gap(*projected(tiny, load_model(tiny, FAMILY))) <= TOLERANCE


def test_logits_from_pixels_are_the_references(tiny: Path) -> None:
    found, expected = whole(tiny, load_model(tiny, FAMILY))
    assert gap(found, expected) <= TOLERANCE


def without_a_norm(model: Any) -> None:
    model.mm_projector.layers[1] = nn.Identity()


def with_axes_swapped(model: Any) -> None:
    """Patches channel by channel instead of patch by patch."""
    joined = model.mm_projector.layers[0]
    original = joined.forward

    def swapped(x: torch.Tensor) -> torch.Tensor:
        return original(x).unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)

    joined.forward = swapped


def with_another_eps(model: Any) -> None:
    """The tower's 1e-6 in the projector too."""
    model.mm_projector.layers[1].eps = 1e-6


def with_the_last_layer(model: Any) -> None:
    model.config.mm_vision_select_layer = -1


def with_the_towers_norm(model: Any) -> None:
    last = model.vision_tower.encoder.layers[-2]
    last.register_forward_hook(lambda m, args, out: model.vision_tower.post_layernorm(out))


def with_rows_from_below(model: Any) -> None:
    """A tile's vectors in another order, as many as before."""
    joined = model.mm_projector.layers[0]
    original = joined.forward
    joined.forward = lambda x: original(x).flip(1)


MUTATIONS = (
    without_a_norm,
    with_axes_swapped,
    with_another_eps,
    with_the_last_layer,
    with_the_towers_norm,
    with_rows_from_below,
)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_the_comparison_sees_a_seeded_fault(mutate: Callable[[Any], None], even: Path) -> None:
    """Weights of seed 11, as everywhere here."""

    def compare(model: Any) -> None:
        assert max(gap(*whole(even, model)), gap(*projected(even, model))) <= TOLERANCE

    model: Any = load_model(even, FAMILY)
    compare(model)
    mutate(model)
    with pytest.raises(AssertionError):
        compare(model)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.relative_to(folder)}/{name}": tensor
        for file in weight_files(folder)
        for name, tensor in read_tensors(file).items()
    }


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("layout", ["folders", "flat"])
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_it_is_written_as_it_was_read(layout: str, shard: str, tmp_path: Path) -> None:
    FAMILY.make_tiny(tmp_path / "a", seed=1, layout=layout, tie_embeddings=shard == "5GB")
    model: Any = load_model(tmp_path / "a", FAMILY)
    model.save_pretrained(tmp_path / "b", max_shard_size=shard)
    assert same(stored(tmp_path / "a"), stored(tmp_path / "b"))
    assert (len(weight_files(tmp_path / "b")) > 3) == (shard == "20KB")
    again = load_model(tmp_path / "b", FAMILY)
    assert same(model.state_dict(), again.state_dict())
    before, after = (FAMILY.read_config(tmp_path / name) for name in "ab")
    assert before["model_type"] == after["model_type"]
    lost = {k for k in before if k not in after} - {"transformers_version", "torch_dtype"}
    assert not lost
    language = after["llm_cfg" if layout == "folders" else "text_config"]
    assert language["rope_parameters"]["rope_theta"] == 1_000_000.0
    assert layout == "flat" or language["rope_theta"] == 1_000_000.0  # for transformers 4


def test_a_tower_without_the_old_prefix_is_read_and_written_so(flat: Path, tmp_path: Path) -> None:
    weights = load_file(flat / "model.safetensors")
    new = {name.replace(".vision_model.", "."): tensor for name, tensor in weights.items()}
    (tmp_path / "a").mkdir()
    for file in flat.iterdir():
        (tmp_path / "a" / file.name).write_bytes(file.read_bytes())
    save_file(new, tmp_path / "a" / "model.safetensors", metadata={"format": "pt"})
    model = load_model(tmp_path / "a", FAMILY)
    save_model(model, FAMILY, tmp_path / "b")
    assert same(stored(tmp_path / "a"), stored(tmp_path / "b"))
    assert same(model.state_dict(), load_model(flat, FAMILY).state_dict())


@pytest.mark.parametrize("layout", ["folders", "flat"])
def test_rows_of_the_vocabulary_are_those_of_the_weights(layout: str, tmp_path: Path) -> None:
    FAMILY.make_tiny(tmp_path / "a", layout=layout, spare_rows=17)
    model: Any = load_model(tmp_path / "a", FAMILY)
    rows = len(model.get_input_embeddings().weight)
    assert model.config.text_config.vocab_size == rows
    config = FAMILY.read_config(tmp_path / "a")
    assert (config.get("llm_cfg") or config["text_config"])["vocab_size"] == rows + 17
    save_model(model, FAMILY, tmp_path / "b")
    config = FAMILY.read_config(tmp_path / "b")
    assert (config.get("llm_cfg") or config["text_config"])["vocab_size"] == rows


def test_dtypes_are_as_asked_for(even: Path, tmp_path: Path) -> None:
    model: Any = load_model(even, FAMILY, dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    # rotary frequencies lose their use in 16 bits
    assert model.llm.model.rotary_emb.inv_freq.dtype == torch.float32
    found, expected = whole(even, model)
    assert gap(found.float(), expected) < 0.5
    save_model(model, FAMILY, tmp_path / "b")
    assert read_json(tmp_path / "b" / "config.json")["model_dtype"] == "torch.bfloat16"


def test_the_auto_classes_know_it(even: Path, flat: Path) -> None:
    assert isinstance(AutoConfig.from_pretrained(even), VilaConfig)
    assert isinstance(AutoConfig.from_pretrained(flat), NvilaLiteConfig)
    for folder in (even, flat):
        model = AutoModelForImageTextToText.from_pretrained(folder)
        assert same(model.state_dict(), load_model(folder, FAMILY).state_dict())
        assert model.generation_config.eos_token_id is not None


def test_parts_named_by_a_path_are_read_from_their_folders(even: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(even, tmp_path / "a")
    config = read_json(tmp_path / "a" / "config.json")
    paths = {name: f"somewhere/{name}" for name in ("llm_cfg", "vision_tower_cfg")}
    write_json(tmp_path / "a" / "config.json", {**config, **paths})
    expected = load_model(even, FAMILY).state_dict()
    assert same(load_model(tmp_path / "a", FAMILY).state_dict(), expected)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "a")
    assert same(model.state_dict(), expected)


def test_it_loads_by_a_device_map(even: Path) -> None:
    model = NvilaLiteForConditionalGeneration.from_pretrained(even, device_map={"": "cpu"})
    assert same(model.state_dict(), load_model(even, FAMILY).state_dict())
    assert {"Qwen2DecoderLayer", "SiglipEncoderLayer"} <= set(model._no_split_modules)


def inputs_for(model: Any, folder: Path, *, line_id: int = 7) -> dict[str, torch.Tensor]:
    pixels = torch.tensor(tiles(folder, 2), dtype=torch.float32)
    with torch.no_grad():
        vectors = model.get_image_features(pixels).shape[1]
    tile = [model.config.image_token_id] * vectors + [line_id]
    return {"input_ids": torch.tensor([[3, *tile, *tile, 30, 31]]), "pixel_values": pixels}


def test_places_and_vectors_must_be_as_many(even: Path) -> None:
    model: Any = load_model(even, FAMILY)
    inputs = inputs_for(model, even)
    with pytest.raises(ValueError, match="8 image tokens for 4 vectors of 1 tiles"):
        model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"][:1])
    model.config.image_token_id = None
    with pytest.raises(ValueError, match="image_token_id"):
        model(**inputs)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(pixel_values=inputs["pixel_values"])


def test_generation_with_left_padding_answers_as_alone(even: Path) -> None:
    model: Any = load_model(even, FAMILY)
    inputs = inputs_for(model, even)
    short = torch.tensor([[40, 41, 42]])
    pad = torch.zeros((1, inputs["input_ids"].shape[1] - 3), dtype=torch.long)
    both = torch.cat([inputs["input_ids"], torch.cat([pad, short], dim=1)])
    mask = torch.cat([torch.ones_like(inputs["input_ids"]), torch.cat([pad, short > 0], dim=1)])
    how: dict[str, Any] = {
        "do_sample": False,
        "max_new_tokens": 5,
        "eos_token_id": [],
        "pad_token_id": 0,
    }
    pixels = inputs["pixel_values"]
    together = model.generate(input_ids=both, attention_mask=mask, pixel_values=pixels, **how)
    first = model.generate(**inputs, attention_mask=torch.ones_like(inputs["input_ids"]), **how)
    second = model.generate(input_ids=short, attention_mask=torch.ones_like(short), **how)
    assert together[0, -5:].tolist() == first[0, -5:].tolist()
    assert together[1, -5:].tolist() == second[0, -5:].tolist()


def loss_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = model(**inputs, labels=inputs["input_ids"]).loss
    return found


def gradients(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.train()
    torch.autograd.backward(loss_of(model, inputs))
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_recomputed_layers_have_the_same_gradients(even: Path) -> None:
    model: Any = load_model(even, FAMILY)
    inputs = inputs_for(model, even)
    expected = gradients(model, inputs)
    unread = ("vision_tower.encoder.layers.2.", "vision_tower.post_layernorm.")
    named = {name for name, _ in model.named_parameters()}
    assert named - expected.keys() == {name for name in named if name.startswith(unread)}
    ours: Any = load_model(even, FAMILY)
    assert recompute_layers(ours, FAMILY, ["vision", "language"]) == {"vision": 3, "language": 2}
    assert same(gradients(ours, inputs), expected)
    theirs: Any = load_model(even, FAMILY)
    # the name of transformers 5.24, and that of 5.23
    switch = getattr(theirs, "activation_checkpointing_enable", None)
    (switch or theirs.gradient_checkpointing_enable)()
    assert same(gradients(theirs, inputs), expected)


def test_text_segments_do_not_cut_pictures(even: Path) -> None:
    model: Any = load_model(even, FAMILY)
    inputs = inputs_for(model, even)
    with torch.no_grad():
        expected = model(**inputs).logits
        use_segments(model)
        length = inputs["input_ids"].shape[1]
        # the boundary is where the tower's 16 patches end too: it must not look at it
        found = model(**inputs, segments=(0, length)).logits
        cut = model(**inputs, segments=(0, 4, length)).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(cut[:, :4], expected[:, :4], atol=1e-5)
    assert not torch.allclose(cut[:, 4:], expected[:, 4:], atol=1e-3)


def test_an_adapter_of_peft_attaches_and_trains(even: Path) -> None:
    model: Any = load_model(even, FAMILY)
    adapters.attach(model, FAMILY, ["language", "vision", "projector"], r=2, alpha=4, dropout=0.0)
    found = gradients(model, inputs_for(model, even))
    assert found
    assert all("lora_" in name for name in found)


def test_fresh_weights_are_drawn() -> None:
    config = NvilaLiteConfig(
        text_config={"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
                     "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 30},
        vision_config={"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        image_token_id=29,
    )  # fmt: skip
    model = NvilaLiteForConditionalGeneration(config)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert 0.001 < float(model.mm_projector.layers[2].weight.detach().std()) < 0.1
    assert model.llm.lm_head.weight is not model.llm.model.embed_tokens.weight


# ------------------------------------------------------------------------ sizes of the published


def shapes(
    width: int, inner: int, layers: int, heads: int, keys: int, rows: int, tied: bool
) -> Any:
    text = {"model_type": "qwen2", "hidden_size": width, "intermediate_size": inner}
    text |= {"num_hidden_layers": layers, "num_attention_heads": heads}
    text |= {"num_key_value_heads": keys, "vocab_size": rows, "tie_word_embeddings": tied}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 448}
    vision |= {"intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    config = {
        "model_type": "vila",
        "llm_cfg": text,
        "vision_tower_cfg": vision | {"patch_size": 14},
    }
    return build_empty(config, FAMILY)


PUBLISHED = {
    "1B": (shapes, (896, 4864, 24, 14, 2, 151_936, True), 0.912, 290),
    "2B": (shapes, (1536, 8960, 28, 12, 2, 151_936, True), 1.966, 338),
    "15B": (shapes, (5120, 13_824, 48, 40, 8, 152_064, False), 15.233, 579),
    "33B": (shapes, (5120, 27_648, 64, 40, 8, 152_064, False), 33.227, 771),
}
TOWER_PARAMETERS = 413_327_088
"""27 layers, patches, 1024 positions and the last norm, no head: NVILA-Lite's file of 827 MB."""


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_published_size_has_its_parameters(size: str) -> None:
    build, numbers, billions, language_tensors = PUBLISHED[size]
    model = build(*numbers)
    counts = dict.fromkeys(FAMILY.part_folders, 0)
    tensors = dict(counts)
    for name, parameter in model.named_parameters():
        counts[name.partition(".")[0]] += parameter.numel()
        tensors[name.partition(".")[0]] += 1
    assert round(sum(counts.values()) / 1e9, 3) == billions
    assert counts["vision_tower"] == TOWER_PARAMETERS
    assert round(2 * counts["vision_tower"] / 1e6, 2) == 826.65  # bytes of 16-bit weights
    # 27 layers of 16 tensors, patches and positions, the norm; two norms' and two linears' tensors
    assert tensors == {"vision_tower": 27 * 16 + 3 + 2, "mm_projector": 6, "llm": language_tensors}


def test_nvidias_projector_is_another_one() -> None:
    """What the facts say of `mlp_downsample_3x3_fix` is refused by name, not read as 2 x 2."""
    with pytest.raises(CheckpointError, match="mm_projector_type is 'mlp_downsample_3x3_fix'"):
        build_empty(
            {
                "model_type": "vila",
                "mm_projector_cfg": {"mm_projector_type": "mlp_downsample_3x3_fix"},
            },
            FAMILY,
        )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"s2": True}, "s2 is True, expected False"),
        ({"dynamic_s2": True}, "dynamic_s2 is True"),
        ({"mm_vision_select_feature": "patch"}, "mm_vision_select_feature is 'patch'"),
        ({"mm_vision_select_layer": 3}, "mm_vision_select_layer is 3"),
        ({"llm_cfg": {"model_type": "mistral"}}, "the language model is 'mistral'"),
        ({"vision_tower_cfg": {"model_type": "clip_vision_model"}}, "the vision tower is 'clip"),
    ],
)
def test_another_kind_of_nvila_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        build_empty({"model_type": "vila", **fields}, FAMILY)


def test_a_head_in_the_weights_is_read_and_written(flat: Path, tmp_path: Path) -> None:
    """Whether a tower has its pooling head is seen from the weights; published ones have none."""
    model: Any = load_model(flat, FAMILY)
    config = copy.deepcopy(model.config)
    config.vision_config.vision_use_head = True
    with_head: Any = NvilaLiteForConditionalGeneration(config)
    with_head.save_pretrained(tmp_path / "a")
    fields = read_json(tmp_path / "a" / "config.json")
    fields["vision_config"].pop("vision_use_head", None)
    write_json(tmp_path / "a" / "config.json", fields)
    assert same(load_model(tmp_path / "a", FAMILY).state_dict(), with_head.state_dict())


# ------------------------------------------------------------------------ the sequence


def prompt_of(contents: list[Any]) -> Conversation:
    parts = [Text(part) if isinstance(part, str) else picture(*part) for part in contents]
    return Conversation((Message("user", tuple(parts)),), id="row")


@pytest.mark.parametrize(
    "contents",
    [
        [(56, 56), "何?"],
        [(300, 200), "what is this?"],
        ["\n次の画像 ", (2000, 300), " は何ですか。 "],
        ["describe", (112, 56)],
        [
            (64, 48),
            "これは日本の画像です",
            (30, 90),
            "これはオーストリアの画像です",
            "違いを説明して",
        ],
        [(56, 56), "\n\nlines"],
        ["no picture"],
    ],
)
def test_ids_are_those_of_the_reference(contents: list[Any], even: Path) -> None:
    """Its `dropped_ids` are left empty: `<|im_end|>` behind a picture stays here, on purpose."""
    processor: Any = FAMILY.open(even)
    alone = sum(not isinstance(part, str) for part in contents) == 1
    counted = []
    for part in contents:
        if isinstance(part, str):
            counted.append(part)
            continue
        views = plain.views_of_one_picture(*part, tile=56) if alone else [plain.whole_view(56)]
        counted.append(len(views))
    tokenizer = AutoTokenizer.from_pretrained(even / "llm", local_files_only=True)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": plain.user_text(counted)}],
        tokenize=False,
        add_generation_prompt=True,
    )
    (newline_id,) = tokenizer("\n")["input_ids"]
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    places = plain.sequence(
        tokenizer(text)["input_ids"],
        image_token_id=image_id,
        newline_token_id=newline_id,
        vectors_per_tile=4,
    )
    expected = [image_id if isinstance(place, tuple) else place for place in places]
    assert processor.encode_prompt(prompt_of(contents)).input_ids.tolist() == expected
