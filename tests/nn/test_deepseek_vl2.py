"""DeepSeek-VL2's native classes beside the plain reference, and what `transformers` asks of a model.

Weights are random everywhere, norms and biases too: of ones and zeros a mistake would not show.

Tolerance: 1e-5 of the spread of what is compared. The reference sums in float64; the worst case
seen is 3e-6, of whole logits in float32.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from reference import deepseek_vl2 as plain
from reference import deepseek_vl2_language as plain_text
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.core_model_loading import revert_weight_conversion

from manako.core.files import read_json
from manako.families._shared.tiny_deepseek import TinyDeepseek, Variant, write_checkpoint
from manako.families.deepseek_vl2 import FAMILY
from manako.nn import deepseek_vl2_text as text
from manako.nn.attention import use_segments
from manako.nn.cache import cache_argument, cache_of
from manako.nn.deepseek_vl2 import DeepseekVL2Config, DeepseekVL2ForConditionalGeneration
from manako.nn.recompute import recompute_layers

VARIANTS: tuple[Variant, ...] = ("mha_softmax", "mla_softmax", "mla_sigmoid")
TOLERANCE = 1e-5
TILE, SIDE = 42, 2  # pixels and tokens of a tiny tile
FIRST_MIXTURE = 1  # the first layer that has experts


@dataclass(frozen=True)
class Subject:
    """A model, its folder, and the same weights for the reference."""

    model: Any
    folder: Path
    config: dict[str, Any]
    weights: dict[str, np.ndarray]


def make_subject(folder: Path, variant: Variant, **changes: Any) -> Subject:
    write_checkpoint(folder, TinyDeepseek(variant=variant, **changes))
    model = DeepseekVL2ForConditionalGeneration.from_pretrained(folder).eval()
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.randn(tensor.shape, generator=draw) * 0.05)
    model.save_pretrained(folder)
    config = read_json(folder / "config.json")
    weights = {k: v.numpy() for k, v in load_file(folder / "model.safetensors").items()}
    return Subject(model, folder, config, weights)


@pytest.fixture(scope="module", params=VARIANTS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("tiny"), request.param)


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The variant of most rules: latent attention, sigmoids, a bias."""
    return make_subject(tmp_path_factory.mktemp("sigmoid"), "mla_sigmoid")


def assert_equal(found: Tensor, wanted: Any, tolerance: float = TOLERANCE) -> None:
    wanted = torch.as_tensor(np.asarray(wanted), dtype=torch.float64)
    gap = float((found.detach().double() - wanted).abs().max() / wanted.std())
    assert found.shape == wanted.shape
    assert gap <= tolerance, f"differs by {gap:.1e} of the spread"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def question(*sheets: tuple[int, int], seed: int = 0, width: int = 4) -> dict[str, Any]:
    """A conversation with pictures of these columns and rows, and words before, between, after."""
    mask: list[bool] = [False] * width
    for columns, rows in sheets:
        mask += [True] * plain.token_count(columns, rows, SIDE) + [False] * width
    ids = torch.randint(3, 300, (1, len(mask)), generator=torch.Generator().manual_seed(seed))
    tiles = sum(1 + columns * rows for columns, rows in sheets)
    return {
        "input_ids": ids,
        "pixel_values": draw(tiles, 3, TILE, TILE, seed=seed),
        "images_spatial_crop": torch.tensor(sheets),
        "images_seq_mask": torch.tensor([mask]),
    }


def reference_logits(subject: Subject, asked: dict[str, Any]) -> Any:
    sheets = [tuple(sheet) for sheet in asked["images_spatial_crop"].tolist()]
    tiles = asked["pixel_values"].split([1 + columns * rows for columns, rows in sheets])
    pictures = [(each.numpy(), sheet) for each, sheet in zip(tiles, sheets, strict=True)]
    ids, mask = asked["input_ids"][0].tolist(), asked["images_seq_mask"][0].tolist()
    return plain.logits(subject.weights, subject.config, ids, pictures, mask)


def test_the_tower_is_that_of_the_reference(sigmoid: Subject) -> None:
    tiles = draw(2, 3, TILE, TILE)
    wanted = [plain.vision_tower(tile.numpy(), sigmoid.weights, sigmoid.config) for tile in tiles]
    assert_equal(sigmoid.model.vision(tiles), np.stack(wanted))


