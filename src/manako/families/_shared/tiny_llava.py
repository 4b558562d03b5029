"""Tiny random checkpoints of the LLaVA models, in the published file layout.

Those of llava-hf have the same files: config.json with a part for vision and one for text,
`preprocessor_config.json`, `processor_config.json`, `tokenizer.json`, `chat_template.json`,
`generation_config.json`, and safetensors with the key names of their first conversion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from manako.families._shared.tiny import (
    CLIP_MEAN,
    CLIP_STD,
    CORPUS,
    HALVES,
    byte_level_tokenizer,
    sentencepiece_tokenizer,
    write_tiny,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PATCH = 14

ONEVISION_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' ~ message['role'] ~ ' ' -}}"
    "{%- for kind in ['image', 'video'] -%}"
    "{%- for part in message['content'] if part['type'] == kind -%}"
    "{{- '<' ~ kind ~ '>' -}}"
    "{%- endfor -%}{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{{- '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- part['text'] -}}{%- endgeneration -%}"
    "{%- else -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{{- '<|im_end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""Pictures, then clips, then texts, each on a line of its own; nothing between turns."""

VICUNA_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set text_of_answer = message['role'] == 'assistant' -%}"
    "{%- if message['role'] != 'system' -%}{{- message['role'] | upper ~ ': ' -}}{%- endif -%}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{- '<image>\n' -}}"
    "{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{%- if text_of_answer -%}"
    "{%- generation -%}{{- part['text'] ~ ' ' -}}{%- endgeneration -%}"
    "{%- else -%}{{- part['text'] ~ ' ' -}}{%- endif -%}"
    "{%- endfor -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
)
"""A name, pictures first, a blank after each text; no token ends a turn."""

MISTRAL_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{{- '<<SYS>>\n' ~ message['content'][0]['text'] ~ '\n<</SYS>>\n\n' -}}"
    "{%- elif message['role'] == 'user' -%}"
    "{{- '[INST] ' -}}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{- '<image>\n' -}}"
    "{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- endfor -%}"
    "{{- ' [/INST]' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- ' ' ~ message['content'][0]['text'] ~ '</s> ' -}}"
    "{%- else -%}{{- raise_exception('a turn is of system, user or assistant') -}}"
    "{%- endif -%}{%- endfor -%}"
)
"""`[INST]` is plain text in this vocabulary; there is no generation prompt of its own."""


@dataclass(frozen=True, kw_only=True)
class TinyLlava(ABC):
    """Sizes and settings of a tiny model; a subclass names the architecture.

    tile: side in pixels of what the vision tower sees.
    """

    model_type: ClassVar[str]
    model_class: ClassVar[str]
    image_processor: ClassVar[str]
    processor: ClassVar[str]
    template: ClassVar[str]

    seed: int = 0
    tile: int = 28
    vision_width: int = 32
    vision_layers: int = 2
    vision_heads: int = 4
    width: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn_width: int = 48
    vocabulary: int = 400
    max_positions: int = 4096
    tie_embeddings: bool = False
    initializer_range: float = 0.02
    corpus: Iterable[str] = CORPUS

    @property
    def tokens_of_tile(self) -> int:
        return (self.tile // PATCH) ** 2

    @property
    def chat_template(self) -> str:
        return self.template

    @abstractmethod
    def make_tokenizer(self) -> Tokenizer:
        """A tokenizer of the published kind."""

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """config.json; subclasses add what is theirs."""
        return {
            "architectures": [self.model_class],
            "ignore_index": -100,
            "image_token_index": tokenizer.token_to_id("<image>"),
            "model_type": self.model_type,
            "projector_hidden_act": "gelu",
            "text_config": self.text_config(tokenizer),
            "tie_word_embeddings": self.tie_embeddings,
            "torch_dtype": "float32",
            "vision_config": self.vision_config(),
        }

    def text_config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            "hidden_size": self.width,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.ffn_width,
            "max_position_embeddings": self.max_positions,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "tie_word_embeddings": self.tie_embeddings,
            "torch_dtype": "float32",
            "vocab_size": tokenizer.get_vocab_size(),
        }

    def vision_config(self) -> dict[str, Any]:
        return {
            "hidden_size": self.vision_width,
            "image_size": self.tile,
            "intermediate_size": 2 * self.vision_width,
            "num_attention_heads": self.vision_heads,
            "num_hidden_layers": self.vision_layers,
            "patch_size": PATCH,
        }

    def preprocessor_config(self) -> dict[str, Any]:
        return {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_processor_type": self.image_processor,
            "processor_class": self.processor,
            "resample": 3,
            "rescale_factor": 1 / 255,
        }

    def video_preprocessor_config(self) -> dict[str, Any]:
        """Empty where none is published."""
        return {}

    def processor_config(self) -> dict[str, Any]:
        return {"image_token": "<image>", "processor_class": self.processor}

    def tokenizer_config(self) -> dict[str, Any]:
        return {"model_max_length": self.max_positions, "processor_class": self.processor}


