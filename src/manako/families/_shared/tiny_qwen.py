"""Tiny random checkpoints of Qwen2-VL, Qwen2.5-VL and Qwen3-VL, in the published file layout.

For tests, and as the starting point of the quickstart's model. The layout follows
Qwen/Qwen2-VL-2B-Instruct and Qwen/Qwen2.5-VL-3B-Instruct, which have the same files: a flat
config.json, `preprocessor_config.json`, `tokenizer.json`, `chat_template.json`,
`generation_config.json`, safetensors with the published key names; and
Qwen/Qwen3-VL-2B-Instruct, whose config.json is nested, whose picture limits are a `size`, and
whose weights have the names of `transformers`' own parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from manako.core.files import write_json
from manako.families._shared.tiny import (
    CLIP_MEAN,
    CLIP_STD,
    CORPUS,
    HALVES,
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
QWEN3_TEMPLATE = (
    "{%- macro written(content) -%}"
    "{%- if content is string -%}{{- content -}}"
    "{%- else -%}{%- for part in content if 'text' in part -%}{{- part.text -}}{%- endfor -%}"
    "{%- endif -%}"
    "{%- endmacro -%}"
    "{%- set counted = namespace(images=0, videos=0) -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}"
    "{{- '<|im_start|>user\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}"
    "{%- set counted.images = counted.images + 1 -%}"
    "{%- if add_vision_id -%}{{- 'Picture ' ~ counted.images ~ ': ' -}}{%- endif -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part.type == 'video' or 'video' in part -%}"
    "{%- set counted.videos = counted.videos + 1 -%}"
    "{%- if add_vision_id -%}{{- 'Video ' ~ counted.videos ~ ': ' -}}{%- endif -%}"
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- elif 'text' in part -%}{{- part.text -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- elif message.role == 'assistant' or (message.role == 'system' and loop.first) -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + written(message.content) + '<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""A system turn stands first or not at all, and pictures of an answer vanish, as published; the
published file's rules for tools are left out."""


@dataclass(frozen=True, kw_only=True)
class TinyQwen:
    """Sizes and settings of a tiny model; the defaults make about 100,000 parameters.

    A subclass names the architecture and says what its vision tower is.

    corpus: text the tokenizer is trained on; vocabulary: entries at most, control tokens included.
    system_turn: whether the template writes Qwen2-VL's default system turn where there is none.
    """

    model_type: ClassVar[str]
    model_class: ClassVar[str]
    patch: ClassVar[int] = 14

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
            "patch_size": self.patch,
            "spatial_merge_size": 2,
            "spatial_patch_size": self.patch,
            "temporal_patch_size": 2,
        }

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """config.json with text fields at the top, as the files published first have it."""
        return {
            **_head(self, tokenizer),
            **_text_config(self, tokenizer),
            "rope_scaling": {"type": "mrope", "mrope_section": list(self.mrope_section)},
            "torch_dtype": "float32",
            "use_sliding_window": False,
            "vision_config": self.vision_config(),
        }

    def limits(self) -> dict[str, Any]:
        """How preprocessor_config.json writes the picture limits."""
        return {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels, "resample": 3}

    def video_settings(self) -> dict[str, Any]:
        """video_preprocessor_config.json; empty where none is published."""
        return {}

    def published(self, name: str) -> str | None:
        """A parameter's name in the published files: `visual.*`, `model.*`, `lm_head.*`."""
        if self.tie_embeddings and name == "lm_head.weight":
            return None
        kept = name.removeprefix("model.") if name.startswith("model.visual.") else name
        return kept.replace("model.language_model.", "model.", 1)


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


