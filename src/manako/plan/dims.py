"""Sizes of a model from its card: what config.json says, in whichever words its family uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from manako.catalogue.cards import Card, cards
from manako.core.family import AttentionRule, Family, families
from manako.plan.activations import NO_VISION, Shapes, text_of
from manako.plan.decoders import (
    Attention,
    Linears,
    attention_of,
    decoder_kind,
    language_shape,
    linears_of,
)
from manako.plan.projectors import Projector, projector_of
from manako.plan.towers import (
    PatchAttention,
    kind_of,
    patch_attention,
    patches_per_token,
    vision_of,
    vision_shape,
    whole,
)

LEFT_OUT = {
    "moe_intermediate_size": "experts",
    "num_experts_per_tok": "experts",
    "num_local_experts": "experts",
    "kv_lora_rank": "compressed keys and values",
    "cross_attention_layers": "cross attention",
    "num_kv_shared_layers": "layers that share keys",
    "hidden_size_per_layer_input": "inputs of each layer",
    "vision_use_head": "a pooling head of the vision tower",
}
"""Fields of a config that say of a model what `Dims` does not describe."""
COUNTED_EXPERTS = ("moe_intermediate_size", "num_experts_per_tok", "kv_lora_rank")
"""Those that `Linears` describes of a mixture in DeepSeek's words."""


@dataclass(frozen=True, kw_only=True)
class Dims:
    """Sizes of one checkpoint. patches_per_token: patches of a picture that become one token.

    ties_head: embedding and LM head are one tensor. rule: how the family's tokens see each other;
    None where no family file knows. left_out: what the model has and these sizes do not describe.
    """

    shapes: Shapes
    attention: Attention
    patch_attention: PatchAttention
    linears: Linears
    projector: Projector
    ties_head: bool
    patches_per_token: float
    rule: AttentionRule | None
    left_out: tuple[str, ...]


def dims_of(card: Card) -> Dims | None:
    """The sizes that a card's config names, or its base's where it was tuned from one with a card;
    None where that is too little for any arithmetic."""
    return describe(_config_of(card), _family_of(card))


def describe(config: Mapping[str, Any], family: Family | None) -> Dims | None:
    """The sizes that a config names, as published or as transformers completes it; None where that
    is too little for any arithmetic. family: None where no family file knows the architecture."""
    text = text_of(config)
    language = language_shape(text)
    if language is None:
        return None
    vision = vision_shape(vision_of(config), family) or NO_VISION
    tower, decoder = kind_of(config, family), decoder_kind(_text_kind(config, text, family))
    attention = attention_of(text, language, decoder)
    projector = projector_of(config, tower, vision, language, text)
    linears = linears_of(text, language, attention, decoder)
    left_out = [*_text_left_out(text, attention, has_experts=bool(linears.routed))]
    if vision_of(config):
        left_out += _vision_left_out(config, is_known=tower is not None, projector=projector)
    return Dims(
        shapes=Shapes(language=language, vision=vision),
        attention=attention,
        patch_attention=patch_attention(config, vision, tower),
        linears=linears,
        projector=projector,
        ties_head=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
        patches_per_token=patches_per_token(config, tower),
        rule=family.attention if family else None,
        left_out=tuple(dict.fromkeys(left_out)),
    )


def _text_kind(config: Mapping[str, Any], text: Mapping[str, Any], family: Family | None) -> str:
    named = text.get("model_type") or config.get("model_type")
    return str(named or (family.model_types[0] if family else ""))


def _family_of(card: Card) -> Family | None:
    kind = card.model_type.value if card.model_type else card.family
    known = [f for f in families().items.values() if kind in f.model_types]
    return next((f for f in known if f.name == card.family), known[0] if known else None)


def _text_left_out(
    text: Mapping[str, Any], attention: Attention, *, has_experts: bool
) -> Iterator[str]:
    yield from (
        why
        for name, why in LEFT_OUT.items()
        if text.get(name) and not (has_experts and name in COUNTED_EXPERTS)
    )
    if attention.full + attention.sliding != whole(text, "num_hidden_layers"):
        yield "layers without attention over tokens"
    is_off = text.get("use_sliding_window") is False
    if whole(text, "sliding_window") and not (attention.sliding or is_off):
        yield "a sliding window in layers that the config does not name"
    if not isinstance(text.get("intermediate_size"), int):
        yield "MLPs of several widths"


def _vision_left_out(
    config: Mapping[str, Any], *, is_known: bool, projector: Projector
) -> Iterator[str]:
    vision = vision_of(config)
    yield from (why for name, why in LEFT_OUT.items() if vision.get(name))
    if not is_known:
        yield f"a vision tower of the kind {vision.get('model_type', 'that is not named')}"
    if not projector.matrices:
        yield "the projector"
    if isinstance(config.get("vision_feature_layer"), list | tuple):
        yield "features of several vision layers"


def _config_of(card: Card) -> Mapping[str, Any]:
    if card.config is not None:
        return card.config.fields
    same = (c for c in cards() if card.base in (c.id, *c.aliases) and c.family == card.family)
    return next((base.config.fields for base in same if base.config is not None), {})


def is_mixture(card: Card) -> bool:
    """Whether a model is a mixture of experts: all are held, a few work on each token."""
    return card.parameters is not None and card.parameters.active is not None
