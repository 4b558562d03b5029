"""Classes of our own, for `transformers`: told once, read by its Auto classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

import manako
from manako.core.family import families
from manako.nn.checkpoint import load_model, model_class

OWN = [f for f in families().items.values() if f.model_module.startswith("manako.")]


@pytest.mark.parametrize("family", OWN, ids=lambda family: family.name)
def test_auto_classes_read_what_load_reads(family: object, tmp_path: Path) -> None:
    assert model_class(family).__name__ in manako.register_models()  # type: ignore[arg-type]
    folder = tmp_path / "tiny"
    family.make_tiny(folder)  # type: ignore[attr-defined]
    assert AutoConfig.from_pretrained(folder).model_type in family.model_types  # type: ignore[attr-defined]
    found = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    ours = load_model(folder, family)  # type: ignore[arg-type]
    assert isinstance(found, type(ours))
    assert set(found.state_dict()) == set(ours.state_dict())
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name]), name


def test_registering_twice_is_no_error() -> None:
    assert manako.register_models() == manako.register_models() != ()
