"""Patch convolutions as matrix products give the convolution's numbers and gradients."""

from __future__ import annotations

import torch
from torch import nn

from manako.nn.patches import multiply_patches


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
