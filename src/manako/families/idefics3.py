"""Idefics3, and the first SmolVLM: a picture in tiles with marks of row and column, then the whole.

Facts of the architecture: transformers 5.24, `models/idefics3/` (Apache-2.0); paper arXiv
2408.12637. What it shares with SmolVLM2 stands in `_shared/idefics.py`. Marks of tiles are plain
text in this tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.idefics import open_tiled

    return open_tiled(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture, marks between its tiles included; settings:
    `_shared.idefics.TileSettings`."""
    from manako.families._shared import idefics

    return idefics.tokens_of_picture(width, height, settings)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of Idefics3-8B-Llama3.

    `changes` are fields of `_shared.tiny_idefics.TinyIdefics`.
    """
    from manako.families._shared.tiny import LLAMA3_WORDS
    from manako.families._shared.tiny_idefics import IMAGE_TOKENS, TinyIdefics, write_checkpoint

    class TinyIdefics3(TinyIdefics):
        model_type = "idefics3"
        model_class = "Idefics3ForConditionalGeneration"
        image_processor = "Idefics3ImageProcessor"
        processor_class = "Idefics3Processor"
        vision_type = "idefics3"
        start = "<|begin_of_text|>"
        control = ("<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>", *IMAGE_TOKENS)
        words = LLAMA3_WORDS
        adds_start = True

    stretched = {
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 1024,
        },
    }
    write_checkpoint(folder, TinyIdefics3(seed=seed, **{"text_fields": stretched, **changes}))


FAMILY = Family(
    name="idefics3",
    model_types=("idefics3",),
    model_class="Idefics3ForConditionalGeneration",
    parts={
        "vision": ("model.vision_model",),
        "projector": ("model.connector",),
        "language": ("model.text_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.vision_model\.encoder\.layers\.\d+\."
        r"(self_attn\.([qkv]|out)_proj|mlp\.fc[12])",
        "projector": r"model\.connector\.modality_projection\.proj",
        "language": r"model\.text_model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=("pixel_values",),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="HuggingFaceM4/Idefics3-8B-Llama3 chat_template, rewritten; rendered alike to the "
        "published file in TRL 1.16.0 (chat_templates/idefics3.jinja)",
        tokenizer="reconstructed: byte-level BPE with Llama 3's pre-tokenizer and a few of its "
        "control tokens; marks of tiles are plain text",
        processor="reconstructed: preprocessor_config.json and processor_config.json of "
        "Idefics3-8B-Llama3; tiles of 56 pixels instead of 364",
    ),
)
