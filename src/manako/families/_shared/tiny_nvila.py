"""Tiny random checkpoints of Heron-NVILA-Lite, in the published file layout and in an assumed one.

Published (turing-motors/Heron-NVILA-Lite-1B): a config.json of model_type `vila`, and the folders
`llm/` with the tokenizer, `vision_tower/` with the picture settings, `mm_projector/`, each with a
config.json and weights of its own. Assumed, until a real flat Heron (`-hf`) has been read: one
config.json of model_type `nvila_lite`, one set of weights with the prefixes of NVIDIA's
NVILA-Lite-hf.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from manako.core.files import write_json
from manako.families._shared.nvila import IMAGE, PROJECTOR
from manako.families._shared.tiny import CORPUS, HALVES, byte_level_tokenizer, tokens_added

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "[BOS]",
    "[PAD]",
    "<vila/sentinel>",
    IMAGE,
    "<vila/video>",
)
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}"
    "{% endif %}"
    "{% for message in messages if message['content'] is not none %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As VILA's qwen2.jinja has it: text alone, and a system turn of its own where there is none."""


@dataclass(frozen=True, kw_only=True)
class TinyNvila:
    """Sizes of a tiny model. tile: pixels, published 448; 70 makes an odd grid of five patches.

    spare_rows: of the vocabulary, that config.json tells of and the weights have not.
    """

    layout: Literal["folders", "flat"] = "folders"
    seed: int = 0
    width: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn_width: int = 48
    vision_width: int = 24
    vision_layers: int = 3
    vision_heads: int = 2
    vision_ffn_width: int = 40
    tile: int = 56
    max_tiles: int = 12
    language: Literal["qwen2", "llama"] = "qwen2"
    tie_embeddings: bool = True
    vocabulary: int = 400
    spare_rows: int = 0
    max_positions: int = 8192
    initializer_range: float = 0.05
    corpus: Iterable[str] = CORPUS


def write_checkpoint(folder: Path, tiny: TinyNvila) -> None:
    """Write configs, tokenizer, picture settings and random weights into `folder`."""
    tokenizer = byte_level_tokenizer(
        tiny.corpus, vocabulary=tiny.vocabulary, control=CONTROL_TOKENS, nfc=True
    )
    text, vision = _text_config(tiny, tokenizer), _vision_config(tiny)
    weights = _weights(tiny, text, vision)
    told = {**text, "vocab_size": text["vocab_size"] + tiny.spare_rows}
    if tiny.layout == "flat":
        flat = _flat_config(tiny, told, vision, tokenizer)
        _write_part(folder, flat, weights)
        _write_text(folder, tiny, tokenizer)
        write_json(folder / "preprocessor_config.json", _pictures(tiny))
        return
    write_json(folder / "config.json", _root_config(tiny, told, vision))
    projector = {"architectures": ["MultimodalProjector"], **PROJECTOR_CONFIG}
    for part, config in (("llm", told), ("vision_tower", vision), ("mm_projector", projector)):
        own = {n.removeprefix(f"{part}."): t for n, t in weights.items() if n.startswith(part)}
        _write_part(folder / part, config, own)
    _write_text(folder / "llm", tiny, tokenizer)
    write_json(folder / "vision_tower" / "preprocessor_config.json", _pictures(tiny))


def _weights(tiny: TinyNvila, text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Tensor]:
    """Random weights by their published names, each part's before them."""
    import torch

    from manako.nn.nvila_lite import NvilaLiteConfig, NvilaLiteForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tiny.seed)
        config = NvilaLiteConfig(text_config=text, vision_config=vision)
        model = NvilaLiteForConditionalGeneration(config)
    found = {}
    for name, tensor in model.state_dict().items():
        if name == "llm.lm_head.weight" and tiny.tie_embeddings:
            continue
        old = name.replace("vision_tower.", "vision_tower.vision_model.")
        found[old] = tensor.detach().clone().contiguous()
    return found


def _write_part(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _write_text(folder: Path, tiny: TinyNvila, tokenizer: Tokenizer) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": "[BOS]",
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "model_max_length": tiny.max_positions,
            "pad_token": "[PAD]",
            "padding_side": "right",
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": tokens_added(tokenizer),
        },
    )
    write_json(
        folder / "generation_config.json",
        {
            "do_sample": True,
            "eos_token_id": [tokenizer.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")],
            "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
            "transformers_version": "4.45.0",
        },
    )


def _root_config(tiny: TinyNvila, text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["VILAForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_vila.VILAConfig",
            "AutoModel": "modeling_vila.VILAForCausalLM",
            "AutoModelForCausalLM": "modeling_vila.VILAForCausalLM",
        },
        "dynamic_s2": False,
        "fps": 0.0,
        "hidden_size": tiny.width,
        "image_aspect_ratio": "dynamic",
        "interpolate_mode": "linear",
        "llm_cfg": text,
        "max_tiles": tiny.max_tiles,
        "min_tiles": 1,
        "mm_hidden_size": tiny.vision_width,
        "mm_projector_cfg": PROJECTOR_CONFIG,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "cls_patch",
        "mm_vision_select_layer": -2,
        "model_dtype": "torch.float32",
        "model_type": "vila",
        "num_video_frames": 8,
        "s2": False,
        "transformers_version": "4.45.0",
        "version": "2.0",
        "video_max_tiles": 1,
        "vision_resolution": -1,
        "vision_tower_cfg": vision,
    }


def _flat_config(
    tiny: TinyNvila, text: dict[str, Any], vision: dict[str, Any], tokenizer: Tokenizer
) -> dict[str, Any]:
    return {
        "architectures": ["NVILALiteForConditionalGeneration"],
        "image_token_id": tokenizer.token_to_id(IMAGE),
        "max_tiles": tiny.max_tiles,
        "model_type": "nvila_lite",
        "text_config": text,
        "torch_dtype": "float32",
        "transformers_version": "4.57.1",
        "video_token_id": tokenizer.token_to_id("<vila/video>"),
        "vision_config": vision,
    }


def _text_config(tiny: TinyNvila, tokenizer: Tokenizer) -> dict[str, Any]:
    named = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[tiny.language]
    return {
        "architectures": [named],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "hidden_act": "silu",
        "hidden_size": tiny.width,
        "initializer_range": tiny.initializer_range,
        "intermediate_size": tiny.ffn_width,
        "max_position_embeddings": tiny.max_positions,
        "model_type": tiny.language,
        "num_attention_heads": tiny.heads,
        "num_hidden_layers": tiny.layers,
        "num_key_value_heads": tiny.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": tiny.tie_embeddings,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": tokenizer.get_vocab_size(),
    }


def _vision_config(tiny: TinyNvila) -> dict[str, Any]:
    return {
        "architectures": ["SiglipVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": tiny.vision_width,
        "image_size": tiny.tile,
        "intermediate_size": tiny.vision_ffn_width,
        "layer_norm_eps": 1e-6,
        "model_type": "siglip_vision_model",
        "num_attention_heads": tiny.vision_heads,
        "num_channels": 3,
        "num_hidden_layers": tiny.vision_layers,
        "patch_size": 14,
        "torch_dtype": "float32",
        "vision_use_head": False,
    }


PROJECTOR_CONFIG = {
    "mm_projector_type": PROJECTOR,
    "model_type": "v2l_projector",
    "torch_dtype": "float32",
}


def _pictures(tiny: TinyNvila) -> dict[str, Any]:
    """preprocessor_config.json."""
    return {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(HALVES),
        "image_processor_type": "SiglipImageProcessor",
        "image_std": list(HALVES),
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": tiny.tile, "width": tiny.tile},
    }
