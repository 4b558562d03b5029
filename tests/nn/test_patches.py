"""Patch convolutions as matrix products give the convolution's numbers and gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Phi4MultimodalConfig
from transformers.models.phi4_multimodal.modeling_phi4_multimodal import (
    Phi4MultimodalRotaryEmbedding,
)

from manako.nn.patches import look_both_ways, multiply_patches, tell_clips_apart, turn_apart


def test_outputs_and_gradients_equal_the_convolution() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv3d(3, 16, kernel_size=(2, 4, 4), stride=(2, 4, 4), bias=False)
    model = nn.Sequential(convolution)
    patches = torch.randn(7, 3, 2, 4, 4)
    expected = model(patches)
    expected.square().sum().backward()
    gradient, convolution.weight.grad = convolution.weight.grad, None
    assert multiply_patches(model) == 1
    found = model(patches)
    found.square().sum().backward()
    # sums of 96 float32 products in another order
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(convolution.weight.grad, gradient, atol=1e-4)
    assert list(model.state_dict()) == ["0.weight"]


def test_larger_inputs_and_other_convolutions_stay_convolutions() -> None:
    whole = nn.Conv3d(3, 4, kernel_size=2, stride=2)
    assert multiply_patches(nn.Sequential(whole)) == 1
    assert whole(torch.randn(1, 3, 4, 4, 4)).shape == (1, 4, 2, 2, 2)
    assert multiply_patches(nn.Conv3d(3, 4, kernel_size=3, stride=1)) == 0
    assert multiply_patches(nn.Conv3d(3, 4, kernel_size=2, stride=2, padding=1)) == 0


def attention(*, is_causal: bool) -> nn.Module:
    module = nn.Linear(1, 1)
    module.is_causal = is_causal  # type: ignore[assignment]
    return module


def test_only_what_sees_pictures_is_made_to_look_both_ways() -> None:
    model = nn.ModuleDict(
        {
            "tower": nn.ModuleList([attention(is_causal=True), attention(is_causal=False)]),
            "sound": attention(is_causal=True),
            "text": attention(is_causal=True),
        }
    )
    family: Any = SimpleNamespace(
        parts={"vision": ("tower", "sound"), "language": ("text",)},
        is_trainable=lambda name: name != "sound",
    )
    assert look_both_ways(model, family) == 1
    causal = {name for name, m in model.named_modules() if getattr(m, "is_causal", None)}
    assert causal == {"sound", "text"}
    assert look_both_ways(model, SimpleNamespace(parts={})) == 0  # type: ignore[arg-type]


@pytest.fixture
def rotary() -> nn.Module:
    """Short factors up to 8 tokens."""
    scaling = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 4.0, 8.0, 16.0]}
    config = Phi4MultimodalConfig(
        hidden_size=32,
        num_attention_heads=4,
        rope_scaling=scaling,
        original_max_position_embeddings=8,
    )
    return nn.ModuleList([Phi4MultimodalRotaryEmbedding(config)])


def test_long_rope_goes_by_the_conversation(rotary: nn.Module) -> None:
    """Within one pack a long conversation does not change how a short one is turned."""
    x, module = torch.zeros(1, 1, 32), rotary[0]  # type: ignore[index]
    lengths = (5, 12, 8, 9)
    positions = [torch.arange(length)[None] for length in lengths]
    alone = [module(x, ids) for ids in positions]
    expected = [torch.cat(each, dim=1) for each in zip(*alone, strict=True)]
    together = module(x, torch.cat(positions, dim=1))
    assert not torch.equal(together[0], expected[0])  # what `transformers` does
    assert turn_apart(rotary) == 1
    found = module(x, torch.cat(positions, dim=1))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(
        module(x, torch.tensor([[20]]))[0], module(x, torch.arange(21)[None])[0][:, 20:]
    )


def test_other_rotary_embeddings_are_left_alone() -> None:
    module = nn.Linear(1, 1)
    module.rope_type = "default"  # type: ignore[assignment]
    assert turn_apart(nn.ModuleList([module])) == 0


class Clips(nn.Module):
    """What `tell_clips_apart` looks for: two vectors a frame, and one that ends all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.image_newline = nn.Parameter(torch.full((3,), -1.0))

    def apply_pooling(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors

    def get_video_features(self, pixels: torch.Tensor) -> Any:
        seen = pixels[0].repeat_interleave(2)[:, None].expand(-1, 3)
        return SimpleNamespace(pooler_output=torch.cat([seen, self.image_newline[None]])[None])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.get_video_features(pixels).pooler_output
        return found[0, :, 0]


def test_each_clip_has_its_own_end() -> None:
    model = nn.Sequential(Clips())
    pixels = torch.tensor([[1.0, 2.0, 3.0]])
    before = model[0](pixels)
    assert tell_clips_apart(model) == 1
    assert model[0](pixels).equal(before)
    assert model[0](pixels, frames_per_video=torch.tensor([3])).equal(before)
    found = model[0](pixels, frames_per_video=torch.tensor([1, 2]))
    assert found.tolist() == [1, 1, -1, 2, 2, 3, 3, -1]
    found.sum().backward()
    assert model[0].image_newline.grad.tolist() == [2, 0, 0]
    assert "get_video_features" not in vars(model[0])
    assert list(model.state_dict()) == ["0.image_newline"]
    assert tell_clips_apart(nn.Sequential(nn.Linear(1, 1))) == 0
