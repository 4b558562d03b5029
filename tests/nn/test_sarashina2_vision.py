"""Sarashina-Vision: every block equal to the plain reference, what breaks it seen, sizes to the byte.

Tolerance: the reference is float64, the model float32 over two layers, whose sums differ by some
1e-7 of the spread of a block's output and about 2e-6 of the logits': 1e-5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from reference import sarashina2_vision as plain
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaForCausalLM,
)

from manako.catalogue.cards import find_card
from manako.core.errors import CheckpointError
from manako.families.sarashina2_vision import FAMILY
from manako.nn.attention import use_segments
from manako.nn.batch import normalise
from manako.nn.checkpoint import build_empty, load_model
from manako.nn.recompute import recompute_layers
from manako.nn.sarashina2_vision import Sarashina2VisionConfig, Sarashina2VisionForCausalLM
from manako.verify.golden.pictures import pattern

TOLERANCE = 1e-5
FIELDS: dict[str, Any] = {
    "model_type": "sarashina2_vision",
    "architectures": ["Sarashina2VisionForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling.Sarashina2VisionForCausalLM"},
    "image_token_index": 14,
    "start_image_token_index": 57,
    "end_image_token_index": 58,
    "vision_config": {
        "model_type": "qwen2_vl",
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "hidden_size": 40,
        "mlp_ratio": 3.7362,
        "hidden_act": "gelu_pytorch_tanh",
        "in_chans": 3,
        "spatial_patch_size": 14,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": 0.15,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 40,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 60,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "initializer_range": 0.15,
    },
}
ACTIVATIONS = ("gelu_pytorch_tanh", "quick_gelu")
GRIDS = ((56, 84), (84, 28))
"""(height, width) of the pictures in pixels: 6 and 3 vectors."""
IDS = [1, 5, 14, 14, 14, 14, 14, 14, 6, 7, 14, 14, 14, 8, 9]


def fields(**vision: Any) -> dict[str, Any]:
    return {**FIELDS, "vision_config": {**FIELDS["vision_config"], **vision}}


def build(seed: int = 0, **vision: Any) -> Any:
    """A model whose norms are away from one and zero, so that none can be left out unseen."""
    torch.manual_seed(seed)
    model = Sarashina2VisionForCausalLM(Sarashina2VisionConfig.from_dict(fields(**vision)))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0 if name.endswith("weight") else 0.0, std=0.2)
    return model.eval()


def weights_of(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def pictures(seed: int = 0, contrast: float = 1.0) -> list[tuple[Any, Any]]:
    drawn = np.random.default_rng(seed)
    return [
        plain.cut_patches((contrast * drawn.normal(size=(3, *grid))).astype(np.float32))
        for grid in GRIDS
    ]


def inputs_of(shown: list[tuple[Any, Any]], ids: list[int] | None = None) -> dict[str, Tensor]:
    return {
        "input_ids": torch.tensor([ids or IDS]),
        "pixel_values": torch.tensor(np.concatenate([p for p, _ in shown]), dtype=torch.float32),
        "image_grid_thw": torch.tensor([grid for _, grid in shown]),
    }


def compare(found: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    gap = np.abs(found.detach().numpy() - expected).max() / expected.std()
    assert gap <= TOLERANCE, f"differs by {gap:.1e} of the spread"


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_tower_merger_and_norm_equal_the_reference(act: str) -> None:
    model, shown = build(hidden_act=act), pictures()
    weights, config = weights_of(model), fields(hidden_act=act)
    given = inputs_of(shown)
    seen = model.visual(given["pixel_values"], given["image_grid_thw"], return_dict=True)
    features = [plain.vision_features(weights, config["vision_config"], *one) for one in shown]
    compare(seen.last_hidden_state, np.concatenate(features))
    merged = [plain.merge_patches(weights, one) for one in features]
    compare(seen.pooler_output, np.concatenate(merged))
    vectors = [plain.picture_vectors(weights, config, *one) for one in shown]
    found = model.get_image_features(given["pixel_values"], given["image_grid_thw"])
    assert found.shape == (9, 40)
    compare(found, np.concatenate(vectors))
    compare(found, np.concatenate([plain.final_norm(weights, one) for one in merged]))


def test_the_language_model_equals_the_reference() -> None:
    model = build()
    ids = [3, 14, 9, 27, 1, 59, 40]
    embeds = model.get_input_embeddings()(torch.tensor([ids]))
    expected = plain.language_logits(
        weights_of(model), FIELDS["text_config"], embeds[0].detach().numpy().astype(np.float64)
    )
    compare(model(inputs_embeds=embeds).logits[0], expected)
    compare(model(input_ids=torch.tensor([ids])).logits[0], expected)


def check_logits(model: Any, weights: dict[str, Any], act: str, contrast: float = 1.0) -> None:
    shown = pictures(contrast=contrast)
    expected = plain.logits(weights, fields(hidden_act=act), IDS, shown)
    compare(model(**inputs_of(shown)).logits[0], expected)


@pytest.mark.parametrize("contrast", [1.0, 1e-3])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_logits_equal_the_reference(act: str, contrast: float) -> None:
    model = build(hidden_act=act)
    check_logits(model, weights_of(model), act, contrast)


def drop_norm(model: Any) -> None:
    """What the known GGUF does."""
    model.norm = nn.Identity()


def swap_axes(model: Any) -> None:
    """Rows turn by the angles of columns."""
    rotary = model.visual.rotary_pos_emb
    forward = rotary.forward
    rotary.forward = lambda x, position_ids: forward(x, position_ids.flip(-1))


def other_eps(model: Any) -> None:
    """The tower's norms with 1e-5 in place of 1e-6, as a known port has them."""
    for block in model.visual.blocks:
        block.norm1.eps = block.norm2.eps = 1e-5


