"""LLaVA-NeXT (LLaVA 1.6): LLaVA with tiles of the best of five sheets, and learned ends of rows.

Facts of the architecture: transformers 5.24, `models/llava_next/` (Apache-2.0). What it shares
with LLaVA-OneVision stands in `_shared/sheets.py`.

- Every picture is cut up, also where a conversation has several.
- `image_newline`, the end of a row, is a parameter outside the three modules: it belongs to the
  projector. The last CLIP layer is not read and has no gradient.
- Mistral's template ends a turn with `</s>`; Vicuna's ends none, and then the tokenizer's own end
  token is put after the last answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared import sheets
    from manako.families._shared.checkpoint_files import (
        read_config,
        read_eos_token,
        read_image_settings,
    )
    from manako.families._shared.opening import open_chat

    config = read_config(folder)
    image_config = read_image_settings(folder)
    sheets.check_strategy(folder, config, "default")
    return sheets.SheetProcessor(
        **open_chat(
            folder,
            FAMILY,
            image_token_id=sheets.image_token_id(config),
            end_token=read_eos_token(folder),
        ),
        pixel_rule=sheets.bicubic_rule(folder, image_config),
        settings=sheets.read_sheets(folder, config, image_config),
    )


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture of this size in pixels; settings: `_shared.sheets.SheetSettings`."""
    from manako.families._shared.sheets import sheet_cost

    return sheet_cost(width, height, settings).tokens


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of llava-v1.6-mistral-7b-hf.

    `changes` are fields of `_shared.tiny_llava.TinyLlavaNext`.
    """
    from manako.families._shared.tiny_llava import TinyLlavaNext, write_checkpoint

    write_checkpoint(folder, TinyLlavaNext(seed=seed, **changes))


FAMILY = Family(
    name="llava_next",
    model_types=("llava_next",),
    model_class="LlavaNextForConditionalGeneration",
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
    required_inputs=("pixel_values", "image_sizes"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="llava-hf/llava-v1.6-mistral-7b-hf chat_template, rewritten; rendered alike to the "
        "published file in TRL 1.16.0 (chat_templates/llava_next.jinja)",
        tokenizer="reconstructed: Mistral's BPE with byte fallback, a blank before every stretch of "
        "text (normaliser), <image> and <pad>",
        processor="reconstructed: preprocessor_config.json and processor_config.json of "
        "llava-v1.6-mistral-7b-hf; tiles of 28 pixels instead of 336",
    ),
)