def test_the_projector_fills_an_odd_grid_with_zeros(sigmoid: Subject) -> None:
    seen = draw(2, 9, 32)
    wanted = [plain.projector(each.numpy(), sigmoid.weights, sigmoid.config) for each in seen]
    found = sigmoid.model.projector(seen.unflatten(1, (3, 3)))
    assert_equal(found.flatten(1, 2), np.stack(wanted))


@pytest.mark.parametrize("sheet", [(1, 1), (3, 2), (1, 4), (4, 1)])
def test_tiles_are_laid_out_as_one_map(sigmoid: Subject, sheet: tuple[int, int]) -> None:
    tiles = draw(1 + sheet[0] * sheet[1], SIDE * SIDE, 32)
    ends = (sigmoid.weights["image_newline"], sigmoid.weights["view_seperator"])
    wanted = plain.lay_out(tiles.numpy(), *sheet, *ends)
    found = sigmoid.model._laid_out(tiles.unflatten(1, (SIDE, SIDE)), *sheet)
    assert_equal(found, wanted)


def test_attention_is_that_of_the_reference(subject: Subject) -> None:
    language = plain_text.language_settings(subject.config)
    x, positions = draw(1, 9, 32), torch.arange(5, 14)[None]
    layer = subject.model.language.model.layers[0].self_attn
    width = language["qk_rope_head_dim"] if language["use_mla"] else 16
    rotary = text.rotary_of(positions, width, language["rope_theta"], torch.float32)
    mix = plain_text.mla if language["use_mla"] else plain_text.mha
    name = "language.model.layers.0.self_attn"
    wanted = mix(x[0].numpy(), subject.weights, name, language, positions[0].tolist())
    assert_equal(layer(x, None, rotary, None)[0], wanted)


