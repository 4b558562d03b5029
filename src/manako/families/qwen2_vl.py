"""Qwen2-VL: native resolution, 2 × 2 patches merged into one token, three-axis rotary positions.

Facts of the architecture: transformers 5.23, `models/qwen2_vl/` (Apache-2.0); paper arXiv
2409.12191. What it shares with Qwen2.5-VL stands in `_shared/qwen.py`.

The merger lives under `visual` but is the projector: it maps vision features to the width of the
language model, and freezing the vision part must leave it free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.qwen import open_qwen

    return open_qwen(folder, FAMILY, time="grids")


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture of this size in pixels; settings: `_shared.qwen.ImageSettings`."""
    from manako.families._shared import qwen

    return qwen.image_tokens(width, height, settings)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of Qwen2-VL-2B-Instruct.

    `changes` are fields of `_shared.tiny_qwen.TinyQwen2` (sizes, initial values, picture settings,
    tokenizer corpus), so that the quickstart's model is one of them.
    """
    from manako.families._shared.tiny_qwen import TinyQwen2, write_checkpoint

    write_checkpoint(folder, TinyQwen2(seed=seed, **changes))


FAMILY = Family(
    name="qwen2_vl",
    model_types=("qwen2_vl",),
    model_class="Qwen2VLForConditionalGeneration",
    parts={
        "vision": ("model.visual",),
        "projector": ("model.visual.merger",),
        "language": ("model.language_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])",
        "projector": r"model\.visual\.merger\.mlp\.[02]",
        "language": r"model\.language_model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=("pixel_values", "image_grid_thw", "mm_token_type_ids"),
    required_video_inputs=("pixel_values_videos", "video_grid_thw", "mm_token_type_ids"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="Qwen/Qwen2-VL-2B-Instruct chat_template, rewritten; rendered alike to the "
        "published file in TRL 1.16.0 (chat_templates/qwen2_5_vl.jinja)",
        tokenizer="reconstructed: byte-level BPE with Qwen2's pre-tokenizer and control tokens",
        processor="reconstructed: preprocessor_config.json of Qwen2-VL-2B-Instruct",
    ),
)
