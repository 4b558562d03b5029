"""The count of what a forward pass keeps, against the tensors that autograd really keeps."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import CheckpointError
from manako.core.example import Pack
from manako.core.family import families, family_of
from manako.core.files import read_json
from manako.core.recipe import Recipe, Source
from manako.plan.activations import LOGIT_COPIES, count_kept, logit_bytes, read_shapes
from manako.plan.packs import PackCost

SIZES = {
    "vision_width": 48,
    "vision_layers": 3,
    "width": 64,
    "layers": 3,
    "ffn_width": 160,
    "vocabulary": 600,
    "mrope_section": (2, 2, 4),
}
VISION_FFN = {"qwen2_vl": {"vision_mlp_ratio": 2}, "qwen2_5_vl": {"vision_ffn_width": 104}}
TOLERANCE = 0.03
"""Left out on purpose: norms' variances, positions and softmax sums, one number per token each, and
that nothing is kept of what lies below the first adapter; on sizes this small, up to 2.3 %."""


@pytest.fixture(scope="module", params=sorted(VISION_FFN))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "model"
    families().items[request.param].make_tiny(folder, **SIZES, **VISION_FFN[request.param])
    return folder


def kept_bytes(folder: Path, recipe: Recipe) -> tuple[int, PackCost]:
    """Bytes of the tensors that autograd saves in one pass, parameters and inputs left out."""
    import torch

    from manako.nn.attention import use_segments
    from manako.nn.batch import make_batch, token_losses
    from manako.nn.checkpoint import load_model
    from manako.train.parts import prepare_parts

    family = family_of(folder)
    processor = family.open(folder)
    picture = Image.of(np.full((112, 140, 3), 200, np.uint8))
    row = Conversation(
        (
            Message("user", (picture, Text("何が見えますか。"))),
            Message("assistant", (Text("長い答えです。" * 8),)),
        )
    )
    pack = Pack(examples=(processor.encode(row),) * 5, pack_tokens=4096)
    model = load_model(folder, family)
    use_segments(model)
    prepare_parts(model, family, recipe)
    model.train()
    dtype = torch.bfloat16 if recipe.bf16 else torch.float32
    batch = make_batch(pack, processor, device="cpu", dtype=dtype)
    tensors = [*model.parameters(), *(v for v in batch.inputs.values() if torch.is_tensor(v))]
    known = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    saved: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = tensor
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16) if recipe.bf16 else contextlib.nullcontext()
    with cast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_losses(model, batch)
    cost = PackCost(
        rows=5,
        tokens=pack.tokens,
        trained_tokens=pack.trained_tokens,
        vision_patches=sum(len(image.pixels) for image in pack.images),
    )
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values()), cost


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "train",
    [
        {"language": "full 1e-4", "projector": "1e-4", "vision": "1e-4"},
        {"language": "full 1e-4", "projector": "1e-4"},
        {"projector": "1e-4"},
        {"language": "lora 1e-4", "projector": "1e-4", "vision": "lora 1e-4"},
        {"language": "lora 1e-4"},
        {"language": "lora 1e-4", "projector": "lora 1e-4", "vision": "lora 1e-4"},
        {"language": "lora 1e-4", "projector": "frozen", "vision": "lora 1e-4"},
    ],
    ids=[
        "all",
        "no-vision",
        "projector",
        "adapters",
        "language-adapters",
        "all-adapters",
        "frozen-projector",
    ],
)
def test_what_a_pass_keeps_is_counted(checkpoint: Path, train: dict[str, str], bf16: bool) -> None:
    from manako.verbs.plan import take_inventory

    method = "lora" if any("lora" in value for value in train.values()) else "full"
    recipe = Recipe(
        model=str(checkpoint),
        data=(Source(path="d"),),
        output_dir="o",
        train=train,
        method=method,
        lora_r=4,
        bf16=bf16,
    )
    found, pack = kept_bytes(checkpoint, recipe)
    shapes = read_shapes(read_json(checkpoint / "config.json"))
    kept = count_kept(shapes, recipe.part_settings(), pack, rank=4, is_half=bf16)
    casts = take_inventory(checkpoint, family_of(checkpoint)).cast_bytes(recipe)
    counted = kept.activations + logit_bytes(shapes, pack) // LOGIT_COPIES + casts
    assert counted == pytest.approx(found, rel=TOLERANCE)


def test_a_config_without_a_size_names_it() -> None:
    with pytest.raises(CheckpointError, match="num_attention_heads"):
        read_shapes({"hidden_size": 8})
