"""Gemma 3 without pictures: the 270M and 1B sizes.

Facts of the architecture: transformers 5.24, `models/gemma3/` (Apache-2.0); paper arXiv
2503.19786. Their template is that of the sizes with pictures, and has a rule for them; the model
has none, so a picture is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources
from manako.families._shared.text import TEXT_ONLY, no_pictures, open_text


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.checkpoint_files import read_config
    from manako.families._shared.gemma import refuse_both_ways

    refuse_both_ways(folder, read_config(folder))
    return open_text(folder, FAMILY)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of gemma-3-1b-it.

    `changes` are fields of `_shared.tiny_gemma.TinyGemma3Text`.
    """
    from manako.families._shared.tiny_gemma import TinyGemma3Text, write_checkpoint

    write_checkpoint(folder, TinyGemma3Text(seed=seed, **changes))


FAMILY = Family(
    name="gemma3_text",
    model_types=("gemma3_text",),
    model_class="Gemma3ForCausalLM",
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
        template="google/gemma-3-1b-it chat_template, rewritten; rendered alike to the published "
        "file of gemma-3-4b-it in TRL 1.16.0 (chat_templates/gemma3.jinja)",
        tokenizer="reconstructed: BPE as converted from SentencePiece, with Gemma 3's control tokens "
        "and runs of line breaks and blanks",
        processor="none: a text model; a window of 16 tokens in every second layer",
    ),
    takes_images=False,
    not_applicable=TEXT_ONLY,
)
