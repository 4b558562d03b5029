"""Packs: conversations side by side, their boundaries, and what is counted of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from manako.core.errors import CheckpointError
from manako.core.example import Example, ImageInput, Pack
from manako.core.family import Family, Sources, families, family_of


def example(tokens: int, *, trained: int = 1, patches: int = 0) -> Example:
    image = ImageInput(
        pixels=np.zeros((patches, 3, 2, 2), np.uint8),
        grid=(1, 2, 2),
        start=0,
        tokens=2,
        size=(4, 4),
    )
    return Example(
        input_ids=np.arange(tokens, dtype=np.int32),
        trained=np.arange(tokens) >= tokens - trained,
        images=(image,) if patches else (),
    )


def test_a_pack_joins_its_conversations_in_order() -> None:
    pack = Pack(examples=(example(3), example(5, trained=2, patches=4)), pack_tokens=16)
    assert pack.input_ids.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert pack.segments.tolist() == [0, 3, 8]
    assert pack.trained.tolist() == [False, False, True, False, False, False, True, True]
    assert (pack.tokens, pack.trained_tokens, pack.fill, len(pack.images)) == (8, 3, 0.5, 1)
    assert (pack.input_ids.dtype, pack.segments.dtype) == (np.int32, np.int32)


def test_an_empty_pack_is_filler() -> None:
    pack = Pack(examples=(), pack_tokens=16, failed=(("row", "broken"),))
    assert (pack.tokens, pack.trained_tokens, pack.fill) == (0, 0, 0.0)
    assert pack.segments.tolist() == [0]


def test_lengths_tell_text_from_pictures() -> None:
    lengths = example(7, trained=2, patches=4).lengths
    assert (lengths.text_tokens, lengths.image_tokens, lengths.tokens) == (5, 2, 7)
    assert (lengths.trained_tokens, lengths.vision_patches) == (2, 4)


def family(**parts: tuple[str, ...]) -> Family:
    def unused(*_: Any) -> Any:
        raise AssertionError

    return Family(
        name="f",
        model_types=("f",),
        model_class="F",
        parts=parts,  # type: ignore[arg-type]
        adapter_targets={},
        attention="causal",
        required_inputs=(),
        image_tokens=unused,
        open=unused,
        make_tiny=unused,
        tiny_sources=Sources(template="", tokenizer="", processor=""),
    )


def test_the_longest_prefix_decides_the_part_and_prefixes_end_at_dots() -> None:
    found = family(
        vision=("model.visual",), projector=("model.visual.merger",), language=("model.language",)
    )
    assert found.part_of("model.visual.blocks.0.weight") == "vision"
    assert found.part_of("model.visual.merger.mlp.0.weight") == "projector"
    assert found.part_of("model.visual.merger") == "projector"
    assert found.part_of("model.visual.merger_norm.weight") == "vision"
    with pytest.raises(CheckpointError, match=r"model\.visuals\.x belongs to no part"):
        found.part_of("model.visuals.x")


def test_folders_that_are_no_checkpoint_are_refused(tmp_path: Any) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        family_of(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="'unheard' belongs to no family") as caught:
        family_of(tmp_path)
    known = [kind for item in families().items.values() for kind in item.model_types]
    assert all(kind in caught.value.message for kind in known)
