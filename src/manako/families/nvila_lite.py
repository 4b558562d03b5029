"""Heron-NVILA-Lite: SigLIP at 448 pixels, 2 x 2 patches joined, Qwen2.5; one picture in tiles of the
grid nearest its shape and the whole last, several as one tile each.

Facts of the architecture: the authors' public code (NVlabs/VILA, Apache-2.0), the cards of
turing-motors/Heron-NVILA-Lite, the articles of its makers. transformers lacks the classes, so they
are Manako's own (`manako/nn/nvila_lite.py`); no code of a checkpoint is run.

- Published are three folders, `llm/`, `vision_tower/`, `mm_projector/`, beside a config.json of
  model_type `vila`. A flat one of model_type `nvila_lite` is read and written too: an *assumed
  layout*, since nobody of us has read a flat Heron (`-hf`) yet.
- The features are those of the last layer but one of the tower, without its last norm; the last layer
  is in the files and has no gradient.
- Behind each tile stands the vector of a line break, which is written as its id here. Where a picture
  is alone, one more follows, which is part of the text.
- Like the authors' code, blanks are cut off both ends of a turn after tiles are written: a picture at
  the end of its turn has no line break of the text behind its last tile.
- Unlike it, the `<|im_end|>` behind a picture that ends a turn stays (their loop drops it there, and
  nowhere else), a literal `<image>` in somebody's words stays text (they delete it), and padded
  batches are right (theirs lose tokens). Weights are computed in float32 or bfloat16 as asked for;
  they force float16.
- The template is the checkpoint's own: in the tokenizer's files, or the one that config.json names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.nvila import open_nvila

    return open_nvila(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture that is alone; settings: `_shared.nvila.NvilaSettings`."""
    from manako.families._shared.nvila import tile_cost

    return tile_cost(width, height, settings).tokens


def refusal(config: Mapping[str, Any]) -> str:
    """Tells NVILA-Lite with a 2 x 2 projector from other models of its types."""
    from manako.families._shared.nvila import why_not

    return why_not(config)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of Heron-NVILA-Lite-1B.

    `changes` are fields of `_shared.tiny_nvila.TinyNvila`; `layout="flat"` is the assumed one.
    """
    from manako.families._shared.tiny_nvila import TinyNvila, write_checkpoint

    write_checkpoint(folder, TinyNvila(seed=seed, **changes))


FAMILY = Family(
    name="nvila_lite",
    model_types=("vila", "nvila_lite"),
    model_class="NvilaLiteForConditionalGeneration",
    model_module="manako.nn.nvila_lite",
    part_folders=("llm", "vision_tower", "mm_projector"),
    parts={
        "vision": ("vision_tower",),
        "projector": ("mm_projector",),
        "language": ("llm",),
    },
    adapter_targets={
        "vision": r"vision_tower\.encoder\.layers\.\d+\."
        r"(self_attn\.([qkv]|out)_proj|mlp\.fc[12])",
        "projector": r"mm_projector\.layers\.[24]",
        "language": r"llm\.model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=("pixel_values",),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="reconstructed: qwen2.jinja of the authors' public code (NVlabs/VILA); which template "
        "Heron's files have is not known",
        tokenizer="reconstructed: byte-level BPE with Qwen2's pre-tokenizer and control tokens, and "
        "those that VILA adds",
        processor="reconstructed: preprocessor_config.json of paligemma-siglip-so400m-patch14-448; "
        "tiles of 56 pixels instead of 448",
    ),
    refusal=refusal,
)
