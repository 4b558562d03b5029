"""Llama: text models of Llama 3 and what was built on them, as the Swallow models.

Facts of the architecture: transformers 5.24, `models/llama/` (Apache-2.0); paper arXiv 2407.21783.
A checkpoint's own template decides how turns are written: Swallow's has its own system turn.

- Llama 3.1's template writes a system turn with dates even where a conversation has none, and trims
  every content. Python's `trim` takes an ideographic blank at an edge along.
- Llama 3.2's asks for the day. The clock is pinned (`PINNED_CLOCK` in `_shared/template.py`), so
  tokens do not depend on when they are made.
- The tokenizer puts the beginning of text before a text, and so does the template: it stands once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources
from manako.families._shared.text import TEXT_ONLY, no_pictures, open_text


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    return open_text(folder, FAMILY)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of Llama-3.1-8B-Instruct.

    `changes` are fields of `_shared.tiny_llama.TinyLlama`.
    """
    from manako.families._shared.tiny_llama import TinyLlama, write_checkpoint

    write_checkpoint(folder, TinyLlama(seed=seed, **changes))


FAMILY = Family(
    name="llama",
    model_types=("llama",),
    model_class="LlamaForCausalLM",
    parts={"language": ("model", "lm_head")},
    adapter_targets={
        "language": r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=(),
    image_tokens=no_pictures,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="meta-llama/Llama-3.1-8B-Instruct chat_template, rewritten without tools; rendered "
        "alike to the published file in TRL 1.16.0 (chat_templates/llama3_1.jinja)",
        tokenizer="reconstructed: byte-level BPE with Llama 3's pre-tokenizer, control tokens and "
        "beginning of text",
        processor="none: a text model",
    ),
    takes_images=False,
    not_applicable=TEXT_ONLY,
)
