"""Pixtral: pictures of any shape without tiles, one token per patch and one at each row's end.

Facts of the architecture: transformers 5.24, `models/pixtral/` and `models/llava/` (Apache-2.0):
the model type is LLaVA's, the vision tower its own, with rotary positions over rows and columns.
All pictures of a pack go through the tower as one row of patches; each sees only itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources

CONTROL_TOKENS = (
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pre-tokenizer of tekken_240911.json: words end where a capital follows small letters."""
CHAT_TEMPLATE = (
    "{%- set turns = messages -%}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}"
    "{%- endif -%}"
    "{{- bos_token -}}"
    "{%- for turn in turns -%}"
    "{%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('user and assistant take turns, after a system text if any') -}}"
    "{%- endif -%}"
    "{%- if turn['role'] == 'user' -%}"
    "{{- '[INST]' -}}"
    "{%- if loop.last and system is defined -%}{{- system + '\\n\\n' -}}{%- endif -%}"
    "{%- if turn['content'] is string -%}{{- turn['content'] -}}"
    "{%- else -%}{%- for part in turn['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '[IMG]' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['content'] or part['text'] -}}"
    "{%- else -%}{{- raise_exception('a ' + part['type'] + ' part is not known') -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '[/INST]' -}}"
    "{%- else -%}{{- turn['content'] + eos_token -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""A system text stands before the last question only, so it moves as a chat grows."""


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.pixtral import open_pixtral

    return open_pixtral(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture, row ends included; settings: `_shared.pixtral.ImageSettings`."""
    from manako.families._shared.sizes.rows import pixtral

    return pixtral(width, height, cell=settings.patch, longest=settings.longest)


def refusal(config: Mapping[str, Any]) -> str:
    """Tells Pixtral from the LLaVA models, whose model type it has."""
    vision = config.get("vision_config")
    kind = vision.get("model_type", "not named") if isinstance(vision, Mapping) else "not described"
    return "" if kind == "pixtral" else f"its vision tower is {kind}, expected pixtral"


def make_tiny(
    folder: Path,
    seed: int = 0,
    *,
    longest: int = 64,
    patch: int = 8,
    layers: int = 2,
    initializer_range: float = 0.02,
    vocabulary: int = 400,
) -> None:
    """Write a tiny random checkpoint with the published file layout of pixtral-12b.

    longest, patch: pixels. initializer_range: larger values make the layers' effect visible.
    """
    from tokenizers import processors

    from manako.families._shared import tiny

    control = CONTROL_TOKENS
    tokenizer = tiny.byte_level_tokenizer(
        vocabulary=vocabulary, control=control, words=TEKKEN_WORDS
    )
    start = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[start]
    )
    ids = {token: tokenizer.token_to_id(token) for token in control}
    side = {"height": patch, "width": patch}
    tiny.write_tiny(
        folder,
        model_class=FAMILY.model_class,
        config=_config(
            image_id=ids["[IMG]"],
            vocabulary=tokenizer.get_vocab_size(),
            sizes={"patch_size": patch, "image_size": longest},
            shared={"num_hidden_layers": layers, "initializer_range": initializer_range},
        ),
        tokenizer=tokenizer,
        template=None,
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
        files={
            "chat_template.json": {"chat_template": CHAT_TEMPLATE},
            "generation_config.json": {
                "bos_token_id": ids["<s>"],
                "eos_token_id": ids["</s>"],
                "pad_token_id": ids["<pad>"],
            },
            "preprocessor_config.json": {
                "image_processor_type": "PixtralImageProcessor",
                "image_mean": list(tiny.CLIP_MEAN),
                "image_std": list(tiny.CLIP_STD),
                "patch_size": side,
                "resample": 3,
                "rescale_factor": 1 / 255,
                "size": {"longest_edge": longest},
            },
            "processor_config.json": {
                "processor_class": "PixtralProcessor",
                "image_token": "[IMG]",
                "image_break_token": "[IMG_BREAK]",
                "image_end_token": "[IMG_END]",
                "patch_size": patch,
            },
        },
        seed=seed,
        published=published_name,
    )


def _config(
    *,
    image_id: int | None,
    vocabulary: int,
    sizes: Mapping[str, int],
    shared: Mapping[str, Any],
) -> dict[str, Any]:
    """config.json with the published fields; `shared` are those of both parts."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_seq_length": 1,
        "image_token_index": image_id,
        "projector_hidden_act": "gelu",
        "torch_dtype": "float32",
        "tie_word_embeddings": False,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "text_config": {
            **shared,
            "model_type": "mistral",
            "head_dim": 16,
            "hidden_size": 48,
            "intermediate_size": 64,
            "max_position_embeddings": 4096,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-05,
            "rope_theta": 1_000_000_000.0,
            "sliding_window": None,
            "vocab_size": vocabulary,
        },
        "vision_config": {
            **shared,
            **sizes,
            "model_type": "pixtral",
            "head_dim": 16,
            "hidden_size": 64,
            "intermediate_size": 80,
            "num_attention_heads": 4,
            "rope_theta": 10_000.0,
        },
    }


def published_name(name: str) -> str:
    """The name in the published weights, which are older than the model's own names."""
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    inner = name.removeprefix("model.")
    return inner.replace("language_model.", "language_model.model.", 1)


FAMILY = Family(
    name="pixtral",
    model_types=("llava",),
    model_class="LlavaForConditionalGeneration",
    refusal=refusal,
    parts={
        "vision": ("model.vision_tower",),
        "projector": ("model.multi_modal_projector",),
        "language": ("model.language_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.vision_tower\.transformer\.layers\.\d+\."
        r"(attention\.[qkvo]_proj|feed_forward\.(gate|up|down)_proj)",
        "projector": r"model\.multi_modal_projector\.linear_[12]",
        "language": r"model\.language_model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    vision_block="gated",
    required_inputs=("pixel_values", "image_sizes"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="reconstructed: chat_template.json of mistral-community/pixtral-12b",
        tokenizer="reconstructed: byte-level BPE with the pre-tokenizer and control tokens of "
        "tekken_240911.json (mistral-common)",
        processor="reconstructed: preprocessor_config.json of mistral-community/pixtral-12b",
    ),
)
