"""Qwen2.5-VL: Qwen2-VL with attention in windows, RMSNorm and a gated MLP in the vision tower.

Facts of the architecture: transformers 5.24, `models/qwen2_5_vl/` (Apache-2.0); report arXiv
2502.13923. What it shares with Qwen2-VL stands in `_shared/qwen.py`.

- Patches attend inside windows of `window_size` pixels; in the blocks of `fullatt_block_indexes`,
  to their whole picture. The model brings patches into the order of windows by itself and hands
  the boundaries of either kind to the attention function.
- Gate, up and down projections have one name in vision and language: only whole names tell them
  apart.
- Without `mm_token_type_ids` the model raises nothing and counts positions as in plain text.
- A video's time is spaced by its seconds × `tokens_per_second`. Without `second_per_grid_ts` the
  model raises nothing and takes a second for each grid of frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.qwen import open_qwen

    return open_qwen(folder, FAMILY, time="seconds")


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture of this size in pixels; settings: `_shared.qwen.ImageSettings`."""
    from manako.families._shared import qwen

    return qwen.image_tokens(width, height, settings)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of Qwen2.5-VL-3B-Instruct.

    `changes` are fields of `_shared.tiny_qwen.TinyQwen25`.
    """
    from manako.families._shared.tiny_qwen import TinyQwen25, write_checkpoint

    write_checkpoint(folder, TinyQwen25(seed=seed, **changes))


FAMILY = Family(
    name="qwen2_5_vl",
    model_types=("qwen2_5_vl",),
    model_class="Qwen2_5_VLForConditionalGeneration",
    parts={
        "vision": ("model.visual",),
        "projector": ("model.visual.merger",),
        "language": ("model.language_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(gate|up|down)_proj)",
        "projector": r"model\.visual\.merger\.mlp\.[02]",
        "language": r"model\.language_model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    vision_block="gated",
    required_inputs=("pixel_values", "image_grid_thw", "mm_token_type_ids"),
    required_video_inputs=(
        "pixel_values_videos",
        "video_grid_thw",
        "mm_token_type_ids",
        "second_per_grid_ts",
    ),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="Qwen/Qwen2.5-VL-7B-Instruct chat_template, rewritten; rendered alike to the "
        "published file in TRL 1.16.0 (chat_templates/qwen2_5_vl.jinja)",
        tokenizer="reconstructed: byte-level BPE with Qwen2's pre-tokenizer and control tokens",
        processor="reconstructed: preprocessor_config.json of Qwen2.5-VL-3B-Instruct; windows of "
        "56 pixels instead of 112, so that small pictures have several",
    ),
)
