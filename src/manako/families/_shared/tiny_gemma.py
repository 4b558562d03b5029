"""Tiny random checkpoints of Gemma 2, Gemma 3 and its text sizes, in the published file layout.

The layout follows google/gemma-2-2b-jpn-it, google/gemma-3-4b-it and google/gemma-3-1b-it. Their
tokenizers are of one kind: BPE converted from SentencePiece, the beginning of text put before every
text, and runs of line breaks and of blanks as tokens of their own that are not special.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from manako.families._shared.gemma import END, SOFT, START
from manako.families._shared.tiny import CORPUS, HALVES, sentencepiece_tokenizer, write_tiny

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FIRST_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
TURN_TOKENS = ("<start_of_turn>", "<end_of_turn>")
MARK_TOKENS = (START, END)
LONGEST_RUN = 6
"""Of line breaks and of blanks; the published tokenizers have runs of up to 31."""

CHECK_TURNS = (
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('user and assistant take turns, and the user begins') -}}"
    "{%- endif -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
)
ASK = "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"
GEMMA2_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{{- raise_exception('System role not supported') -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}" + CHECK_TURNS + "{{- '<start_of_turn>' + role + '\\n' -}}"
    "{{- message['content'] | trim + '<end_of_turn>\\n' -}}"
    "{%- endfor -%}" + ASK
)
GEMMA3_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- set before, turns = '', messages -%}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set system, turns = messages[0]['content'], messages[1:] -%}"
    "{%- set before = (system if system is string else system[0]['text']) + '\\n\\n' -%}"
    "{%- endif -%}"
    "{%- for message in turns -%}" + CHECK_TURNS + "{{- '<start_of_turn>' + role + '\\n' -}}"
    "{%- if loop.first -%}{{- before -}}{%- endif -%}"
    "{%- if message['content'] is string -%}{{- message['content'] | trim -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<start_of_image>' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] | trim -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<end_of_turn>\\n' -}}"
    "{%- endfor -%}" + ASK
)
"""A system text stands before the first question; of its parts only the first is written."""


@dataclass(frozen=True, kw_only=True)
class TinyGemma:
    """Sizes and settings of a tiny model; the defaults make about 40,000 parameters.

    sliding_window: tokens; every second layer has it. initializer_range: larger values make the
    layers' effect visible.
    """

    model_type: ClassVar[str]
    model_class: ClassVar[str]
    control: ClassVar[tuple[str, ...]] = (*TURN_TOKENS, *MARK_TOKENS)
    template: ClassVar[str] = GEMMA3_TEMPLATE

    seed: int = 0
    width: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 8
    ffn_width: int = 48
    vocabulary: int = 700
    max_positions: int = 8192
    sliding_window: int = 16
    initializer_range: float = 0.02
    corpus: Iterable[str] = CORPUS

    def text_config(self, vocabulary: int) -> dict[str, Any]:
        """Fields of config.json about the text model."""
        return {
            "model_type": "gemma3_text",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "head_dim": self.head_width,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": self.width,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.ffn_width,
            "max_position_embeddings": self.max_positions,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "query_pre_attn_scalar": self.head_width,
            "rms_norm_eps": 1e-06,
            "sliding_window": self.sliding_window,
            "vocab_size": vocabulary,
            **self.own_fields(),
        }

    def own_fields(self) -> dict[str, Any]:
        """Fields that the architectures do not share."""
        return {
            "rope_local_base_freq": 10_000.0,
            "rope_theta": 1_000_000.0,
            "sliding_window_pattern": 2,
        }

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """config.json."""
        return {
            **self.text_config(tokenizer.get_vocab_size()),
            "architectures": [self.model_class],
            "bos_token_id": tokenizer.token_to_id("<bos>"),
            "eos_token_id": tokenizer.token_to_id("<eos>"),
            "pad_token_id": tokenizer.token_to_id("<pad>"),
            "torch_dtype": "float32",
            "use_cache": True,
        }


@dataclass(frozen=True, kw_only=True)
class TinyGemma2(TinyGemma):
    """Gemma 2. The caps are small, so that scores of random weights reach them."""

    model_type: ClassVar[str] = "gemma2"
    model_class: ClassVar[str] = "Gemma2ForCausalLM"
    control: ClassVar[tuple[str, ...]] = TURN_TOKENS
    template: ClassVar[str] = GEMMA2_TEMPLATE

    score_cap: float = 2.0
    logit_cap: float = 1.0

    def own_fields(self) -> dict[str, Any]:
        return {
            "model_type": "gemma2",
            "attn_logit_softcapping": self.score_cap,
            "final_logit_softcapping": self.logit_cap,
            "rope_theta": 10_000.0,
        }


@dataclass(frozen=True, kw_only=True)
class TinyGemma3Text(TinyGemma):
    """The text sizes of Gemma 3."""

    model_type: ClassVar[str] = "gemma3_text"
    model_class: ClassVar[str] = "Gemma3ForCausalLM"


@dataclass(frozen=True, kw_only=True)
class TinyGemma3(TinyGemma):
    """Gemma 3 with pictures. side: pixels; published models have 896 and 256 tokens a picture.
    tokens: a square number. pan_and_scan, min_crop: as preprocessor_config.json has them."""

    model_type: ClassVar[str] = "gemma3"
    model_class: ClassVar[str] = "Gemma3ForConditionalGeneration"
    control: ClassVar[tuple[str, ...]] = (*TURN_TOKENS, *MARK_TOKENS, SOFT)

    side: int = 56
    patch: int = 14
    tokens: int = 4
    vision_width: int = 32
    vision_layers: int = 2
    vision_heads: int = 4
    vision_ffn_width: int = 48
    pan_and_scan: bool | None = None
    min_crop: int | None = None

    def config(self, tokenizer: Tokenizer) -> dict[str, Any]:
        ends = [tokenizer.token_to_id(token) for token in ("<eos>", "<end_of_turn>")]
        return {
            "architectures": [self.model_class],
            "model_type": self.model_type,
            "boi_token_index": tokenizer.token_to_id(START),
            "eoi_token_index": tokenizer.token_to_id(END),
            "eos_token_id": ends,
            "image_token_index": tokenizer.token_to_id(SOFT),
            "initializer_range": self.initializer_range,
            "mm_tokens_per_image": self.tokens,
            "torch_dtype": "float32",
            "text_config": self.text_config(tokenizer.get_vocab_size()),
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": self.vision_width,
                "image_size": self.side,
                "intermediate_size": self.vision_ffn_width,
                "num_attention_heads": self.vision_heads,
                "num_hidden_layers": self.vision_layers,
                "patch_size": self.patch,
                "vision_use_head": False,
            },
        }

    def picture_files(self) -> dict[str, dict[str, Any]]:
        """The picture settings' files."""
        return {
            "preprocessor_config.json": {
                "do_convert_rgb": None,
                "do_normalize": True,
                "do_pan_and_scan": self.pan_and_scan,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": list(HALVES),
                "image_processor_type": "Gemma3ImageProcessor",
                "image_seq_length": self.tokens,
                "image_std": list(HALVES),
                "pan_and_scan_max_num_crops": None,
                "pan_and_scan_min_crop_size": self.min_crop,
                "pan_and_scan_min_ratio_to_activate": None,
                "processor_class": "Gemma3Processor",
                "resample": 2,
                "rescale_factor": 1 / 255,
                "size": {"height": self.side, "width": self.side},
            },
            "processor_config.json": {
                "image_seq_length": self.tokens,
                "processor_class": "Gemma3Processor",
            },
        }


