"""Tiny random checkpoints of Llama 3 text models, in the published file layout.

The layout follows meta-llama/Llama-3.1-8B-Instruct: a flat config.json, the template inside
tokenizer_config.json, weights under `model.*` and `lm_head.*`. The tokenizer itself puts
`<|begin_of_text|>` before a text, and the template writes it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.families._shared.tiny import CORPUS, LLAMA3_WORDS, byte_level_tokenizer, write_tiny

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START = "<|begin_of_text|>"
CONTROL_TOKENS = (
    START,
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
CHAT_TEMPLATE = (
    "{%- set date = date_string | default('26 Jul 2024') -%}"
    "{%- set has_system = messages[0].role == 'system' -%}"
    "{{- bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\n' -}}"
    "{{- 'Cutting Knowledge Date: December 2023\\n' -}}"
    "{{- 'Today Date: ' + date + '\\n\\n' -}}"
    "{%- if has_system -%}{{- messages[0].content | trim -}}{%- endif -%}"
    "{{- '<|eot_id|>' -}}"
    "{%- for message in (messages[1:] if has_system else messages) -%}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' -}}"
    "{{- message.content | trim + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}"
    "{%- endif -%}"
)
"""The published file without its rules for tools."""


@dataclass(frozen=True, kw_only=True)
class TinyLlama:
    """Sizes and settings of a tiny model.

    rope_factor: how far Llama 3.1 stretches the low frequencies of its 8,192 positions.
    """

    seed: int = 0
    width: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn_width: int = 48
    vocabulary: int = 400
    max_positions: int = 131_072
    tie_embeddings: bool = False
    initializer_range: float = 0.02
    rope_theta: float = 500_000.0
    rope_factor: float = 8.0
    corpus: Iterable[str] = CORPUS


def write_checkpoint(folder: Path, tiny: TinyLlama) -> None:
    """Write config, tokenizer, template and random weights into `folder`."""
    tokenizer = _tokenizer(tiny)
    ids: dict[str, Any] = {token: tokenizer.token_to_id(token) for token in CONTROL_TOKENS}
    ends = [ids["<|end_of_text|>"], ids["<|eom_id|>"], ids["<|eot_id|>"]]

    def published(name: str) -> str | None:
        return None if tiny.tie_embeddings and name == "lm_head.weight" else name

    write_tiny(
        folder,
        model_class="LlamaForCausalLM",
        config=_config(tiny, tokenizer.get_vocab_size(), ids[START], ends),
        tokenizer=tokenizer,
        template=None,
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": START,
            "eos_token": "<|eot_id|>",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": tiny.max_positions,
            "chat_template": CHAT_TEMPLATE,
        },
        files={
            "generation_config.json": {
                "bos_token_id": ids[START],
                "eos_token_id": ends,
                "do_sample": False,
            },
        },
        seed=tiny.seed,
        published=published,
    )


def _tokenizer(tiny: TinyLlama) -> Tokenizer:
    """Byte-level BPE that takes a word of the vocabulary whole and writes the beginning of text."""
    from tokenizers import processors

    tokenizer = byte_level_tokenizer(
        tiny.corpus, vocabulary=tiny.vocabulary, control=CONTROL_TOKENS, words=LLAMA3_WORDS
    )
    tokenizer.model.ignore_merges = True
    begin = (START, tokenizer.token_to_id(START))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A {START} $B", special_tokens=[begin]
    )
    return tokenizer


def _config(tiny: TinyLlama, vocabulary: int, begin: int, ends: list[int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": begin,
        "eos_token_id": ends,
        "hidden_act": "silu",
        "hidden_size": tiny.width,
        "initializer_range": tiny.initializer_range,
        "intermediate_size": tiny.ffn_width,
        "max_position_embeddings": tiny.max_positions,
        "mlp_bias": False,
        "num_attention_heads": tiny.heads,
        "num_hidden_layers": tiny.layers,
        "num_key_value_heads": tiny.kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": tiny.rope_factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": tiny.rope_theta,
        "tie_word_embeddings": tiny.tie_embeddings,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocabulary,
    }
