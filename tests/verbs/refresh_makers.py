"""Checkpoints of a few bytes, as a folder and on a Hub of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "hub"))

from hub_server import COMMIT, ID, Servers, World, safetensors, status

__all__ = ["COMMIT", "ID", "Servers", "World", "status"]

CARD_ID = "Qwen/Qwen2-VL-2B-Instruct"
CONFIG: dict[str, Any] = {
    "model_type": "qwen2_vl",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "vocab_size": 16,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
    "vision_config": {"depth": 32, "patch_size": 14},
}
PIXELS = {"min_pixels": 3136, "max_pixels": 1003520, "patch_size": 14, "merge_size": 2}
TENSORS = {
    "model.embed_tokens.weight": ("BF16", (16, 8), 256),
    "model.layers.0.mlp.up_proj.weight": ("BF16", (8, 8), 128),
    "model.layers.1.mlp.up_proj.weight": ("BF16", (8, 8), 128),
    "visual.blocks.0.attn.qkv.weight": ("BF16", (4, 4), 32),
    "visual.merger.mlp.0.weight": ("BF16", (2, 2), 8),
}


def checkpoint(**config: Any) -> dict[str, bytes]:
    return {
        "config.json": json.dumps({**CONFIG, **config}).encode(),
        "preprocessor_config.json": json.dumps(PIXELS).encode(),
        "model.safetensors": safetensors(TENSORS),
    }


def folder_of(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def publish(world: World, files: dict[str, bytes], **facts: Any) -> str:
    """Put a checkpoint on the Hub of a test; its id."""
    world.commits[COMMIT] = files
    world.facts.update(facts)
    return ID