def outer_eps(model: Any) -> None:
    """The norm behind the merger as those inside the tower."""
    model.norm.eps = 1e-6


def drop_tower_norm(model: Any) -> None:
    model.visual.merger.ln_q = nn.Identity()


MUTATIONS = (drop_norm, swap_axes, other_eps, outer_eps, drop_tower_norm)


def faint(seed: int) -> Any:
    """A model whose merged vectors lie close together: where that is so, an eps shows."""
    model = build(seed)
    with torch.no_grad():
        for parameter in model.visual.merger.mlp[2].parameters():
            parameter.mul_(1e-2)
    return model


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("seed", [0])
def test_a_wrong_port_fails_the_comparison(mutation: Callable[[Any], None], seed: int) -> None:
    """Weights and picture of seed 0; the picture is nearly of one colour, for the same reason."""
    model = faint(seed)
    weights = weights_of(faint(seed))
    check_logits(model, weights, "gelu_pytorch_tanh", 1e-3)
    mutation(model)
    with pytest.raises(AssertionError, match="of the spread"):
        check_logits(model, weights, "gelu_pytorch_tanh", 1e-3)


def test_saved_and_loaded_it_is_the_same_by_every_way(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path)
    given = inputs_of(pictures())
    expected = model(**given).logits
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, Sarashina2VisionConfig)
    for auto in (AutoModelForImageTextToText, AutoModelForCausalLM, Sarashina2VisionForCausalLM):
        again, found = auto.from_pretrained(tmp_path, output_loading_info=True, device_map="cpu")
        assert isinstance(again, Sarashina2VisionForCausalLM)
        assert not any(found.values())
        assert torch.equal(again(**given).logits, expected)
    assert torch.equal(load_model(tmp_path, FAMILY)(**given).logits, expected)


