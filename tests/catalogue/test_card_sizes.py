"""Each card's parameters are those of the model that its own sizes describe, part by part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import card_parts
import check_card_sizes as sizes
from manako.catalogue.cards import Card, Config, cards, find_card
from manako.catalogue.facts import Figure

WITH_SIZES = [card for card in cards() if card.config]
QUICK_PARAMETERS = 3_000_000_000
"""A model of many layers takes up to a second to build even without memory."""


def _case(card: Card) -> Any:
    is_slow = card.parameters is None or card.parameters.total > QUICK_PARAMETERS
    return pytest.param(card, id=card.id, marks=pytest.mark.slow if is_slow else ())


@pytest.mark.parametrize("card", [_case(card) for card in WITH_SIZES])
def test_the_model_of_a_cards_sizes_has_the_cards_parameters(card: Card) -> None:
    assert sizes.differences(card, sizes.count(card)) == []


def test_one_wrong_size_is_found() -> None:
    card = find_card("SmolVLM2-256M-Video-Instruct")
    assert card.config is not None
    text = {**card.config.fields["text_config"], "num_hidden_layers": 31}
    fields = {**card.config.fields, "text_config": text}
    wrong = replace(card, config=Config(by="recalled", fields=fields))
    found = sizes.differences(card, sizes.count(wrong))
    assert [line.split(":")[0] for line in found] == ["total", "language"]


def test_a_wrong_part_is_found_where_the_total_is_right() -> None:
    card = find_card("gemma-3-270m-it")
    assert card.parameters is not None
    wrong = replace(card, parameters=replace(card.parameters, language=1, vision=2))
    assert sizes.differences(wrong, sizes.count(card)) == [
        "vision: the card says 2, the model has 0",
        "language: the card says 1, the model has 268,098,176",
    ]


def test_a_card_without_parameters_is_no_proof() -> None:
    card = replace(find_card("gemma-3-270m-it"), parameters=None)
    assert sizes.differences(card, {"total": 1}) == ["the card has no parameters"]


@pytest.mark.parametrize("missing", ["config", "model_type"])
def test_a_card_without_sizes_is_not_counted(missing: str) -> None:
    card = replace(find_card("gemma-3-270m-it"), **{missing: None})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"gemma-3-270m-it: the card has no config"):
        sizes.count(card)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),
        ("model.visual.merger.mlp.0.weight", "projector"),
        ("model.visual.deepstack_merger_list.0.norm.weight", "projector"),
        ("model.image_newline", "projector"),
        ("model.embed_tokens_extend.image_embed.img_processor.head.probe", "vision"),
        ("model.embed_tokens_extend.image_embed.img_projection_up.weight", "projector"),
        ("model.embed_tokens_extend.audio_embed.encoder.encoders.0.conv.weight", "audio"),
        ("model.layers.0.self_attn.qkv_proj.weight", "language"),
        ("language_model.model.norm.weight", "language"),
        ("lm_head.weight", "language"),
    ],
)
def test_a_parameter_belongs_to_the_longest_prefix(name: str, part: str) -> None:
    assert sizes.part_of(name) == part


def test_a_parameter_of_no_known_module_is_refused() -> None:
    with pytest.raises(KeyError, match="gate_of_nothing"):
        sizes.part_of("model.gate_of_nothing.weight")


def test_arithmetic_agrees_with_the_class_where_there_is_one() -> None:
    """The counters' Llama and Qwen2 are those of transformers."""
    text = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "tie_word_embeddings": False,
    }
    for model_type, biased in (("llama", False), ("qwen2", True)):
        built = sizes.count_built(model_type, text).total()
        assert card_parts._decoder(text, biased=biased) == built


def test_sarashinas_count_is_that_of_its_file() -> None:
    """Two bytes a parameter and a header of some 70 kB make the published 7,603,021,272 bytes."""
    card = find_card("sarashina2.2-vision-3b")
    assert card.parameters is not None
    assert card.weight_bytes == Figure(value=7_603_021_272, by="sarashina-port")
    assert 0 < 7_603_021_272 - 2 * card.parameters.total < 100_000