@dataclass(frozen=True, kw_only=True)
class TinyQwen3(TinyQwen):
    """Qwen3-VL. deepstack: vision blocks whose output the first language layers add up.
    position_side: side of the learned grid of patch positions; published models have 48."""

    model_type: ClassVar[str] = "qwen3_vl"
    model_class: ClassVar[str] = "Qwen3VLForConditionalGeneration"
    patch: ClassVar[int] = 16

    vision_ffn_width: int = 48
    head_width: int = 16
    deepstack: tuple[int, ...] = (0, 1)
    position_side: int = 8
    mrope_section: tuple[int, int, int] = (4, 2, 2)
    rope_theta: float = 5_000_000.0
    min_pixels: int = 4096
    max_pixels: int = 16_777_216
    image_mean: Sequence[float] = HALVES
    image_std: Sequence[float] = HALVES
    system_turn: bool = False

    @property
    def chat_template(self) -> str:
        return QWEN3_TEMPLATE

    def vision_config(self) -> dict[str, Any]:
        return {
            "model_type": "qwen3_vl",
            "depth": self.vision_layers,
            "num_heads": self.vision_heads,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": self.vision_width,
            "intermediate_size": self.vision_ffn_width,
            "out_hidden_size": self.width,
            "in_channels": 3,
            "patch_size": self.patch,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": self.position_side**2,
            "deepstack_visual_indexes": list(self.deepstack),
            "initializer_range": self.initializer_range,
        }

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """config.json with a text_config, as published."""
        rope = {
            "mrope_interleaved": True,
            "mrope_section": list(self.mrope_section),
            "rope_type": "default",
        }
        text = {
            "model_type": "qwen3_vl_text",
            **_text_config(self, tokenizer),
            "attention_bias": False,
            "dtype": "float32",
            "head_dim": self.head_width,
            "rope_scaling": rope,
        }
        return {
            **_head(self, tokenizer),
            "tie_word_embeddings": self.tie_embeddings,
            "text_config": text,
            "vision_config": self.vision_config(),
        }

    def limits(self) -> dict[str, Any]:
        return {"size": {"longest_edge": self.max_pixels, "shortest_edge": self.min_pixels}}

    def video_settings(self) -> dict[str, Any]:
        """video_preprocessor_config.json; its limits are those of all frames together."""
        return {
            "video_processor_type": "Qwen3VLVideoProcessor",
            "size": {"longest_edge": 25_165_824, "shortest_edge": 4096},
            "patch_size": self.patch,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
        }

    def published(self, name: str) -> str | None:
        return None if self.tie_embeddings and name == "lm_head.weight" else name


def write_checkpoint(folder: Path, tiny: TinyQwen) -> None:
    """Write config, tokenizer, template, processor settings and random weights into `folder`."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(tiny.corpus, vocabulary=tiny.vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = tiny.config(tokenizer)
    write_small_files(folder, tiny, tokenizer, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tiny.seed)
        model_class = getattr(transformers, tiny.model_class)
        model = model_class(model_class.config_class.from_dict(config))
    save_weights(folder, model, tiny.published)


def train_tokenizer(corpus: Iterable[str], *, vocabulary: int) -> Tokenizer:
    """A byte-level BPE with Qwen2's pre-tokenizer and control tokens, of `vocabulary` entries."""
    return byte_level_tokenizer(corpus, vocabulary=vocabulary, control=CONTROL_TOKENS, nfc=True)


def _head(tiny: TinyQwen, tokenizer: Tokenizer) -> dict[str, Any]:
    """What config.json says of the whole model."""
    return {
        "architectures": [tiny.model_class],
        "model_type": tiny.model_type,
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
    }


def _text_config(tiny: TinyQwen, tokenizer: Tokenizer) -> dict[str, Any]:
    """What config.json says of the language model."""
    return {
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
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
        "tie_word_embeddings": tiny.tie_embeddings,
        "use_cache": True,
        "vocab_size": tokenizer.get_vocab_size(),
    }


def write_small_files(
    folder: Path, tiny: TinyQwen, tokenizer: Tokenizer, config: dict[str, Any]
) -> None:
    """The JSON files beside the weights."""
    text = config.get("text_config", config)
    write_json(folder / "config.json", config)
    write_json(folder / "chat_template.json", {"chat_template": tiny.chat_template})
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Qwen2VLImageProcessor",
            **tiny.limits(),
            "patch_size": tiny.patch,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": list(tiny.image_mean),
            "image_std": list(tiny.image_std),
        },
    )
    if video_settings := tiny.video_settings():
        write_json(folder / "video_preprocessor_config.json", video_settings)
    write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": text["bos_token_id"],
            "pad_token_id": text["pad_token_id"],
            "eos_token_id": [text["eos_token_id"], text["bos_token_id"]],
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