def test_its_config_is_written_as_published(tmp_path: Path) -> None:
    """Also what only the authors' code reads: `rope_theta`, `in_chans`, `auto_map`."""
    build().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    for name in ("architectures", "auto_map", "image_token_index", "end_image_token_index"):
        assert written[name] == FIELDS[name]
    for part in ("vision_config", "text_config"):
        for name, value in FIELDS[part].items():
            if name != "rope_scaling":
                assert written[part][name] == value, (part, name)
    assert Sarashina2VisionConfig.from_dict(written).to_dict() == {
        **build().config.to_dict(),
        "dtype": "float32",
    }


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("vision_config", {"model_type": "siglip_vision_model"}, r"expected 'qwen2_vl'"),
        ("text_config", {"model_type": "gpt_neox"}, r"text_config\.model_type is 'gpt_neox'"),
        (
            "vision_config",
            {"hidden_size": 48},
            "vision_config.hidden_size is 48, text_config has 40",
        ),
        ("vision_config", {"num_heads": 3}, "embed_dim % num_heads is 2, expected 0"),
        ("vision_config", {"num_heads": 16}, "head width % 4 is 2, expected 0"),
    ],
)
def test_another_variant_is_refused(part: str, changes: dict[str, Any], said: str) -> None:
    config = {**FIELDS, part: {**FIELDS[part], **changes}}
    with pytest.raises(ValueError, match=said):
        Sarashina2VisionConfig.from_dict(config)
    with pytest.raises(CheckpointError, match=said):
        build_empty(config, FAMILY)


def test_features_and_tokens_must_match() -> None:
    model, given = build(), inputs_of(pictures())
    with pytest.raises(ValueError, match="do not match: 9 vectors for 8 tokens 14"):
        model(**{**given, "input_ids": given["input_ids"][:, 3:]})
    with pytest.raises(ValueError, match="pixel_values are given without image_grid_thw"):
        model(input_ids=given["input_ids"], pixel_values=given["pixel_values"])
    with pytest.raises(ValueError, match="pixel_values are given without input_ids"):
        model(**{**given, "input_ids": None}, inputs_embeds=torch.zeros(1, 3, 40))


def test_pictures_do_not_see_each_other_and_segments_cut_texts_alone() -> None:
    model, shown = build(), pictures()
    use_segments(model)
    given = inputs_of(shown)
    both = model.get_image_features(given["pixel_values"], given["image_grid_thw"])
    alone = [inputs_of([one]) for one in shown]
    each = [model.get_image_features(g["pixel_values"], g["image_grid_thw"]) for g in alone]
    assert torch.allclose(both, torch.cat(each), atol=1e-6)
    cut = 9  # between the pictures
    positions = torch.tensor([[*range(cut), *range(len(IDS) - cut)]])
    packed = model(**given, position_ids=positions, segments=(0, cut, len(IDS))).logits
    rows = [
        model(**inputs_of([shown[0]], IDS[:cut])).logits,
        model(**inputs_of([shown[1]], IDS[cut:])).logits,
    ]
    compare(packed, torch.cat(rows, dim=1).detach())


def greedy(model: Any, given: dict[str, Tensor], steps: int) -> list[int]:
    """Without a cache: the whole text again for every token."""
    ids = given["input_ids"]
    for _ in range(steps):
        # a drawn token may be that of pictures: it is then embedded, as with a cache
        vectors = model.get_image_features(given["pixel_values"], given["image_grid_thw"])
        embeds = model.get_input_embeddings()(ids).clone()
        embeds[0, : given["input_ids"].shape[1]][given["input_ids"][0] == 14] = vectors
        token = model(inputs_embeds=embeds).logits[0, -1].argmax()
        ids = torch.cat([ids, token.view(1, 1)], dim=1)
    return ids[0, given["input_ids"].shape[1] :].tolist()  # type: ignore[no-any-return]


def generate(model: Any, given: dict[str, Tensor], **how: Any) -> Tensor:
    mask = given.get("attention_mask", torch.ones_like(given["input_ids"]))
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": 59}
    found = model.generate(**{**given, "attention_mask": mask}, **{**settings, **how})
    return found[:, given["input_ids"].shape[1] :]  # type: ignore[no-any-return]


@torch.no_grad()
def test_generation_reads_pictures_once_and_equals_the_full_pass() -> None:
    model, given = build(), inputs_of(pictures())
    seen: list[int] = []
    model.visual.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    found = generate(model, given)[0].tolist()
    assert seen == [len(given["pixel_values"])]
    assert found == greedy(model, given, 6)[: len(found)]


