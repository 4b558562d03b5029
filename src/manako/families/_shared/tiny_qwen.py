"""Tiny random checkpoints of Qwen2-VL and Qwen2.5-VL, in the published file layout.

For tests, and as the starting point of the quickstart's model. The layout follows
Qwen/Qwen2-VL-2B-Instruct and Qwen/Qwen2.5-VL-3B-Instruct, which have the same files: a flat
config.json, `preprocessor_config.json`, `tokenizer.json`, `chat_template.json`,
`generation_config.json`, safetensors with the published key names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from manako.core.files import write_json
from manako.families._shared.tiny import (
    CLIP_MEAN,
    CLIP_STD,
    CORPUS,
    byte_level_tokenizer,
    save_weights,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{%- set counted = namespace(images=0, videos=0) -%}"
    "{%- for message in messages -%}"
    "{%- if loop.first and message['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}"
    "{%- set counted.images = counted.images + 1 -%}"
    "{%- if add_vision_id -%}{{- 'Picture ' ~ counted.images ~ ': ' -}}{%- endif -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part['type'] == 'video' -%}"
    "{%- set counted.videos = counted.videos + 1 -%}"
    "{%- if add_vision_id -%}{{- 'Video ' ~ counted.videos ~ ': ' -}}{%- endif -%}"
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- elif 'text' in part -%}{{- part['text'] -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
DEFAULT_SYSTEM_TURN = (
    "{%- if loop.first and message['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- endif -%}"
)


@dataclass(frozen=True, kw_only=True)
class TinyQwen:
    """Sizes and settings of a tiny model; the defaults make about 100,000 parameters.

    A subclass names the architecture and says what its vision tower is.

    corpus: text the tokenizer is trained on; vocabulary: entries at most, control tokens included.
    system_turn: whether the template writes Qwen2-VL's default system turn where there is none.
    """

    model_type: ClassVar[str]
    model_class: ClassVar[str]

    seed: int = 0
    vision_width: int = 32
    vision_layers: int = 2
    vision_heads: int = 4
    width: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn_width: int = 48
    vocabulary: int = 400
    max_positions: int = 2048
    tie_embeddings: bool = True
    initializer_range: float = 0.02
    rope_theta: float = 1_000_000.0
    mrope_section: tuple[int, int, int] = (1, 1, 2)
    min_pixels: int = 3136
    max_pixels: int = 12_845_056
    image_mean: Sequence[float] = CLIP_MEAN
    image_std: Sequence[float] = CLIP_STD
    corpus: Iterable[str] = CORPUS
    system_turn: bool = True

    @property
    def chat_template(self) -> str:
        return CHAT_TEMPLATE if self.system_turn else CHAT_TEMPLATE.replace(DEFAULT_SYSTEM_TURN, "")

    def vision_config(self) -> dict[str, Any]:
        """The part of config.json about the vision tower."""
        return {
            "depth": self.vision_layers,
            "num_heads": self.vision_heads,
            "initializer_range": self.initializer_range,
            "in_chans": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        }


@dataclass(frozen=True, kw_only=True)
class TinyQwen2(TinyQwen):
    """Qwen2-VL."""

    model_type: ClassVar[str] = "qwen2_vl"
    model_class: ClassVar[str] = "Qwen2VLForConditionalGeneration"

    vision_mlp_ratio: int = 2

    def vision_config(self) -> dict[str, Any]:
        widths = {"embed_dim": self.vision_width, "hidden_size": self.width}
        return {**super().vision_config(), **widths, "mlp_ratio": self.vision_mlp_ratio}


@dataclass(frozen=True, kw_only=True)
class TinyQwen25(TinyQwen):
    """Qwen2.5-VL. window_size: pixels; published models have 112, here pictures are smaller.
    full_blocks: vision blocks that attend to the whole picture."""

    model_type: ClassVar[str] = "qwen2_5_vl"
    model_class: ClassVar[str] = "Qwen2_5_VLForConditionalGeneration"

    vision_ffn_width: int = 48
    window_size: int = 56
    full_blocks: tuple[int, ...] = (1,)

    def vision_config(self) -> dict[str, Any]:
        return {
            **super().vision_config(),
            "hidden_act": "silu",
            "hidden_size": self.vision_width,
            "intermediate_size": self.vision_ffn_width,
            "out_hidden_size": self.width,
            "window_size": self.window_size,
            "fullatt_block_indexes": list(self.full_blocks),
            "tokens_per_second": 2,
        }


def write_checkpoint(folder: Path, tiny: TinyQwen) -> None:
    """Write config, tokenizer, template, processor settings and random weights into `folder`."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(tiny.corpus, vocabulary=tiny.vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = flat_config(tiny, tokenizer)
    write_small_files(folder, tiny, tokenizer, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tiny.seed)
        model_class = getattr(transformers, tiny.model_class)
        model = model_class(model_class.config_class(**config))
    save_weights(folder, model, _published(tiny.tie_embeddings))


def train_tokenizer(corpus: Iterable[str], *, vocabulary: int) -> Tokenizer:
    """A byte-level BPE with Qwen2's pre-tokenizer and control tokens, of `vocabulary` entries."""
    return byte_level_tokenizer(corpus, vocabulary=vocabulary, control=CONTROL_TOKENS, nfc=True)


def flat_config(tiny: TinyQwen, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json with text fields at the top, as the published files have it."""
    ids = {token: tokenizer.token_to_id(token) for token in CONTROL_TOKENS}
    return {
        "architectures": [tiny.model_class],
        "model_type": tiny.model_type,
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "hidden_act": "silu",
        "hidden_size": tiny.width,
        "initializer_range": tiny.initializer_range,
        "intermediate_size": tiny.ffn_width,
        "max_position_embeddings": tiny.max_positions,
        "num_attention_heads": tiny.heads,
        "num_hidden_layers": tiny.layers,
        "num_key_value_heads": tiny.kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_theta": tiny.rope_theta,
        "rope_scaling": {"type": "mrope", "mrope_section": list(tiny.mrope_section)},
        "tie_word_embeddings": tiny.tie_embeddings,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": tokenizer.get_vocab_size(),
        "vision_config": tiny.vision_config(),
    }


def write_small_files(
    folder: Path, tiny: TinyQwen, tokenizer: Tokenizer, config: dict[str, Any]
) -> None:
    """The JSON files beside the weights."""
    write_json(folder / "config.json", config)
    write_json(folder / "chat_template.json", {"chat_template": tiny.chat_template})
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Qwen2VLImageProcessor",
            "min_pixels": tiny.min_pixels,
            "max_pixels": tiny.max_pixels,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": list(tiny.image_mean),
            "image_std": list(tiny.image_std),
            "resample": 3,
        },
    )
    write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": config["bos_token_id"],
            "pad_token_id": config["pad_token_id"],
            "eos_token_id": [config["eos_token_id"], config["bos_token_id"]],
            "do_sample": False,
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2TokenizerFast",
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": tiny.max_positions,
            "additional_special_tokens": list(CONTROL_TOKENS[1:]),
            "added_tokens_decoder": {
                str(tokenizer.token_to_id(token)): {
                    "content": token,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for token in CONTROL_TOKENS
            },
            "chat_template": tiny.chat_template,
        },
    )


def _published(tie: bool) -> Callable[[str], str | None]:
    """Key names of the published files: `visual.*`, `model.*`, `lm_head.*`."""

    def named(name: str) -> str | None:
        if tie and name == "lm_head.weight":
            return None
        kept = name.removeprefix("model.") if name.startswith("model.visual.") else name
        return kept.replace("model.language_model.", "model.", 1)

    return named
