"""Sarashina2-Vision and Sarashina2.2-Vision: Qwen2-VL's tower and merger, a LayerNorm, and Llama.

Facts of the architecture: config.json, preprocessor_config.json and model card of
sbintuitions/sarashina2.2-vision-3b (MIT), and of sarashina2.2-ocr, which differs in its picture
limits alone. `transformers` has no class for it: the authors' code came with the repository, and
what runs here is written anew (`nn/sarashina2_vision.py`).

Of sarashina2-vision-8b and 14b, the generation before, the same class is known, and that their
template takes words alone and puts a picture in front. In which order they normalise and resize is
not: with values other than 3B's, an example says so in a note.

The merger lives under `visual` but is the projector, with the LayerNorm behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources

TOWERS = ("qwen2_vl", "qwen2_vl_vision")
"""What the published files, and those that `transformers` writes, call the tower."""


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.sarashina import open_sarashina

    return open_sarashina(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture of this size in pixels; settings: `_shared.qwen.ImageSettings`."""
    from manako.families._shared import qwen

    return qwen.image_tokens(width, height, settings)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of sarashina2.2-vision-3b.

    `changes` are fields of `_shared.tiny_sarashina.TinySarashina`; `generation="2"` makes one in
    the manner of sarashina2-vision-8b.
    """
    from manako.families._shared.tiny_sarashina import TinySarashina, write_checkpoint

    write_checkpoint(folder, TinySarashina(seed=seed, **changes), FAMILY)


def refusal(config: Mapping[str, Any]) -> str:
    """Why this config.json describes no tower of Qwen2-VL's before a Llama."""
    parts = {name: config.get(name) for name in ("vision_config", "text_config")}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            return f"{name} is missing: a text model of the series has none of its own"
    expected = {"vision_config": TOWERS, "text_config": ("llama",)}
    for name, kinds in expected.items():
        found = (parts[name] or {}).get("model_type", kinds[0])
        if found not in kinds:
            return f"{name}.model_type is {found!r}, expected {kinds[0]!r}"
    return ""


FAMILY = Family(
    name="sarashina2_vision",
    model_types=("sarashina2_vision",),
    model_class="Sarashina2VisionForCausalLM",
    model_module="manako.nn.sarashina2_vision",
    parts={
        "vision": ("visual",),
        "projector": ("visual.merger", "norm"),
        "language": ("llm",),
    },
    adapter_targets={
        "vision": r"visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])",
        "projector": r"visual\.merger\.mlp\.[02]",
        "language": r"llm\.model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=("pixel_values", "image_grid_thw"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    refusal=refusal,
    tiny_sources=Sources(
        template="reconstructed: the tokens that the authors' processor of sarashina2.2-vision-3b "
        "writes; its chat_template.json was not read",
        tokenizer="reconstructed: unigram pieces with bytes to fall back on; `<|file|>` is 14, the "
        "marks around a picture are the third and second last rows, as published",
        processor="reconstructed: preprocessor_config.json of sarashina2.2-vision-3b",
    ),
)