@torch.no_grad()
def test_rows_of_a_batch_and_beams_keep_their_own_pictures() -> None:
    model, shown = build(), pictures()
    rows = [inputs_of([shown[0]], IDS[:9]), inputs_of([shown[1]], IDS[9:]), inputs_of(shown)]
    longest = len(IDS)
    padded = [
        [0] * (longest - row["input_ids"].shape[1]) + row["input_ids"][0].tolist() for row in rows
    ]
    together = {
        "input_ids": torch.tensor(padded),
        "attention_mask": (torch.tensor(padded) != 0).long(),
        "pixel_values": torch.cat([row["pixel_values"] for row in rows]),
        "image_grid_thw": torch.cat([row["image_grid_thw"] for row in rows]),
    }
    for beams in (1, 3):
        found = generate(model, together, num_beams=beams)
        for row, tokens in zip(rows, found, strict=True):
            alone = generate(model, row, num_beams=beams)[0].tolist()
            assert tokens.tolist()[: len(alone)] == alone


def recompute(model: Any, way: str) -> None:
    model.train()
    if way == "transformers":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    elif way == "manako":
        counts = recompute_layers(model, FAMILY, ("vision", "language"))
        assert counts == {"vision": 2, "language": 2}


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")  # its old name
def test_layers_computed_again_give_the_same_gradients() -> None:
    gradients = {}
    for way in ("plain", "transformers", "manako"):
        model, given = build(), inputs_of(pictures())
        recompute(model, way)
        labels = given["input_ids"].clone()
        torch.autograd.backward(model(**given, labels=labels, use_cache=False).loss)
        gradients[way] = {n: p.grad for n, p in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients["plain"].values())
    for way in ("transformers", "manako"):
        for name, gradient in gradients["plain"].items():
            assert torch.equal(gradients[way][name], gradient), (way, name)


def test_it_runs_in_bfloat16_and_keeps_chosen_logits() -> None:
    model, given = build(), inputs_of(pictures())
    whole = model(**given).logits
    torch.testing.assert_close(model(**given, logits_to_keep=1).logits, whole[:, -1:])
    kept = torch.tensor([3, 12])
    torch.testing.assert_close(model(**given, logits_to_keep=kept).logits, whole[:, kept])
    half = model.to(torch.bfloat16)
    assert half(**given).logits.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_peft_attaches() -> None:
    from peft import LoraConfig, get_peft_model

    model = build()
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "qkv"]))
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(names) == 2 * (2 + 2)
    assert adapted(**inputs_of(pictures())).logits.shape == (1, len(IDS), 60)


