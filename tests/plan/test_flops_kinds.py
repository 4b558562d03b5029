"""Other kinds of models against torch's own count, as transformers builds them: towers that see whole
pictures, with and without a class token, projectors with and without pooling, sliding windows.

No family file is needed: what decides is described by sizes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from manako.core.example import Example, ImageInput, Pack
from manako.core.family import AttentionRule, PartName, families
from manako.core.recipe import PartSetting
from manako.plan.dims import Dims, describe
from manako.plan.flops import check_counted, training_flops
from manako.plan.work import Work, pictures_of, work_of_pack

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
}
TOWER = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
IMAGE_ID, IMAGES, TEXT_TOKENS = 290, 2, 30


def gemma3() -> Any:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = Gemma3Config(
        text_config={**TEXT, "sliding_window": 8, "layer_types": KINDS, "pad_token_id": 0},
        vision_config={**TOWER, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=IMAGE_ID,
    )
    return Gemma3ForConditionalGeneration(config)


KINDS = ["sliding_attention", "full_attention", "sliding_attention"]


def llava() -> Any:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        text_config={**TEXT, "model_type": "llama"},
        vision_config={**TOWER, "model_type": "clip_vision_model"},
        image_token_index=IMAGE_ID,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    return LlavaForConditionalGeneration(config)


def described(model: Any, rule: AttentionRule) -> Dims:
    family = dataclasses.replace(families().items["qwen2_vl"], attention=rule)
    dims = describe(model.config.to_dict(), family)
    assert dims is not None
    check_counted(dims)
    return dims


def pack_of(tokens_per_image: int) -> Pack:
    ids = [IMAGE_ID] * tokens_per_image * IMAGES + list(range(1, TEXT_TOKENS + 1))
    trained = np.arange(len(ids)) >= len(ids) - 10
    images = tuple(
        ImageInput(
            pixels=np.zeros((1, 3, 56, 56), np.uint8),
            grid=(1,),
            start=number * tokens_per_image,
            tokens=tokens_per_image,
            size=(56, 56),
        )
        for number in range(IMAGES)
    )
    example = Example(input_ids=np.array(ids, np.int32), trained=trained, images=images)
    return Pack(examples=(example,), pack_tokens=len(ids))


def counted(model: Any, pack: Pack, frozen: str) -> int:
    model.set_attn_implementation("eager")
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen and frozen in name))
    ids = torch.from_numpy(pack.input_ids.astype(np.int64))[None]
    kept = torch.from_numpy(np.flatnonzero(pack.trained) - 1)
    pictures = torch.randn(IMAGES, 3, 56, 56)
    kinds = {"token_type_ids": (ids == IMAGE_ID).long()} if "Gemma" in type(model).__name__ else {}
    with FlopCounterMode(display=False) as counter:
        model(
            input_ids=ids, pixel_values=pictures, logits_to_keep=kept, use_cache=False, **kinds
        ).logits.sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("is_frozen", [False, True], ids=["full", "frozen vision"])
@pytest.mark.parametrize(
    ("make", "rule", "tokens"),
    [(gemma3, "image_blocks", 4), (llava, "causal", 16)],
    ids=["gemma3", "llava"],
)
def test_other_kinds_are_what_torch_counts(
    make: Any, rule: AttentionRule, tokens: int, is_frozen: bool
) -> None:
    torch.manual_seed(0)
    model, pack = make(), pack_of(tokens)
    dims = described(model, rule)
    work = work_of_pack(dims, pack)
    # Eager attention multiplies every pair of tokens.
    every = Work(**{**vars(work), "token_pairs": work.tokens**2, "near_pairs": work.tokens**2})
    found = counted(model, pack, "vision_tower" if is_frozen else "")
    full = PartSetting(how="full", learning_rate=1e-5)
    settings: dict[PartName, PartSetting] = {
        "vision": PartSetting(how="frozen") if is_frozen else full,
        "projector": full,
        "language": full,
    }
    assert training_flops(dims, settings, every).total == pytest.approx(found, rel=0.001)


def test_what_makes_the_pairs_of_tokens() -> None:
    work = work_of_pack(described(gemma3(), "image_blocks"), pack_of(4))
    assert work.token_pairs == 38 * 39 // 2 + IMAGES * 6  # 4 image tokens also see those after them
    assert work.near_pairs == 8 * 9 // 2 + 30 * 8 + IMAGES * 6
    assert (work.image_tokens, work.patches, work.vision_tokens) == (8, 32, 32)
    work = work_of_pack(described(llava(), "causal"), pack_of(16))
    assert (work.image_tokens, work.patches, work.vision_tokens) == (32, 32, 34)
    assert work.patch_pairs == IMAGES * 17**2
    (picture,) = pictures_of(described(llava(), "causal"), pack_of(16).images[0])
    assert picture.rows == 4


def test_layers_above_the_one_that_is_read_are_no_work() -> None:
    model = llava()
    model.config.vision_feature_layer = -2
    dims = described(model, "causal")
    assert (dims.patch_attention.layers, dims.shapes.vision.layers) == (2, 3)