def write_checkpoint(folder: Path, tiny: TinyGemma) -> None:
    """Write config, tokenizer, template, small files and random weights into `folder`."""
    tokenizer = train_tokenizer(tiny)
    has_pictures = isinstance(tiny, TinyGemma3)
    ids = {name: tokenizer.token_to_id(name) for name in ("<bos>", "<eos>", "<pad>")}
    generation = {
        "bos_token_id": ids["<bos>"],
        "cache_implementation": "hybrid",
        "eos_token_id": [ids["<eos>"], tokenizer.token_to_id("<end_of_turn>")],
        "pad_token_id": ids["<pad>"],
    }
    write_tiny(
        folder,
        model_class=tiny.model_class,
        config=tiny.config(tokenizer),
        tokenizer=tokenizer,
        template=None,
        tokenizer_config=_tokenizer_config(tiny),
        files={
            "generation_config.json": generation,
            **(tiny.picture_files() if isinstance(tiny, TinyGemma3) else {}),
        },
        seed=tiny.seed,
        published=published_name,
        zeroed=(PROJECTION,) if has_pictures else (),
    )


def train_tokenizer(tiny: TinyGemma) -> Tokenizer:
    """Gemma's kind of tokenizer, of `vocabulary` entries at most."""
    from tokenizers import AddedToken

    runs = [mark * length for mark in ("\n", "▁") for length in range(1, LONGEST_RUN + 1)]
    runs.remove("▁")
    tokenizer = sentencepiece_tokenizer(
        tiny.corpus,
        vocabulary=tiny.vocabulary - len(runs),
        first=FIRST_TOKENS,
        control=tiny.control,
        prefix_space=False,
        start="<bos>",
    )
    tokenizer.add_tokens([AddedToken(run, special=False, normalized=False) for run in runs])
    return tokenizer


def _tokenizer_config(tiny: TinyGemma) -> dict[str, Any]:
    pictures = {"boi_token": START, "eoi_token": END, "image_token": SOFT}
    has_pictures = isinstance(tiny, TinyGemma3)
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "chat_template": tiny.template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<eos>",
        "model_max_length": tiny.max_positions,
        "pad_token": "<pad>",
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
        **({**pictures, "extra_special_tokens": pictures} if has_pictures else {}),
    }


PROJECTION = "model.multi_modal_projector.mm_input_projection_weight"


def published_name(name: str) -> str | None:
    """`language_model.model.*`, `vision_tower.vision_model.*` and `multi_modal_projector.*` of the
    published files; heads are tied. Text models have the model's own names."""
    if name == "lm_head.weight":
        return None
    for ours, theirs in (
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
