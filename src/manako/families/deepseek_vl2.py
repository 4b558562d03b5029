"""DeepSeek-VL2: SigLIP, a two-layer projector and a mixture of experts; the whole, then tiles.

Facts of the architecture: the authors' public code (deepseek-ai/DeepSeek-VL2, MIT).

- DeepSeek-OCR and OCR 2 have the same model type; the name of the vision tower tells them apart.
- Up to two pictures of a conversation are cut into tiles; from three on, each is one.
- The published checkpoints have no chat template: theirs is here. Prompt and answer are encoded
  apart, so that no token reaches from the one into the other.
- Tokens for places (`<|ref|>`, `<|det|>`, …) are tokens also where a content holds them; places
  are written as the model writes them, 0 to 999 over the whole picture.
- Adapters sit on attention, the dense MLPs and the shared experts. The routed experts are one
  parameter a layer, no linear modules, and take none; full training reaches them.
- Never trained: the tower's pooling head, whose result nobody reads. The router's bias is no
  parameter either: its authors move it by how busy each expert is, and here it stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.deepseek_vl2 import open_deepseek_vl2

    return open_deepseek_vl2(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture that is cut up; settings: `_shared.deepseek_vl2.TileSettings`."""
    from manako.families._shared.deepseek_vl2 import tile_cost

    return tile_cost(width, height, settings).tokens


def refusal(config: Mapping[str, Any]) -> str:
    """Tells DeepSeek-VL2 from DeepSeek-OCR and OCR 2."""
    from manako.families._shared.deepseek_vl2 import why_not

    return why_not(config)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of deepseek-vl2-tiny.

    `changes` are fields of `_shared.tiny_deepseek.TinyDeepseek`.
    """
    from manako.families._shared.tiny_deepseek import TinyDeepseek, write_checkpoint

    write_checkpoint(folder, TinyDeepseek(seed=seed, **changes))


FAMILY = Family(
    name="deepseek_vl2",
    model_types=("deepseek_vl_v2",),
    model_class="DeepseekVL2ForConditionalGeneration",
    model_module="manako.nn.deepseek_vl2",
    parts={
        "vision": ("vision",),
        "projector": ("projector", "image_newline", "view_seperator"),
        "language": ("language",),
    },
    never_trained=("vision.attn_pool",),
    adapter_targets={
        "vision": r"vision\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])",
        "projector": r"projector\.layers\.[02]",
        "language": r"language\.model\.layers\.\d+\.(self_attn\.([qkvo]_proj|kv_a_proj_with_mqa"
        r"|kv_b_proj)|mlp\.(shared_experts\.)?(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=("pixel_values", "images_spatial_crop", "images_seq_mask"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="ours, after the conversation format `deepseek` of deepseek-ai/DeepSeek-VL2 ef9f91e "
        "(conversation.py): the published checkpoints have none",
        tokenizer="reconstructed: byte-level BPE with DeepSeek-V3's pre-tokenizer and the published "
        "control tokens",
        processor="reconstructed: processor_config.json of deepseek-vl2-tiny; tiles of 42 pixels "
        "instead of 384",
    ),
    refusal=refusal,
)