@pytest.mark.parametrize("groups", [1, 4])
def test_routing_is_that_of_the_reference(subject: Subject, groups: int) -> None:
    gate = subject.model.language.model.layers[FIRST_MIXTURE].mlp.gate
    language = plain_text.language_settings(subject.config) | {
        "n_group": groups,
        "topk_group": groups,
    }
    if language["topk_method"] == "noaux_tc":
        language["topk_group"] = min(groups, 2)
    gate_with = text.DeepseekVL2Router(text.DeepseekVL2LanguageConfig(**language))
    gate_with.load_state_dict(gate.state_dict())
    x = draw(40, 32) * 10
    chosen, weights = gate_with(x)
    logits = x.double().numpy() @ gate.weight.detach().double().numpy().T
    bias = None if gate.e_score_correction_bias is None else gate.e_score_correction_bias.numpy()
    for t, row in enumerate(logits):
        wanted, shares = plain_text.route(row, bias, language)
        assert chosen[t].tolist() == wanted
        torch.testing.assert_close(weights[t], torch.tensor(shares), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("work", ["grouped", "one_by_one"])
def test_a_mixture_is_that_of_the_reference(
    subject: Subject, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "can_group", lambda *tensors: work == "grouped")
    x = draw(1, 20, 32)
    name = f"language.model.layers.{FIRST_MIXTURE}.mlp"
    language = plain_text.language_settings(subject.config)
    wanted = plain_text.moe(x[0].double().numpy(), subject.weights, name, language)
    assert_equal(subject.model.language.model.layers[FIRST_MIXTURE].mlp(x)[0], wanted)


def test_logits_with_pictures_are_those_of_the_reference(subject: Subject) -> None:
    asked = question((2, 1), (1, 1))
    with torch.no_grad():
        found = subject.model(**asked).logits[0]
    assert_equal(found, reference_logits(subject, asked))


def drop_norm(model: Any) -> None:
    model.language.model.layers[1].self_attn.kv_a_layernorm = nn.Identity()


def swap_axes(model: Any) -> None:
    inner = model.projector.layers[0].forward
    model.projector.layers[0].forward = lambda x: inner(
        x.unflatten(-1, (-1, 2, 2)).transpose(-1, -2).flatten(-3)  # (c, dx, dy)
    )


def change_eps(model: Any) -> None:
    model.language.model.norm.eps = 1e-5


@pytest.mark.parametrize("mutate", [drop_norm, swap_axes, change_eps])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_comparison_sees_a_mistake(sigmoid: Subject, mutate: Any, seed: int) -> None:
    model = DeepseekVL2ForConditionalGeneration.from_pretrained(sigmoid.folder).eval()
    asked = question((2, 1), (1, 1), seed=seed)
    wanted = reference_logits(sigmoid, asked)
    with torch.no_grad():
        assert_equal(model(**asked).logits[0], wanted)
        mutate(model)
        found = model(**asked).logits[0]
    with pytest.raises(AssertionError, match="of the spread"):
        assert_equal(found, wanted)


def test_decoding_with_a_cache_is_the_full_pass(subject: Subject) -> None:
    model, asked = subject.model, question((1, 2))
    length = asked["input_ids"].shape[1]
    more = torch.cat([asked["input_ids"], torch.tensor([[9, 8, 7]])], dim=1)
    mask = functional.pad(asked["images_seq_mask"], (0, 3))
    with torch.no_grad():
        full = model(**asked | {"input_ids": more, "images_seq_mask": mask}).logits[0]
        output = model(**asked, use_cache=True)
        found = [output.logits[0]]
        for place in range(length, length + 3):
            ids, cache = more[:, place : place + 1], cache_argument(model, cache_of(output))
            output = model(input_ids=ids, **cache, use_cache=True)
            found.append(output.logits[0])
    assert_equal(torch.cat(found), full)


def test_generation_reads_pictures_once(subject: Subject) -> None:
    asked = question((2, 1))
    seen = []
    handle = subject.model.vision.register_forward_hook(lambda *call: seen.append(1))
    how = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    cached = subject.model.generate(**asked, **how)
    assert len(seen) == 1
    again = subject.model.generate(**asked, **how, use_cache=False)
    handle.remove()
    assert torch.equal(cached, again)


def test_a_batch_padded_at_the_left_generates_as_each_alone(subject: Subject) -> None:
    short, long = question((1, 1), seed=3), question((2, 1), seed=4)
    lack = long["input_ids"].shape[1] - short["input_ids"].shape[1]
    ids, mask = (
        torch.cat([functional.pad(short[name], (lack, 0)), long[name]])
        for name in ("input_ids", "images_seq_mask")
    )
    real = torch.ones_like(ids)
    real[0, :lack] = 0
    pictures = {
        name: torch.cat([short[name], long[name]])
        for name in ("pixel_values", "images_spatial_crop")
    }
    how = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    both = subject.model.generate(
        input_ids=ids, images_seq_mask=mask, attention_mask=real, **pictures, **how
    )
    for row, alone in zip(both, (short, long), strict=True):
        assert torch.equal(row[-4:], subject.model.generate(**alone, **how)[0, -4:])


def test_packed_is_one_by_one(subject: Subject) -> None:
    parts = [question((2, 1), seed=1), question((1, 1), seed=2), question((1, 3), seed=3)]
    with torch.no_grad():
        alone = [subject.model(**part).logits[0] for part in parts]
    model = DeepseekVL2ForConditionalGeneration.from_pretrained(subject.folder).eval()
    use_segments(model)
    lengths = [len(logits) for logits in alone]
    packed = {
        "input_ids": torch.cat([part["input_ids"] for part in parts], dim=1),
        "images_seq_mask": torch.cat([part["images_seq_mask"] for part in parts], dim=1),
        "pixel_values": torch.cat([part["pixel_values"] for part in parts]),
        "images_spatial_crop": torch.cat([part["images_spatial_crop"] for part in parts]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "segments": (0, *np.cumsum(lengths).tolist()),
    }
    with torch.no_grad():
        found = model(**packed, use_cache=False).logits[0]
    assert_equal(found, torch.cat(alone))


def gradients(model: Any, asked: dict[str, Any]) -> dict[str, Tensor]:
    model.zero_grad()
    model(**asked, labels=asked["input_ids"], use_cache=False).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_gradients_with_layers_computed_twice_are_the_same(subject: Subject) -> None:
    model = DeepseekVL2ForConditionalGeneration.from_pretrained(subject.folder).train()
    asked = question((2, 1))
    once = gradients(model, asked)
    assert recompute_layers(model, FAMILY, ["vision", "language"]) == {"vision": 3, "language": 2}
    twice = gradients(model, asked)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    untouched = {name for name, _ in model.named_parameters()} - once.keys()
    assert untouched
    assert all(name.startswith("vision.attn_pool.") for name in untouched)


def test_the_router_bias_chooses_and_is_never_trained(sigmoid: Subject) -> None:
    model = DeepseekVL2ForConditionalGeneration.from_pretrained(sigmoid.folder).train()
    gate = model.language.model.layers[FIRST_MIXTURE].mlp.gate
    before = gate.e_score_correction_bias.clone()
    assert "e_score_correction_bias" not in dict(gate.named_parameters())
    chosen, weights = gate(draw(30, 32))
    gate.e_score_correction_bias.zero_()
    others, _ = gate(draw(30, 32))
    assert not torch.equal(chosen, others)
    gate.e_score_correction_bias.copy_(before)
    assert torch.allclose(weights.sum(dim=-1), torch.tensor(2.0))  # normalised, then scaled
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(**question((1, 1)), labels=question((1, 1))["input_ids"]).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > losses[1] > losses[2]
    assert torch.equal(gate.e_score_correction_bias, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_are_those_of_each_expert_with_gradients(dtype: torch.dtype) -> None:
    """bfloat16: both round each product once, and sum a product's terms in another order."""
    counts = torch.tensor([3, 0, 5, 0, 1])
    found = []
    for work in (text.grouped, text.one_by_one):
        x = draw(9, 32, seed=1).to(dtype).requires_grad_()
        gate_up = draw(5, 48, 32, seed=2).to(dtype).requires_grad_()
        down = draw(5, 32, 24, seed=3).to(dtype).requires_grad_()
        assert text.can_group(x, gate_up, down)
        done = work(x, counts, gate_up, down, functional.silu)
        (done * draw(9, 32, seed=4).to(dtype)).sum().backward()
        found.append((done, x.grad, gate_up.grad, down.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert theirs is not None
        assert_equal(ours, theirs.double().detach(), TOLERANCE if dtype is torch.float32 else 2e-2)


def test_widths_that_grouped_products_cannot_read_go_expert_by_expert() -> None:
    x, gate_up, down = draw(2, 30), draw(3, 10, 30), draw(3, 30, 5)
    assert not text.can_group(x, gate_up, down)
    assert not text.can_group(x.half(), gate_up.half(), down.half())


def test_the_router_is_exact_under_autocast(sigmoid: Subject) -> None:
    mixture = sigmoid.model.language.model.layers[FIRST_MIXTURE].mlp
    x = draw(16, 32)
    chosen, weights = mixture.gate(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again, shares = mixture.gate(x)
        done = mixture(x[None])
    assert torch.equal(chosen, again)
    assert torch.equal(weights, shares)
    assert_equal(done.float(), mixture(x[None]).detach(), 5e-2)  # bfloat16 keeps 8 bits


def test_bfloat16_runs_and_trains(subject: Subject) -> None:
    model = DeepseekVL2ForConditionalGeneration.from_pretrained(
        subject.folder, dtype=torch.bfloat16
    )
    found = gradients(model, question((1, 1)))
    assert all(bool(grad.isfinite().all()) for grad in found.values())


@pytest.mark.parametrize("shard", ["5GB", "60KB"])
def test_weights_go_there_and_back(subject: Subject, shard: str, tmp_path: Path) -> None:
    subject.model.save_pretrained(tmp_path, max_shard_size=shard)
    written = [load_file(file) for file in sorted(tmp_path.glob("*.safetensors"))]
    assert len(written) == 1 if shard == "5GB" else len(written) > 3
    merged = {name: tensor for part in written for name, tensor in part.items()}
    assert merged.keys() == subject.weights.keys()
    assert all(np.array_equal(merged[name], subject.weights[name]) for name in merged)
    again, info = DeepseekVL2ForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True, device_map="cpu"
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = subject.model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in again.state_dict().items())


def test_names_of_the_file_are_the_published_ones(sigmoid: Subject) -> None:
    names = sigmoid.weights.keys()
    mixture = "language.model.layers.1.mlp"
    for name in (
        "image_newline",
        "view_seperator",
        "vision.pos_embed",
        "vision.patch_embed.proj.bias",
        "vision.blocks.2.attn.qkv.weight",
        "vision.attn_pool.latent",
        "vision.attn_pool.kv.bias",
        "projector.layers.2.weight",
        "language.lm_head.weight",
        "language.model.layers.0.mlp.gate_proj.weight",
        f"{mixture}.gate.e_score_correction_bias",
        f"{mixture}.experts.7.up_proj.weight",
        f"{mixture}.shared_experts.down_proj.weight",
    ):
        assert name in names
    assert not any("gate_up_proj" in name for name in names)


def test_config_json_goes_there_and_back(subject: Subject, tmp_path: Path) -> None:
    published = read_json(subject.folder / "config.json")
    published["language_config"]["something_of_theirs"] = [1, 2]
    DeepseekVL2Config.from_dict(json.loads(json.dumps(published))).save_pretrained(tmp_path)
    written = read_json(tmp_path / "config.json")
    for part in ("language_config", "vision_config", "projector_config"):
        assert published[part].items() <= written[part].items()
    assert written["candidate_resolutions"] == published["candidate_resolutions"]
    assert written["model_type"] == "deepseek_vl_v2"


def test_auto_classes_know_the_model(sigmoid: Subject) -> None:
    assert isinstance(AutoConfig.from_pretrained(sigmoid.folder), DeepseekVL2Config)
    for auto in (AutoModelForImageTextToText, AutoModelForCausalLM):
        model = auto.from_pretrained(sigmoid.folder)
        assert isinstance(model, DeepseekVL2ForConditionalGeneration)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # PEFT asks it
def test_adapters_sit_on_linear_modules(subject: Subject) -> None:
    model = DeepseekVL2ForConditionalGeneration.from_pretrained(subject.folder)
    targets = FAMILY.adapter_targets["language"]
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    found = gradients(wrapped, question((1, 1)))
    assert found
    assert all("lora_" in name for name in found)
    assert any("shared_experts" in name for name in found)
    assert not any(".experts." in name for name in found)


def test_logits_are_kept_by_count_or_by_place(sigmoid: Subject) -> None:
    asked = question((1, 1))
    with torch.no_grad():
        every = sigmoid.model(**asked).logits
        last = sigmoid.model(**asked, logits_to_keep=2).logits
        some = sigmoid.model(**asked, logits_to_keep=torch.tensor([0, 5])).logits
    assert torch.allclose(last, every[:, -2:], atol=1e-6)
    assert torch.allclose(some, every[:, [0, 5]], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images_seq_mask": None}, "without images_seq_mask"),
        ({"images_spatial_crop": None}, "without images_spatial_crop"),
        ({"images_spatial_crop": torch.tensor([[2, 2]])}, "3 tiles; .* wants 5"),
        ({"images_spatial_crop": torch.tensor([[1, 2]])}, "make 19 vectors; .* has 17 places"),
        ({"pixel_values": torch.zeros(3, 3, 56, 56)}, r"expected tiles \(N, 3, 42, 42\)"),
        ({"input_ids": None}, "input_ids or inputs_embeds"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    sigmoid: Subject, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        sigmoid.model(**question((2, 1)) | change)


@pytest.mark.parametrize(
    ("part", "field", "value", "expected"),
    [
        ("vision_config", "model_name", "deeplip_b_l", "siglip_so400m"),
        ("vision_config", "model_name", "deepencoderv2", "siglip_so400m"),
        ("projector_config", "projector_type", "linear", "downsample_mlp_gelu"),
        ("language_config", "q_lora_rank", 1536, "None"),
        ("language_config", "topk_method", "gready", "'greedy' or 'noaux_tc'"),
        ("language_config", "topk_method", "group_limited_greedy", "'greedy' or 'noaux_tc'"),
        ("language_config", "scoring_func", "tanh", "'softmax' or 'sigmoid'"),
        ("language_config", "rope_scaling", {"type": "yarn"}, "None"),
        ("language_config", "kv_lora_rank", None, "a whole number above zero"),
        ("", "tile_tag", "1D", "'2D'"),
        ("", "global_view_pos", "tail", "'head'"),
    ],
)
def test_another_variant_is_refused_by_name(
    sigmoid: Subject, part: str, field: str, value: Any, expected: str
) -> None:
    found = read_json(sigmoid.folder / "config.json")
    (found[part] if part else found)[field] = value
    with pytest.raises(ValueError, match=field) as caught:
        DeepseekVL2ForConditionalGeneration(DeepseekVL2Config.from_dict(found))
    assert repr(value) in str(caught.value)
    assert expected in str(caught.value).partition("expected")[2]


ATTENTION = {
    "mha": {
        "use_mla": False, "kv_lora_rank": None, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0,
        "v_head_dim": 0,
    },
    "mla": {"use_mla": True},
}  # fmt: skip
BIASED = {
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1,
    "norm_topk_prob": True, "routed_scaling_factor": 2.0,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A published size: width, layers, heads, dense width, experts, width of one, vocabulary; its
    parameters in thousands of millions, and the gigabytes of its bfloat16 weights, as rounded where
    they stand: the sizes of the files of tiny, and memory as the authors state it."""

    attention: str
    sizes: tuple[int, int, int, int, int, int, int]
    billions: str
    gigabytes: str
    router: dict[str, Any]

    def config(self) -> dict[str, Any]:
        width, layers, heads, dense, experts, inner, vocabulary = self.sizes
        language = {
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": heads, "intermediate_size": dense, "n_routed_experts": experts,
            "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": inner,
            "vocab_size": vocabulary, "q_lora_rank": None, "first_k_dense_replace": 1,
            "topk_method": "greedy", **ATTENTION[self.attention], **self.router,
        }  # fmt: skip
        return {
            "language_config": language,
            "vision_config": {"layers": 27, "mlp_ratio": 3.7362, "width": 1152},
            "projector_config": {"n_embed": width},
        }

    def tensors(self) -> int:
        """Counted by hand from the published names.

        Tower: 2 of the patches, the places, 12 a block, 2 of the norm, 13 of the pooling head;
        projector 4; newline and separator; table, last norm and head. A layer: 2 norms, 4 or 5 of
        attention; the first has 3 of its MLP, any other 3 an expert, 3 of the shared ones, and the
        router's 1 or 2.
        """
        _, layers, _, _, experts, _, _ = self.sizes
        tower = 2 + 1 + 27 * 12 + 2 + 13
        attention = 4 if self.attention == "mha" else 5
        mixture = 3 * experts + 3 + (2 if self.router else 1)
        return tower + 4 + 2 + 3 + layers * (2 + attention) + 3 + (layers - 1) * mixture


PUBLISHED = {
    "tiny": Published("mha", (1280, 12, 10, 6848, 64, 896, 129280), "3.3705", "6.741", {}),
    "small": Published("mla", (2048, 27, 16, 10944, 64, 1408, 102400), "16.148", "32.3", {}),
    "base": Published("mla", (2560, 30, 32, 12288, 72, 1536, 129280), "27.480", "55", BIASED),
}
TINY_FILE = "model-00001-of-000001.safetensors"  # the published name, zeros and all
TINY_INDEX_KILOBYTES = 247


def build_published(size: str) -> dict[str, Tensor]:
    """The tensors of a published size by their published names, on the meta device."""
    with torch.device("meta"):
        config = DeepseekVL2Config.from_dict(PUBLISHED[size].config())
        model = DeepseekVL2ForConditionalGeneration(config)
    return revert_weight_conversion(model, model.state_dict())


def rounded_like(number: float, shown: str) -> str:
    return f"{number:.{len(shown.partition('.')[2])}f}"


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_their_parameters_and_tensors(size: str) -> None:
    published, stored = PUBLISHED[size], build_published(size)
    count = sum(tensor.numel() for tensor in stored.values())
    assert rounded_like(count / 1e9, published.billions) == published.billions
    assert rounded_like(2 * count / 1e9, published.gigabytes) == published.gigabytes
    assert len(stored) == published.tensors()


def test_the_index_of_the_smallest_size_has_the_published_length() -> None:
    """Its names alone decide it, pooling head included: 13 tensors fewer would be 246 kB."""
    stored = build_published("tiny")
    total = 2 * sum(tensor.numel() for tensor in stored.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict.fromkeys(stored, TINY_FILE)}
    kilobytes = len(json.dumps(index, indent=2)) / 1000
    assert round(kilobytes) == TINY_INDEX_KILOBYTES
