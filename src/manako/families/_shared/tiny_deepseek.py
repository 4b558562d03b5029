"""Tiny random checkpoints of DeepSeek-VL2, in the published file layout.

The layout follows deepseek-ai/deepseek-vl2-tiny (attention as in Llama), -small (latent attention)
and deepseek-vl2 (that, and a router that scores by sigmoids and chooses by a bias): a config.json
that names no class and leaves out what its authors' class has as its default, no chat template,
weights expert by expert.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from manako.families._shared.deepseek_vl2 import ASSISTANT, GROUNDING, IMAGE, TOWER, USER
from manako.families._shared.tiny import (
    CORPUS,
    HALVES,
    ZEROED_STD,
    byte_level_tokenizer,
    write_tiny,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

Variant = Literal["mha_softmax", "mla_softmax", "mla_sigmoid"]
BEGIN, END, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
CONTROL_TOKENS = (BEGIN, END, PAD, IMAGE, *GROUNDING, USER, ASSISTANT)
DEEPSEEK_WORDS = (
    r"\p{N}{1,3}|[一-龥぀-ゟ゠-ヿ]+|[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""DeepSeek-V3's pre-tokenizer (tokenizer.json), whose three steps are one here. A colon and the
letters after it are one word."""
CANDIDATES = (
    (1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (4, 1), (2, 2), (1, 5), (5, 1), (1, 6), (6, 1),
    (2, 3), (3, 2), (1, 7), (7, 1), (1, 8), (8, 1), (2, 4), (4, 2), (1, 9), (9, 1), (3, 3),
)  # fmt: skip
"""(columns, rows) of tiles in the order of the published candidate_resolutions."""
FUSED, ROWS = ".experts.gate_up_proj", ".experts.down_proj"
ROUTER_BIAS = ".mlp.gate.e_score_correction_bias"


@dataclass(frozen=True, kw_only=True)
class TinyDeepseek:
    """Sizes of a tiny model.

    tile: pixels, published 384; here a grid of three patches, an odd number as there. experts,
    chosen: routed experts, and how many of them work on a token.
    """

    variant: Variant = "mha_softmax"
    seed: int = 0
    width: int = 32
    layers: int = 2
    heads: int = 2
    ffn_width: int = 48
    expert_width: int = 24
    experts: int = 8
    chosen: int = 3
    vision_width: int = 32
    vision_layers: int = 3
    vision_heads: int = 2
    tile: int = 42
    vocabulary: int = 400
    initializer_range: float = 0.02
    corpus: Iterable[str] = CORPUS


def write_checkpoint(folder: Path, tiny: TinyDeepseek) -> None:
    """Write config, tokenizer and random weights into `folder`."""
    tokenizer = byte_level_tokenizer(
        tiny.corpus, vocabulary=tiny.vocabulary, control=CONTROL_TOKENS, words=DEEPSEEK_WORDS
    )
    write_tiny(
        folder,
        model_class="DeepseekVL2ForConditionalGeneration",
        model_module="manako.nn.deepseek_vl2",
        config=_config(tiny, tokenizer),
        tokenizer=tokenizer,
        template=None,
        tokenizer_config={
            "tokenizer_class": "LlamaTokenizerFast",
            "add_bos_token": False,
            "add_eos_token": False,
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": PAD,
            "model_max_length": 4096,
        },
        files={
            "processor_config.json": {
                "processor_class": "DeepseekVLV2Processor",
                "add_special_token": False,
                "candidate_resolutions": _candidates(tiny.tile),
                "downsample_ratio": 2,
                "ignore_id": -100,
                "image_mean": list(HALVES),
                "image_std": list(HALVES),
                "image_token": IMAGE,
                "mask_prompt": False,
                "normalize": True,
                "pad_token": PAD,
                "patch_size": 14,
                "sft_format": "deepseek",
            },
        },
        seed=tiny.seed,
    )
    _as_published(folder / "model.safetensors", tiny)


def _candidates(tile: int) -> list[list[int]]:
    return [[columns * tile, rows * tile] for columns, rows in CANDIDATES]


def _config(tiny: TinyDeepseek, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json with the published fields; those of the tower and of the projector that are no
    default here are one there."""
    return {
        "candidate_resolutions": _candidates(tiny.tile),
        "global_view_pos": "head",
        "language_config": {
            "architectures": ["DeepseekV2ForCausalLM"],
            "bos_token_id": tokenizer.token_to_id(BEGIN),
            "eos_token_id": tokenizer.token_to_id(END),
            "first_k_dense_replace": 1,
            "hidden_size": tiny.width,
            "initializer_range": tiny.initializer_range,
            "intermediate_size": tiny.ffn_width,
            "lm_head": True,
            "max_position_embeddings": 4096,
            "model_type": "deepseek_v2",
            "moe_intermediate_size": tiny.expert_width,
            "n_group": 1,
            "n_routed_experts": tiny.experts,
            "n_shared_experts": 2,
            "num_attention_heads": tiny.heads,
            "num_experts_per_tok": tiny.chosen,
            "num_hidden_layers": tiny.layers,
            "num_key_value_heads": tiny.heads,
            "q_lora_rank": None,
            "rm_head": False,
            "topk_group": 1,
            "torch_dtype": "float32",
            "vocab_size": tokenizer.get_vocab_size(),
            **_attention(tiny),
            **_routing(tiny),
        },
        "model_type": "deepseek_vl_v2",
        "projector_config": {
            "input_dim": tiny.vision_width,
            "model_type": "mlp_projector",
            "n_embed": tiny.width,
        },
        "tile_tag": "2D",
        "torch_dtype": "float32",
        "transformers_version": "4.38.2",
        "vision_config": {
            "heads": tiny.vision_heads,
            "image_size": tiny.tile,
            "layers": tiny.vision_layers,
            "mlp_ratio": 3.7362,
            "model_name": TOWER,
            "model_type": "vision",
            "patch_size": 14,
            "width": tiny.vision_width,
        },
    }


def _attention(tiny: TinyDeepseek) -> dict[str, Any]:
    if tiny.variant == "mha_softmax":
        return {
            "kv_lora_rank": None,
            "qk_nope_head_dim": 0,
            "qk_rope_head_dim": 0,
            "use_mla": False,
            "v_head_dim": 0,
        }
    return {"kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}


def _routing(tiny: TinyDeepseek) -> dict[str, Any]:
    if tiny.variant != "mla_sigmoid":
        return {"topk_method": "greedy"}
    return {
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.0,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
    }


def _as_published(file: Path, tiny: TinyDeepseek) -> None:
    """Cut fused experts apart, and draw the router's bias, which a fresh model has at zero: chosen
    are other experts with it than without."""
    import torch
    from safetensors.torch import load_file, save_file

    drawn = torch.Generator().manual_seed(tiny.seed)
    weights: dict[str, Tensor] = {}
    for name, weight in load_file(str(file)).items():
        if name.endswith(FUSED):
            for number, pair in enumerate(weight):
                for half, one in zip(("gate", "up"), pair.chunk(2), strict=True):
                    weights[f"{name.removesuffix('gate_up_proj')}{number}.{half}_proj.weight"] = one
        elif name.endswith(ROWS):
            for number, one in enumerate(weight):
                weights[f"{name.removesuffix('down_proj')}{number}.down_proj.weight"] = one
        elif name.endswith(ROUTER_BIAS):
            weights[name] = torch.randn(weight.shape, generator=drawn) * ZEROED_STD
        else:
            weights[name] = weight
    whole = {name: weight.contiguous().clone() for name, weight in weights.items()}
    save_file(whole, str(file), metadata={"format": "pt"})