def test_embeddings_may_be_tied(tmp_path: Path) -> None:
    """No published size does, but a text_config may say so."""
    config = {**FIELDS, "text_config": {**FIELDS["text_config"], "tie_word_embeddings": True}}
    torch.manual_seed(0)
    model: Any = Sarashina2VisionForCausalLM(Sarashina2VisionConfig.from_dict(config))
    assert model.llm.lm_head.weight is model.llm.model.embed_tokens.weight
    model.save_pretrained(tmp_path)
    again: Any = load_model(tmp_path, FAMILY)
    assert again.llm.lm_head.weight is again.llm.model.embed_tokens.weight
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(again(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


def test_its_language_part_is_a_llama() -> None:
    assert isinstance(build().llm, LlamaForCausalLM)
    assert build().get_decoder() is not None


@pytest.mark.parametrize("size", [(56, 56), (90, 61), (300, 40), (13, 9)])
def test_pixels_equal_the_reference(tmp_path: Path, size: tuple[int, int]) -> None:
    """Normalised, then resized. float32 places of a source pixel are a few 1e-6 off at 300."""
    FAMILY.make_tiny(tmp_path)
    processor: Any = FAMILY.open(tmp_path)
    shown = pattern(*size)
    cost = processor.cost(*size)
    patches, grid = plain.preprocess(shown)
    assert cost.grid == grid
    pixels = torch.from_numpy(processor.prepare(shown, cost))
    found = normalise(pixels, processor.pixel_rule).numpy()
    assert found.shape == patches.shape
    assert np.abs(found - patches).max() <= 1e-4
    assert np.abs(found - patches).mean() <= 1e-6
    before = plain.cut_patches(plain.normalise(np.asarray(pillow(shown, cost.size))))[0]
    assert np.abs(before - patches).max() > 1e-2 or cost.size == size  # the usual order


def pillow(pixels_HWC: Any, size: tuple[int, int]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BICUBIC)


# ------------------------------------------------------------------------------- published sizes


def published(size: str) -> dict[str, Tensor]:
    """The state of a published size in bfloat16, without memory."""
    card = find_card(size)
    assert card.config is not None
    model = build_empty({"model_type": "sarashina2_vision", **card.config.fields}, FAMILY)
    return model.to(torch.bfloat16).state_dict()


def file_bytes(state: dict[str, Tensor]) -> int:
    """Size of one safetensors file: names in order of the alphabet and `format`, as its library
    writes tensors of one dtype, the header filled up to a multiple of 8."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(state):
        start, end = end, end + state[name].numel() * 2
        shape = list(state[name].shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + math.ceil(length / 8) * 8 + end


def test_the_formula_is_what_safetensors_writes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {n: t.to(torch.bfloat16).contiguous() for n, t in build().state_dict().items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").stat().st_size == file_bytes(state)


def test_3b_has_624_tensors_and_its_file_size_to_the_byte() -> None:
    state = published("sarashina2.2-vision-3b")
    assert len(state) == 624
    assert len([name for name in state if not name.startswith("llm.")]) == 333
    assert sum(tensor.numel() for tensor in state.values()) == 3_801_475_696
    assert file_bytes(state) == 7_603_021_272
    assert state["visual.blocks.26.mlp.fc1.weight"].shape == (4304, 1152)
    assert state["norm.bias"].shape == (2560,)
    assert state["llm.model.layers.31.self_attn.k_proj.weight"].shape == (1280, 2560)


def test_8b_has_its_two_files_and_its_index() -> None:
    state = published("sarashina2-vision-8b")
    found = split_torch_state_dict_into_shards(state, max_shard_size="10GB")
    files = [{n: state[n] for n in names} for names in found.filename_to_tensors.values()]
    sizes = [file_bytes(tensors) for tensors in files]
    assert [round(size / 1e9, 2) for size in sizes] == [9.99, 6.0]
    index = {"metadata": found.metadata, "weight_map": found.tensor_to_filename}
    assert round((len(json.dumps(index, indent=2, sort_keys=True)) + 1) / 1e3, 1) == 53.9
    assert sum(tensor.numel() for tensor in state.values()) == 7_993_521_664


def test_14b_is_a_llama_of_13b_behind_8bs_tower() -> None:
    """Its config was not read: with the sizes of Llama 13B it has the 14.4 billion that are told."""
    card = find_card("sarashina2-vision-8b")
    assert card.config is not None
    parts = card.config.fields
    text = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40}
    heads = {"num_attention_heads": 40, "num_key_value_heads": 40}
    config = {
        "model_type": "sarashina2_vision",
        "text_config": {**parts["text_config"], **text, **heads},
        "vision_config": {**parts["vision_config"], "hidden_size": 5120},
    }
    built = build_empty(config, FAMILY)
    assert round(sum(p.numel() for p in built.parameters()) / 1e9, 1) == 14.4


def test_8bs_tower_is_qwen2_vls_where_its_config_is_silent() -> None:
    """As published: four fields of the tower, and Llama's defaults."""
    config = Sarashina2VisionConfig.from_dict(
        {
            "vision_config": {
                "model_type": "qwen2_vl",
                "hidden_size": 4096,
                "in_chans": 3,
                "spatial_patch_size": 14,
            },
            "text_config": {"model_type": "llama", "vocab_size": 102400},
        }
    )
    vision, text = config.vision_config, config.text_config
    assert (vision.depth, vision.embed_dim, vision.num_heads) == (32, 1280, 16)
    assert (vision.hidden_act, vision.mlp_ratio, vision.spatial_merge_size) == ("quick_gelu", 4, 2)
    assert (text.num_hidden_layers, text.hidden_size, text.intermediate_size) == (32, 4096, 11008)
    with torch.device("meta"):
        model = Sarashina2VisionForCausalLM(config)
    assert sum(p.numel() for p in model.parameters()) == 7_993_521_664
