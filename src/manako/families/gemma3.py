"""Gemma 3: every picture a constant number of tokens, which see each other both ways.

Facts of the architecture: transformers 5.24, `models/gemma3/` (Apache-2.0); paper arXiv
2503.19786. Pictures, pan-and-scan among them, stand in `_shared/gemma.py`.

- The template marks a picture by `<start_of_image>`; the processor writes its tokens and the line
  breaks around it as text, so blanks join with their neighbours before tokens are made.
- Of five layers of six, each sees a window of the last tokens, also inside a picture.
- There is no system turn: a system text stands before the first question. Every text is trimmed.
- The projector is one matrix that is no linear module: it is trained in full or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.gemma import open_gemma3

    return open_gemma3(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture; settings: `_shared.gemma.SquareSettings`."""
    from manako.families._shared.gemma import tokens_of_picture

    return tokens_of_picture(width, height, settings)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of gemma-3-4b-it.

    `changes` are fields of `_shared.tiny_gemma.TinyGemma3`.
    """
    from manako.families._shared.tiny_gemma import TinyGemma3, write_checkpoint

    write_checkpoint(folder, TinyGemma3(seed=seed, **changes))


FAMILY = Family(
    name="gemma3",
    model_types=("gemma3",),
    model_class="Gemma3ForConditionalGeneration",
    parts={
        "vision": ("model.vision_tower",),
        "projector": ("model.multi_modal_projector",),
        "language": ("model.language_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.vision_tower\.encoder\.layers\.\d+\."
        r"(self_attn\.([qkv]|out)_proj|mlp\.fc[12])",
        "language": r"model\.language_model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="image_blocks",
    required_inputs=("pixel_values", "token_type_ids"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="google/gemma-3-4b-it chat_template, rewritten; rendered alike to the published "
        "file in TRL 1.16.0 (chat_templates/gemma3.jinja)",
        tokenizer="reconstructed: BPE as converted from SentencePiece, with Gemma 3's control tokens "
        "and runs of line breaks and blanks",
        processor="reconstructed: preprocessor_config.json and processor_config.json of "
        "gemma-3-4b-it; 56 pixels and 4 tokens a picture instead of 896 and 256, a window of 16 "
        "tokens in every second layer",
    ),
)
