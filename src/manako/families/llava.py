"""LLaVA 1.5: CLIP, a two-layer projector and Vicuna; the middle square of every picture.

Facts of the architecture: transformers 5.24, `models/llava/` (Apache-2.0); paper arXiv 2310.03744.

- The last CLIP layer is not read (`vision_feature_layer` −2) and has no gradient; the class token
  is dropped, or handed on where the checkpoint's strategy is `full`.
- The template writes no beginning of text and no end of turn: the tokenizer adds the one, and this
  file names the other, the tokenizer's own.
- Pixtral has the same model type; its vision tower tells it apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.checkpoint_files import (
        read_config,
        read_eos_token,
        read_image_settings,
    )
    from manako.families._shared.opening import open_chat
    from manako.families._shared.sheets import bicubic_rule, image_token_id
    from manako.families._shared.squares import SquareProcessor, read_squares

    config = read_config(folder)
    image_config = read_image_settings(folder)
    return SquareProcessor(
        **open_chat(
            folder,
            FAMILY,
            image_token_id=image_token_id(config),
            end_token=read_eos_token(folder),
        ),
        pixel_rule=bicubic_rule(folder, image_config),
        settings=read_squares(folder, config, image_config),
    )


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture, the same for every size; settings: `_shared.squares.SquareSettings`."""
    del width, height
    tokens: int = settings.tokens
    return tokens


def refusal(config: Mapping[str, Any]) -> str:
    """Tells LLaVA 1.5 from other models of its type. A config that names no vision tower has
    CLIP's, as transformers reads it."""
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return "it describes no vision tower"
    kind = vision.get("model_type", "clip_vision_model")
    if kind == "clip_vision_model":
        return ""
    return f"its vision tower is {kind}, expected clip_vision_model"


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of llava-1.5-7b-hf.

    `changes` are fields of `_shared.tiny_llava.TinyLlava15`.
    """
    from manako.families._shared.tiny_llava import TinyLlava15, write_checkpoint

    write_checkpoint(folder, TinyLlava15(seed=seed, **changes))


FAMILY = Family(
    name="llava",
    model_types=("llava",),
    model_class="LlavaForConditionalGeneration",
    parts={
        "vision": ("model.vision_tower",),
        "projector": ("model.multi_modal_projector",),
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
    required_inputs=("pixel_values",),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="reconstructed: chat_template of llava-hf/llava-1.5-7b-hf",
        tokenizer="reconstructed: Llama 2's BPE with byte fallback, a blank before the text "
        "(Metaspace), <image> and <pad>",
        processor="reconstructed: preprocessor_config.json and processor_config.json of "
        "llava-1.5-7b-hf; squares of 28 pixels instead of 336",
    ),
    refusal=refusal,
)