@dataclass(frozen=True, kw_only=True)
class TinyOneVision(TinyLlava):
    """LLaVA-OneVision. most: tiles along a side of the largest sheet."""

    model_type: ClassVar[str] = "llava_onevision"
    model_class: ClassVar[str] = "LlavaOnevisionForConditionalGeneration"
    image_processor: ClassVar[str] = "LlavaOnevisionImageProcessor"
    processor: ClassVar[str] = "LlavaOnevisionProcessor"
    template: ClassVar[str] = ONEVISION_TEMPLATE
    control: ClassVar[Sequence[str]] = (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<image>",
        "<video>",
    )

    tie_embeddings: bool = True
    most: int = 6

    @property
    def pinpoints(self) -> list[list[int]]:
        sides = [self.tile * count for count in range(1, self.most + 1)]
        return [[height, width] for height in sides for width in sides]

    def make_tokenizer(self) -> Tokenizer:
        return byte_level_tokenizer(
            self.corpus, vocabulary=self.vocabulary, control=self.control, nfc=True
        )

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            **super().config(tokenizer),
            "image_grid_pinpoints": self.pinpoints,
            "use_image_newline_parameter": True,
            "video_token_index": tokenizer.token_to_id("<video>"),
            "vision_aspect_ratio": "anyres_max_9",
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        }

    def text_config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            **super().text_config(tokenizer),
            "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
            "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
            "model_type": "qwen2",
            "rope_theta": 1_000_000.0,
        }

    def vision_config(self) -> dict[str, Any]:
        kind = {"model_type": "siglip_vision_model", "vision_use_head": False}
        return {**super().vision_config(), **kind}

    def preprocessor_config(self) -> dict[str, Any]:
        return {
            **super().preprocessor_config(),
            "do_pad": True,
            "image_grid_pinpoints": self.pinpoints,
            "image_mean": list(HALVES),
            "image_std": list(HALVES),
            "size": {"height": self.tile, "width": self.tile},
        }

    def video_preprocessor_config(self) -> dict[str, Any]:
        return {
            **TinyLlava.preprocessor_config(self),
            "do_sample_frames": False,
            "image_mean": list(HALVES),
            "image_std": list(HALVES),
            "size": {"height": self.tile, "width": self.tile},
            "video_processor_type": "LlavaOnevisionVideoProcessor",
        }

    def processor_config(self) -> dict[str, Any]:
        return {
            **super().processor_config(),
            "num_image_tokens": self.tokens_of_tile,
            "video_token": "<video>",
            "vision_aspect_ratio": "anyres_max_9",
            "vision_feature_select_strategy": "full",
        }

    def tokenizer_config(self) -> dict[str, Any]:
        return {
            **super().tokenizer_config(),
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "Qwen2Tokenizer",
        }


@dataclass(frozen=True, kw_only=True)
class TinyClip(TinyLlava):
    """A LLaVA on CLIP, whose last layer is not read, and a tokenizer with a blank before text."""

    text_type: ClassVar[str] = "llama"

    vision_layers: int = 3
    vocabulary: int = 600

    def make_tokenizer(self) -> Tokenizer:
        return sentencepiece_tokenizer(
            self.corpus,
            vocabulary=self.vocabulary,
            first=("<unk>", "<s>", "</s>"),
            control=("<image>", "<pad>"),
            prefix_space=True,
            start="<s>",
        )

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            **super().config(tokenizer),
            "image_seq_length": self.tokens_of_tile,
            "pad_token_id": tokenizer.token_to_id("<pad>"),
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
        }

    def text_config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        kind = {"model_type": self.text_type, "rms_norm_eps": 1e-05}
        return {**super().text_config(tokenizer), **kind}

    def vision_config(self) -> dict[str, Any]:
        kind = {"model_type": "clip_vision_model", "projection_dim": 768, "vocab_size": 32000}
        return {**super().vision_config(), **kind}

    def preprocessor_config(self) -> dict[str, Any]:
        return {
            **super().preprocessor_config(),
            "crop_size": {"height": self.tile, "width": self.tile},
            "do_center_crop": True,
            "image_mean": list(CLIP_MEAN),
            "image_std": list(CLIP_STD),
            "size": {"shortest_edge": self.tile},
        }

    def processor_config(self) -> dict[str, Any]:
        return {
            **super().processor_config(),
            "num_additional_image_tokens": 1,
            "patch_size": PATCH,
            "vision_feature_select_strategy": "default",
        }

    def tokenizer_config(self) -> dict[str, Any]:
        return {
            **super().tokenizer_config(),
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "tokenizer_class": "LlamaTokenizer",
        }


