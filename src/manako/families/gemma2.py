"""Gemma 2: a text model whose attention scores and logits are soft-capped (gemma-2-2b-jpn-it).

Facts of the architecture: transformers 5.24, `models/gemma2/` (Apache-2.0); paper arXiv
2408.00118.

- Capped scores have no fast kernel: attention is computed as transformers' eager one, conversation
  by conversation.
- Logits are capped by the model's own forward.
- There is no system turn: the template refuses one.
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
    """Write a tiny random checkpoint with the published file layout of gemma-2-2b-jpn-it.

    `changes` are fields of `_shared.tiny_gemma.TinyGemma2`.
    """
    from manako.families._shared.tiny_gemma import TinyGemma2, write_checkpoint

    write_checkpoint(folder, TinyGemma2(seed=seed, **changes))


FAMILY = Family(
    name="gemma2",
    model_types=("gemma2",),
    model_class="Gemma2ForCausalLM",
    parts={"language": ("model", "lm_head")},
    adapter_targets={
        "language": r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="soft_capped",
    required_inputs=(),
    image_tokens=no_pictures,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="google/gemma-2-2b-jpn-it chat_template, rewritten; rendered alike to TRL 1.16.0's "
        "published file of the Gemma family (chat_templates/gemma.jinja)",
        tokenizer="reconstructed: BPE as converted from SentencePiece, with Gemma 2's turn tokens "
        "and runs of line breaks and blanks",
        processor="none: a text model; a window of 16 tokens in every second layer, caps of 2 and 1 "
        "instead of 50 and 30, so that scores of random weights reach them",
    ),
    takes_images=False,
    not_applicable=TEXT_ONLY,
)
