"""LLaVA-OneVision: SigLIP, a two-layer projector and Qwen2; one picture in tiles, several as one each,
frames of videos as one each with a quarter of the tokens.

Facts of the architecture: transformers 5.24, `models/llava_onevision/` (Apache-2.0); paper arXiv
2408.03326. What it shares with LLaVA-NeXT stands in `_shared/sheets.py`.

- A picture alone in its conversation is cut up (`anyres_max_9`); where there are several, each is
  one tile, padded to a square. Given a flat list, the published processor counts every picture as
  alone; `apply_chat_template` gives it a list per conversation, and that is the rule here.
- `image_newline`, the end of a row, is a parameter outside the three modules: it belongs to the
  projector.
- The template writes the pictures of a turn, then its videos, then its texts. Whether a picture is
  alone is asked of pictures: a video beside it does not count.
- The template writes an answer of history otherwise than it asks for one: `assistant \\n` instead
  of `assistant\\n`. The last answer is trained as it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.errors import CheckpointError
from manako.core.family import Family, Processor, Sources

RULE_PREFIX = "anyres_max_"
"""Before the most tiles that a grid of tokens may be worth."""


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared import onevision, sheets
    from manako.families._shared.checkpoint_files import read_config, read_image_settings
    from manako.families._shared.opening import open_chat

    config = read_config(folder)
    image_config = read_image_settings(folder)
    sheets.check_strategy(folder, config, "full")
    opened = onevision.OneVisionProcessor(
        **open_chat(
            folder,
            FAMILY,
            image_token_id=sheets.image_token_id(config),
            video_token_id=onevision.video_token_id(config),
        ),
        pixel_rule=sheets.bicubic_rule(folder, image_config),
        settings=sheets.read_sheets(
            folder,
            config,
            image_config,
            max_tiles=_max_tiles(folder, config.get("vision_aspect_ratio", "anyres_max_9")),
            several_whole=True,
        ),
    )
    onevision.check_video_settings(folder, image_config)
    return opened


def _max_tiles(folder: Path, rule: str) -> int:
    number = rule.removeprefix(RULE_PREFIX)
    if not (rule.startswith(RULE_PREFIX) and number.isdecimal()):
        raise CheckpointError(
            f"{folder}: config.json has vision_aspect_ratio {rule!r}; "
            f"this family is known with {RULE_PREFIX}N"
        )
    return int(number)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture that is alone; settings: `_shared.sheets.SheetSettings`."""
    from manako.families._shared.sheets import sheet_cost

    return sheet_cost(width, height, settings).tokens


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the file layout of llava-onevision-qwen2-0.5b-ov-hf.

    `changes` are fields of `_shared.tiny_llava.TinyOneVision`.
    """
    from manako.families._shared.tiny_llava import TinyOneVision, write_checkpoint

    write_checkpoint(folder, TinyOneVision(seed=seed, **changes))


FAMILY = Family(
    name="llava_onevision",
    model_types=("llava_onevision",),
    model_class="LlavaOnevisionForConditionalGeneration",
    parts={
        "vision": ("model.vision_tower",),
        "projector": ("model.multi_modal_projector", "model.image_newline"),
        "language": ("model.language_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.vision_tower\.encoder\.layers\.\d+\."
        r"(self_attn\.([qkv]|out)_proj|mlp\.fc[12])",
        "projector": r"model\.multi_modal_projector\.linear_[12]",
        "language": r"model\.language_model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=("pixel_values", "image_sizes", "batch_num_images"),
    required_video_inputs=("pixel_values_videos", "frames_per_video"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="reconstructed: chat_template of llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        tokenizer="reconstructed: byte-level BPE with Qwen2's pre-tokenizer and control tokens, "
        "<image> and <video>",
        processor="reconstructed: preprocessor_config.json, video_preprocessor_config.json and "
        "processor_config.json of llava-onevision-qwen2-0.5b-ov-hf; tiles of 28 pixels instead of "
        "384",
    ),
)
