"""A tiny model whose greedy answers vary, and an adapter that changes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from manako.families.qwen2_vl import FAMILY
from manako.nn import adapters
from manako.nn.checkpoint import fingerprint, load_model


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "lively"
    FAMILY.make_tiny(folder, tie_embeddings=False, initializer_range=0.3, vocabulary=300)
    return folder


@pytest.fixture(scope="session")
def lora_run(lively: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint: an adapter on `lively`, and its picture settings."""
    run = tmp_path_factory.mktemp("runs") / "lora"
    step = run / "checkpoints" / "step-4"
    step.mkdir(parents=True)
    network = load_model(lively, FAMILY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        adapters.attach(network, FAMILY, ("language", "projector"), r=2, alpha=4)
        for name, parameter in network.named_parameters():
            if ".lora_B." in name:
                parameter.data = torch.randn_like(parameter) * 0.3
    adapters.save(network, FAMILY, step, base=lively, base_fingerprint=fingerprint(lively))
    return run
