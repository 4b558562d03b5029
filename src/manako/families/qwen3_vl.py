"""Qwen3-VL: patches of 16 pixels, deepstack, interleaved three-axis rotary positions.

Facts of the architecture: transformers 5.24, `models/qwen3_vl/` (Apache-2.0); report arXiv
2511.21631. What it shares with Qwen2-VL stands in `_shared/qwen.py`; for still pictures that is
all but the numbers, which come from the checkpoint.

- The outputs of the vision blocks of `deepstack_visual_indexes` pass mergers of their own and are
  added to the first language layers at the places of the pictures. These mergers map vision
  features to the language model's width, so they are the projector, as the merger is.
- Queries and keys are normalised (`q_norm`, `k_norm`) and `head_dim` is written in config.json.
- The template writes no system turn where a conversation has none, drops one that is not first,
  and shows no picture of an answer.
- A video's time is told in the text, and its limits are those of all frames together.
- Without `mm_token_type_ids` the model raises an error where there are pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.qwen import open_qwen

    return open_qwen(folder, FAMILY, time="texts")


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture of this size in pixels; settings: `_shared.qwen.ImageSettings`."""
    from manako.families._shared import qwen

    return qwen.image_tokens(width, height, settings)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of Qwen3-VL-2B-Instruct.

    `changes` are fields of `_shared.tiny_qwen.TinyQwen3`.
    """
    from manako.families._shared.tiny_qwen import TinyQwen3, write_checkpoint

    write_checkpoint(folder, TinyQwen3(seed=seed, **changes))


FAMILY = Family(
    name="qwen3_vl",
    model_types=("qwen3_vl",),
    model_class="Qwen3VLForConditionalGeneration",
    parts={
        "vision": ("model.visual",),
        "projector": ("model.visual.merger", "model.visual.deepstack_merger_list"),
        "language": ("model.language_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.linear_fc[12])",
        "projector": r"model\.visual\.(merger|deepstack_merger_list\.\d+)\.linear_fc[12]",
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
        template="Qwen/Qwen3-VL-8B-Instruct chat_template, rewritten without tools; rendered alike "
        "to the published file in TRL 1.16.0 (chat_templates/qwen3_vl.jinja)",
        tokenizer="reconstructed: byte-level BPE with Qwen2's pre-tokenizer and control tokens",
        processor="reconstructed: preprocessor_config.json of Qwen3-VL-2B-Instruct; pictures of "
        "4,096 pixels at least instead of 65,536, so that tests stay small",
    ),
)
