"""Tiny random checkpoints of Idefics3 and SmolVLM2, in the published file layout.

The layout follows HuggingFaceM4/Idefics3-8B-Llama3 and HuggingFaceTB/SmolVLM2-2.2B-Instruct, which
have the same files: config.json with `text_config` and `vision_config`, `preprocessor_config.json`,
`processor_config.json`, `tokenizer.json`, `chat_template.json`, `generation_config.json`, and
safetensors with the key names that the model itself has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from manako.families._shared.tiny import CORPUS, HALVES, byte_level_tokenizer, write_tiny

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IMAGE_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>")


def chat_template(start: str) -> str:
    """Turns `User: …<end_of_utterance>`; no blank after the colon where a picture comes first."""
    return (
        f"{{{{- '{start}' -}}}}"
        "{%- for message in messages -%}"
        "{{- message['role'] | capitalize + ':' -}}"
        "{%- if message['content'][0]['type'] != 'image' -%}{{- ' ' -}}{%- endif -%}"
        "{%- for part in message['content'] -%}"
        "{%- if part['type'] == 'image' -%}{{- '<image>' -}}"
        "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}"
        "{%- endif -%}{%- endfor -%}"
        "{{- '<end_of_utterance>\\n' -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
    )


@dataclass(frozen=True, kw_only=True)
class TinyIdefics:
    """Sizes and settings of a tiny model; the defaults make about 60,000 parameters.

    tile, longest: pixels; published models have tiles of 364 to 512 and four of them on the
    longest side. control: tokens added at the end of the vocabulary, IMAGE_TOKENS among them.
    words: the pre-tokenizer's pattern. adds_start: whether the tokenizer itself puts `start`,
    the token that the template begins with, before a text. takes_videos: whether the picture
    settings say how a film is sampled.
    """

    model_type: ClassVar[str]
    model_class: ClassVar[str]
    image_processor: ClassVar[str]
    processor_class: ClassVar[str]
    vision_type: ClassVar[str]
    start: ClassVar[str]
    control: ClassVar[tuple[str, ...]]
    words: ClassVar[str]
    adds_start: ClassVar[bool] = False
    takes_videos: ClassVar[bool] = False

    seed: int = 0
    vision_width: int = 32
    vision_layers: int = 2
    vision_heads: int = 4
    width: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn_width: int = 48
    vocabulary: int = 460
    max_positions: int = 8192
    tie_embeddings: bool = False
    initializer_range: float = 0.02
    tile: int = 56
    longest: int = 168
    scale_factor: int = 2
    split: bool = True
    corpus: Iterable[str] = CORPUS
    text_fields: Mapping[str, Any] = field(default_factory=dict)


def write_checkpoint(folder: Path, tiny: TinyIdefics) -> None:
    """Write config, tokenizer, template, processor settings and random weights into `folder`."""
    tokenizer = _tokenizer(tiny)
    template = chat_template(tiny.start)
    config = _config(tiny, tokenizer)
    write_tiny(
        folder,
        model_class=tiny.model_class,
        config=config,
        tokenizer=tokenizer,
        template=None,
        tokenizer_config=_tokenizer_config(tiny, template),
        files={
            "chat_template.json": {"chat_template": template},
            "preprocessor_config.json": _image_config(tiny),
            "processor_config.json": {
                "image_seq_len": (tiny.tile // 14 // tiny.scale_factor) ** 2,
                "processor_class": tiny.processor_class,
            },
            "generation_config.json": {
                "_from_model_config": True,
                "bos_token_id": config["text_config"]["bos_token_id"],
                "eos_token_id": tokenizer.token_to_id("<end_of_utterance>"),
                "pad_token_id": config["text_config"]["pad_token_id"],
            },
        },
        seed=tiny.seed,
        published=lambda name: None if tiny.tie_embeddings and name == "lm_head.weight" else name,
    )


def _tokenizer(tiny: TinyIdefics) -> Tokenizer:
    from tokenizers import processors

    tokenizer = byte_level_tokenizer(
        tiny.corpus, vocabulary=tiny.vocabulary, control=tiny.control, words=tiny.words
    )
    if tiny.adds_start:
        begin = (tiny.start, tokenizer.token_to_id(tiny.start))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tiny.start} $A",
            pair=f"{tiny.start} $A {tiny.start} $B",
            special_tokens=[begin],
        )
    return tokenizer


def _config(tiny: TinyIdefics, tokenizer: Tokenizer) -> dict[str, Any]:
    pad, start = (tokenizer.token_to_id(token) for token in (tiny.control[0], tiny.start))
    return {
        "architectures": [tiny.model_class],
        "model_type": tiny.model_type,
        "image_token_id": tokenizer.token_to_id("<image>"),
        "scale_factor": tiny.scale_factor,
        "text_config": {
            "model_type": "llama",
            "bos_token_id": start,
            "eos_token_id": tokenizer.token_to_id("<end_of_utterance>"),
            "pad_token_id": pad,
            "hidden_act": "silu",
            "hidden_size": tiny.width,
            "initializer_range": tiny.initializer_range,
            "intermediate_size": tiny.ffn_width,
            "max_position_embeddings": tiny.max_positions,
            "num_attention_heads": tiny.heads,
            "num_hidden_layers": tiny.layers,
            "num_key_value_heads": tiny.kv_heads,
            "rms_norm_eps": 1e-05,
            "tie_word_embeddings": tiny.tie_embeddings,
            "vocab_size": tokenizer.get_vocab_size(),
            **tiny.text_fields,
        },
        "tie_word_embeddings": tiny.tie_embeddings,
        "torch_dtype": "float32",
        "use_cache": True,
        "vision_config": {
            "model_type": tiny.vision_type,
            "hidden_size": tiny.vision_width,
            "image_size": tiny.tile,
            "initializer_range": tiny.initializer_range,
            "intermediate_size": tiny.ffn_width,
            "num_attention_heads": tiny.vision_heads,
            "num_hidden_layers": tiny.vision_layers,
            "patch_size": 14,
        },
    }


def _image_config(tiny: TinyIdefics) -> dict[str, Any]:
    sampling = {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": tiny.tile}}
    return {
        "do_convert_rgb": True,
        "do_image_splitting": tiny.split,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(HALVES),
        "image_processor_type": tiny.image_processor,
        "image_std": list(HALVES),
        "max_image_size": {"longest_edge": tiny.tile},
        "processor_class": tiny.processor_class,
        "resample": 1,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": tiny.longest},
        **({"video_sampling": sampling} if tiny.takes_videos else {}),
    }


def _tokenizer_config(tiny: TinyIdefics, template: str) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tiny.start,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<end_of_utterance>",
        "legacy": False,
        "model_max_length": tiny.max_positions,
        "pad_token": tiny.control[0],
        "additional_special_tokens": list(IMAGE_TOKENS),
    }
