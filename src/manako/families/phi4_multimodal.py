"""Phi-4-multimodal: a sheet of crops and the whole picture, fused linears, sound left aside.

Facts of the architecture: transformers 5.24, `models/phi4_multimodal/` (Apache-2.0). Read are
revisions in its own layout (`model_type` phi4_multimodal), whose weights hold no adapters. What
the repository keeps beside them in `vision-lora` is a plain PEFT adapter: load it with the model,
as the published scores did, and merge it before training another. The older layout on its main
branch (phi4mm, with code of its own and adapters inside the weights) is not read.

The branch for sound belongs to the vision part here, as in plans, and is never trained: nothing
reaches it, so it gets no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources

CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|image|>",
    "<|audio|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SHORT}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SHORT}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pre-tokenizer of o200k_base, which Phi-4-mini's vocabulary of 200,064 goes back to."""
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<|image|>' -}}"
    "{%- elif part['type'] == 'audio' -%}{{- '<|audio|>' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{{- '<|assistant|>' if add_generation_prompt else eos_token -}}"
)


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.phi4 import open_phi4

    return open_phi4(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture; settings: `_shared.phi4.ImageSettings`."""
    from manako.families._shared.sizes import tiles

    crop, patch = settings.crop, settings.patch
    grid, kept = tiles.phi4_sheet(width, height, crop=crop, max_crops=settings.max_crops)
    patches = tiles.phi4_patches(grid, kept, crop=crop, patch=patch)
    return tiles.phi4_tokens(patches, side=settings.side)


def make_tiny(
    folder: Path,
    seed: int = 0,
    *,
    crop: int = 56,
    max_crops: int = 6,
    layers: int = 2,
    vision_layers: int = 3,
    initializer_range: float = 0.02,
    short_positions: int = 4096,
    vocabulary: int = 400,
) -> None:
    """Write a tiny random checkpoint with the native file layout of Phi-4-multimodal-instruct.

    crop: pixels, published 448. short_positions: tokens up to which conversations are turned by
    the short factors of LongRoPE.
    """
    from manako.families._shared import tiny

    tokenizer = tiny.byte_level_tokenizer(
        vocabulary=vocabulary, control=CONTROL_TOKENS, words=O200K_WORDS
    )
    ids = {token: tokenizer.token_to_id(token) for token in CONTROL_TOKENS}
    ends = [ids["<|end|>"], ids["<|endoftext|>"]]
    text = {
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ends,
        "pad_token_id": ids["<|endoftext|>"],
        "initializer_range": initializer_range,
        "num_hidden_layers": layers,
        "original_max_position_embeddings": short_positions,
        "vocab_size": tokenizer.get_vocab_size(),
    }
    vision = {
        "crop_size": crop,
        "image_size": crop,
        "image_token_id": ids["<|image|>"],
        "num_hidden_layers": vision_layers,
    }
    end = "<|endoftext|>"
    tiny.write_tiny(
        folder,
        model_class=FAMILY.model_class,
        config=_config(text, vision, audio_token_id=ids["<|audio|>"]),
        tokenizer=tokenizer,
        template=None,
        tokenizer_config={
            "tokenizer_class": "GPT2TokenizerFast",
            "bos_token": end,
            "eos_token": end,
            "pad_token": end,
            "unk_token": end,
            "extra_special_tokens": {"image_token": "<|image|>", "audio_token": "<|audio|>"},
            "chat_template": CHAT_TEMPLATE,
        },
        files={
            "generation_config.json": {
                name: text[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            },
            "preprocessor_config.json": {
                "image_processor_type": "Phi4MultimodalImageProcessor",
                "dynamic_hd": max_crops,
                "image_mean": list(tiny.HALVES),
                "image_std": list(tiny.HALVES),
                "patch_size": 14,
                "resample": 3,
                "size": {"height": crop, "width": crop},
            },
            "processor_config.json": {"processor_class": "Phi4MultimodalProcessor"},
        },
        seed=seed,
        published=lambda name: None if name == "lm_head.weight" else name,
    )
    _calm_tower(folder / "model.safetensors")


def _calm_tower(file: Path) -> None:
    """The class draws the tower's matrices with a deviation of 1, under which rounding grows from
    layer to layer; here it is one over the root of their width, about what training leaves."""
    from safetensors.torch import load_file, save_file

    weights = load_file(str(file))
    for name, weight in weights.items():
        if ".img_processor.encoder." in name and weight.ndim == 2:
            weights[name] = weight / (weight.std() * weight.shape[1] ** 0.5)
    save_file(weights, str(file), metadata={"format": "pt"})


def _config(
    text: Mapping[str, Any], vision: Mapping[str, Any], *, audio_token_id: int | None
) -> dict[str, Any]:
    """config.json with the published fields; head width 16, three quarters of it turned."""
    pairs = 6
    return {
        "architectures": ["Phi4MultimodalForCausalLM"],
        "model_type": "phi4_multimodal",
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 80,
        "max_position_embeddings": 131_072,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "partial_rotary_factor": 0.75,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10_000.0,
        "rope_scaling": {
            "type": "longrope",
            "long_factor": [1.0 + place for place in range(pairs)],
            "short_factor": [1.0] * pairs,
        },
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        **text,
        "vision_config": {
            "model_type": "phi4_multimodal_vision",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "patch_size": 14,
            **vision,
        },
        "audio_config": {
            "model_type": "phi4_multimodal_audio",
            "audio_token_id": audio_token_id,
            "bias_max_distance": 50,
            "depthwise_separable_out_channel": 32,
            "ext_pw_out_channel": 32,
            "hidden_size": 32,
            "intermediate_size": 48,
            "nemo_conv_channels": 16,
            "num_attention_heads": 4,
            "num_blocks": 1,
        },
    }


EXTENDED = "model.embed_tokens_extend"

FAMILY = Family(
    name="phi4_multimodal",
    model_types=("phi4_multimodal",),
    model_class="Phi4MultimodalForCausalLM",
    parts={
        "vision": (
            f"{EXTENDED}.image_embed.img_processor",
            f"{EXTENDED}.audio_embed",
        ),
        "projector": (f"{EXTENDED}.image_embed",),
        "language": (
            "model.embed_tokens",
            "model.layers",
            "model.norm",
            "model.rotary_emb",
            "lm_head",
        ),
    },
    never_trained=(f"{EXTENDED}.audio_embed",),
    adapter_targets={
        "vision": r"model\.embed_tokens_extend\.image_embed\.img_processor\.encoder\.layers\.\d+\."
        r"(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.fc[12])",
        "projector": r"model\.embed_tokens_extend\.image_embed\.img_projection_(up|down)",
        "language": r"model\.layers\.\d+\."
        r"(self_attn\.(qkv_proj|o_proj)|mlp\.(gate_up_proj|down_proj))",
    },
    attention="causal",
    required_inputs=("image_pixel_values", "image_sizes", "image_attention_mask"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="reconstructed: chat_template of Phi-4-multimodal-instruct, with the mark "
        "`<|image|>` of the native revision",
        tokenizer="reconstructed: byte-level BPE with o200k_base's pre-tokenizer and the "
        "control tokens of the native revision",
        processor="reconstructed: preprocessor_config.json of the native revision; crops of 56 "
        "pixels instead of 448",
    ),
)