@dataclass(frozen=True, kw_only=True)
class TinyLlava15(TinyClip):
    """LLaVA 1.5, whose tokenizer was converted anew: a blank before the first stretch alone."""

    model_type: ClassVar[str] = "llava"
    model_class: ClassVar[str] = "LlavaForConditionalGeneration"
    image_processor: ClassVar[str] = "CLIPImageProcessor"
    processor: ClassVar[str] = "LlavaProcessor"
    template: ClassVar[str] = VICUNA_TEMPLATE

    kv_heads: int = 4

    def make_tokenizer(self) -> Tokenizer:
        from tokenizers import pre_tokenizers

        tokenizer = super().make_tokenizer()
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        return tokenizer

    def tokenizer_config(self) -> dict[str, Any]:
        return {**super().tokenizer_config(), "legacy": False}


@dataclass(frozen=True, kw_only=True)
class TinyLlavaNext(TinyClip):
    """LLaVA-NeXT on Mistral; vicuna: on Vicuna, with its template."""

    model_type: ClassVar[str] = "llava_next"
    model_class: ClassVar[str] = "LlavaNextForConditionalGeneration"
    image_processor: ClassVar[str] = "LlavaNextImageProcessor"
    processor: ClassVar[str] = "LlavaNextProcessor"
    template: ClassVar[str] = MISTRAL_TEMPLATE
    text_type: ClassVar[str] = "mistral"

    vicuna: bool = False

    @property
    def chat_template(self) -> str:
        return VICUNA_TEMPLATE if self.vicuna else self.template

    @property
    def pinpoints(self) -> list[list[int]]:
        sheets = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))  # rows, columns
        return [[rows * self.tile, columns * self.tile] for rows, columns in sheets]

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            **super().config(tokenizer),
            "image_grid_pinpoints": self.pinpoints,
            "use_image_newline_parameter": True,
        }

    def text_config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        kind = {"model_type": "llama" if self.vicuna else "mistral", "sliding_window": None}
        return {**super().text_config(tokenizer), **kind}

    def preprocessor_config(self) -> dict[str, Any]:
        sheets = {"do_pad": True, "image_grid_pinpoints": self.pinpoints}
        return {**super().preprocessor_config(), **sheets}


def write_checkpoint(folder: Path, tiny: TinyLlava) -> None:
    """Write config, tokenizer, template, processor settings and random weights into `folder`."""
    tokenizer = tiny.make_tokenizer()
    files: dict[str, Mapping[str, Any]] = {
        "chat_template.json": {"chat_template": tiny.chat_template},
        "generation_config.json": _generation(tiny, tokenizer),
        "preprocessor_config.json": tiny.preprocessor_config(),
        "processor_config.json": tiny.processor_config(),
    }
    if video_settings := tiny.video_preprocessor_config():
        files["video_preprocessor_config.json"] = video_settings
    write_tiny(
        folder,
        model_class=tiny.model_class,
        config=tiny.config(tokenizer),
        tokenizer=tokenizer,
        template=None,
        tokenizer_config=tiny.tokenizer_config(),
        files=files,
        seed=tiny.seed,
        published=lambda name: _published(name, tied=tiny.tie_embeddings),
    )


def _generation(tiny: TinyLlava, tokenizer: Tokenizer) -> dict[str, Any]:
    named = tiny.tokenizer_config()
    ids = {kind: named.get(f"{kind}_token") for kind in ("bos", "eos", "pad")}
    return {
        f"{kind}_token_id": tokenizer.token_to_id(token) for kind, token in ids.items() if token
    }


def _published(name: str, *, tied: bool) -> str | None:
    """Key names of the first conversion: `language_model.model.*`, `vision_tower.vision_model.*`."""
    if name == "lm_head.weight":
        return None if tied else "language_model.lm_head.weight"
    kept = name.removeprefix("model.")
    kept = kept.replace("language_model.", "language_model.model.", 1)
    return kept.replace("vision_tower.", "vision_tower.vision_model.", 1)
