"""SmolVLM2: the architecture of Idefics3 made small, for pictures and videos.

Facts of the architecture: transformers 5.24, `models/smolvlm/` (Apache-2.0); paper arXiv
2504.05299. What it shares with Idefics3 stands in `_shared/idefics.py`. Marks of tiles are control
tokens up to `<row_6_col_6>`, plain text beyond.

A video's frames are pictures without tiles, with their times in a text before each
(`_shared/smolvlm_video.py`). The published template leaves a video part out without a word; the
reference then renders by a template of its own, which writes `<video>` as if it were text, so here
the published one is given that text. Pictures and videos in one prompt, of which the reference's
processor keeps the videos' pixels alone, stand here in the order in which they are written.
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
    """Write a tiny random checkpoint with the published file layout of SmolVLM2-2.2B-Instruct.

    `changes` are fields of `_shared.tiny_idefics.TinyIdefics`.
    """
    from manako.families._shared.tiny import SMOLLM_WORDS
    from manako.families._shared.tiny_idefics import IMAGE_TOKENS, TinyIdefics, write_checkpoint

    class TinySmolVLM2(TinyIdefics):
        model_type = "smolvlm"
        model_class = "SmolVLMForConditionalGeneration"
        image_processor = "SmolVLMImageProcessor"
        processor_class = "SmolVLMProcessor"
        vision_type = "smolvlm_vision"
        start = "<|im_start|>"
        control = (
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<global-img>",
            *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
            *IMAGE_TOKENS,
        )
        words = SMOLLM_WORDS
        takes_videos = True

    write_checkpoint(folder, TinySmolVLM2(seed=seed, **{"kv_heads": 4, **changes}))


FAMILY = Family(
    name="smolvlm",
    model_types=("smolvlm",),
    model_class="SmolVLMForConditionalGeneration",
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
    required_video_inputs=("pixel_values",),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="HuggingFaceTB/SmolVLM2-2.2B-Instruct chat_template, rewritten; rendered alike to "
        "the published file in TRL 1.16.0 (chat_templates/smolvlm.jinja)",
        tokenizer="reconstructed: byte-level BPE with SmolLM's pre-tokenizer, and the control "
        "tokens of SmolVLM2 that stand in a prompt",
        processor="reconstructed: preprocessor_config.json and processor_config.json of "
        "SmolVLM2-2.2B-Instruct, video_sampling included; tiles of 56 pixels instead of 384",
    ),
)
