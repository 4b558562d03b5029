"""What a forward pass keeps for the backward pass, counted from the sizes in config.json.

The count follows the operations of transformers 5.23 under our packed attention: pre-norm decoder
layers with RMSNorm, grouped-query attention (keys and values repeated to all heads) and a gated
MLP; vision blocks with LayerNorm and a two-layer MLP, or (gated) with RMSNorm and a gated one; a
projector that merges patches and has two layers behind such a norm. Windows in the vision tower
change nothing here: attention keeps no matrix. In numbers per token or patch, with W the width, A
heads × head width, F the width of the MLP and R the rank of adapters; N stands for numbers that
stay float32 under bfloat16 (what RMSNorm keeps), H for those that become bfloat16:

                     trained in full            through adapters                frozen, passed through
    decoder layer    N 4 W, H 2 W + 5 A + 4 F   N 2 W, H 2 W + 5 A + 4 F + 7 R  N 2 W, H 4 A + 3 F
    last norm        N 2 W                      N W                             N W
    vision block     H 9 W + 3 F                H 9 W + 3 F + 4 R               (nothing lies below)
      gated          N 2 W, H 9 W + 4 F         N 2 W, H 7 W + 4 F + 5 R        (nothing lies below)
    projector        H 4 W                      H 3 W, 4 W over a trained part  H 2 W, or nothing
      gated          N W, H 4 W                 H 3 W; N W over a trained part  N W, H W, or nothing

Under bfloat16 each linear layer behind a norm casts the norm's output for itself: five in a decoder
layer, 5 W instead of 2 W, and three in a gated vision block, 3 W instead of 2 W. A trained patch
layer then keeps pixels of its own.
Of a decoder layer or vision block that is computed again in the backward pass, its input stays: W,
float32 where the embeddings are. All of one such layer then lives at a time.
Left out: dropout masks, padding of short segments to a common length, buffers of the libraries,
and LayerNorm in float32, which CUDA's autocast chooses and the CPU's does not.
`tests/plan/` compares the count with the tensors that autograd really keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from manako.core.errors import CheckpointError
from manako.core.family import PartName, VisionBlock, families
from manako.core.recipe import PartSetting
from manako.plan.packs import PackCost

FLOAT32_BYTES, HALF_BYTES = 4, 2
TOKEN_BYTES = 8 * 5
"""Id, three position axes and kind of a token, as 64-bit numbers."""
SHARED_INPUTS, CAST_INPUTS, VISION_CAST_INPUTS = 2, 5, 3
"""Inputs of linear layers behind the two norms of a layer: shared in float32, cast one by one (in
a decoder layer: query, key, value, gate, up; in a gated vision block these three are one: qkv)."""
DECODER_LINEARS = 7
"""Linear layers of a decoder layer: query, key, value, output, gate, up, down."""
VISION_LINEARS: Mapping[VisionBlock, int] = {"plain": 4, "gated": 5}
TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "llm_cfg")
LOGIT_COPIES = 3
"""Float32 copies of the logits of trained positions when the backward pass begins: the kept
log-probabilities, their gradient, and the gradient of the logits."""
BACKWARD_COPIES = 3
"""Tensors of the MLP's width that live for a moment in the backward pass of one layer."""


@dataclass(frozen=True, kw_only=True)
class LanguageShape:
    """Sizes of the decoder. attention: heads × head width."""

    width: int
    layers: int
    attention: int
    head_width: int
    ffn_width: int
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """Sizes of the vision tower. patch_values: numbers of one patch as the model reads it.
    block: as the family says (`core.family.Family`)."""

    width: int
    layers: int
    head_width: int
    ffn_width: int
    patch_values: int
    block: VisionBlock = "plain"


NO_VISION = VisionShape(width=0, layers=0, head_width=0, ffn_width=0, patch_values=0)
"""Of a text model."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Sizes of both towers."""

    language: LanguageShape
    vision: VisionShape


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Bytes kept for the backward pass, per part, and bytes of the model's inputs.

    again: what the largest layer that is computed again keeps while its gradients are made.
    """

    vision: int
    projector: int
    language: int
    inputs: int
    again: int = 0

    @property
    def activations(self) -> int:
        return self.vision + self.projector + self.language


def read_shapes(config: Mapping[str, Any]) -> Shapes:
    """Sizes from a config.json in the words of transformers, text fields nested or flat.

    Raises `CheckpointError` naming a field that is missing.
    """
    text = text_of(config)
    width, heads = _whole(text, "hidden_size"), _whole(text, "num_attention_heads")
    head_width = int(text.get("head_dim") or width // heads)
    if text.get("use_mla", True) and text.get("kv_lora_rank"):
        head_width = _whole(text, "qk_nope_head_dim") + _whole(text, "qk_rope_head_dim")
    return Shapes(
        language=LanguageShape(
            width=width,
            layers=_whole(text, "num_hidden_layers"),
            attention=heads * head_width,
            head_width=head_width,
            ffn_width=_ffn_width(text),
            vocabulary=_whole(text, "vocab_size"),
        ),
        vision=_vision_shape(config),
    )


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language part of a config; the whole where it has none of its own."""
    return next((config[name] for name in TEXT_CONFIGS if config.get(name)), config)


def _ffn_width(text: Mapping[str, Any]) -> int:
    """Width of the MLPs that one token passes in a layer: of a mixture, its active experts'."""
    expert = text.get("moe_intermediate_size")
    if not expert:
        return _whole(text, "intermediate_size")
    active = _whole(text, "num_experts_per_tok") + int(text.get("n_shared_experts") or 0)
    return int(expert) * active


def _vision_shape(config: Mapping[str, Any]) -> VisionShape:
    """Nothing where the family is a text model."""
    model_type = str(config.get("model_type", ""))
    known = [f for f in families().items.values() if model_type in f.model_types]
    if known and not any(family.takes_images for family in known):
        return NO_VISION
    vision = config.get("vision_config") or config.get("vision_tower_cfg") or {}
    width = _whole(vision, "embed_dim", "hidden_size", "width")
    ffn_width = vision.get("intermediate_size") or width * float(vision.get("mlp_ratio", 4))
    return VisionShape(
        width=width,
        layers=_whole(vision, "depth", "num_hidden_layers", "layers"),
        head_width=width // _whole(vision, "num_heads", "num_attention_heads", "heads"),
        ffn_width=int(ffn_width),
        patch_values=_patch_values(vision),
        block=vision_block(config),
    )


def vision_block(config: Mapping[str, Any]) -> VisionBlock:
    """What the family of this config says; `plain` where no family knows it."""
    kind = str(config.get("model_type", ""))
    known = (f for f in families().items.values() if kind in f.model_types)
    return next((f.vision_block for f in known if not f.refusal(config)), "plain")


def _whole(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    raise CheckpointError(
        f"config.json lacks {' or '.join(names)}, which the plan needs",
        next_step="take config.json from the same revision as the weights",
    )


def _patch_values(vision: Mapping[str, Any]) -> int:
    channels = int(vision.get("in_chans") or vision.get("in_channels") or 3)
    return channels * int(vision.get("temporal_patch_size", 1)) * _whole(vision, "patch_size") ** 2


def count_kept(
    shapes: Shapes,
    settings: Mapping[PartName, PartSetting],
    pack: PackCost,
    *,
    rank: int,
    is_half: bool,
    again: Collection[PartName] = (),
    stream_bytes: int = FLOAT32_BYTES,
) -> Kept:
    """What stays between the passes of one pack; log-probabilities are counted with the logits.

    rank: of adapters. is_half: trained under bfloat16. again: parts whose layers are computed again.
    stream_bytes: of a number that one decoder layer hands to the next, as wide as the embeddings.
    """
    how = {part: setting.how for part, setting in settings.items()}
    half = HALF_BYTES if is_half else FLOAT32_BYTES
    language, vision = shapes.language, shapes.vision
    layer = _layer_bytes(language, how["language"], rank, half)
    block = _block_bytes(vision, how["vision"], rank, half)
    kept_layer = language.width * stream_bytes if "language" in again else layer
    kept_block = vision.width * half if "vision" in again else block
    return Kept(
        vision=pack.vision_patches * _vision_bytes(vision, how["vision"], half, kept_block),
        projector=pack.vision_patches * _projector_bytes(vision, how, half),
        language=_language_bytes(language, how["language"], pack, half, kept_layer),
        inputs=pack.tokens * TOKEN_BYTES + pack.vision_patches * vision.patch_values * half,
        again=max(
            pack.tokens * layer if "language" in again else 0,
            pack.vision_patches * block if "vision" in again else 0,
        ),
    )


def logit_bytes(shapes: Shapes, pack: PackCost) -> int:
    """The logits of trained positions, all copies, when the backward pass begins."""
    return pack.trained_tokens * shapes.language.vocabulary * FLOAT32_BYTES * LOGIT_COPIES


def moment_bytes(shapes: Shapes, pack: PackCost, *, is_half: bool) -> int:
    """What lives for a moment while the gradients of one layer are made."""
    language = pack.tokens * shapes.language.ffn_width
    vision = pack.vision_patches * shapes.vision.ffn_width
    return BACKWARD_COPIES * max(language, vision) * (HALF_BYTES if is_half else FLOAT32_BYTES)


def _layer_bytes(shape: LanguageShape, how: str, rank: int, half: int) -> int:
    """Bytes per token that one decoder layer keeps."""
    width, attention, ffn = shape.width, shape.attention, shape.ffn_width
    inputs = width * (CAST_INPUTS if half < FLOAT32_BYTES else SHARED_INPUTS)
    trained = inputs + 5 * attention + 4 * ffn
    norms, others = {
        "full": (4 * width, trained),
        "lora": (2 * width, trained + DECODER_LINEARS * rank),
        "frozen": (2 * width, 4 * attention + 3 * ffn),
    }[how]
    return FLOAT32_BYTES * norms + half * others


def _language_bytes(
    shape: LanguageShape, how: str, pack: PackCost, half: int, layer_bytes: int
) -> int:
    last = shape.width * (2 if how == "full" else 1)
    angles = 2 * shape.head_width
    per_token = shape.layers * layer_bytes + FLOAT32_BYTES * (last + angles)
    scored = pack.trained_tokens * shape.width * half if how == "full" else 0
    return pack.tokens * per_token + scored


def _block_bytes(shape: VisionShape, how: str, rank: int, half: int) -> int:
    """Bytes per patch that one vision block keeps, where gradients reach it."""
    adapters = VISION_LINEARS[shape.block] * rank if how == "lora" else 0
    norms, others = _vision_block_numbers(shape, how, half)
    return FLOAT32_BYTES * norms + half * (others + adapters)


def _vision_bytes(shape: VisionShape, how: str, half: int, block_bytes: int) -> int:
    if how == "frozen":
        return 0
    pixels = shape.patch_values if how == "full" and half < FLOAT32_BYTES else 0
    angles = FLOAT32_BYTES * 2 * shape.head_width
    return shape.layers * block_bytes + half * pixels + angles


def _vision_block_numbers(shape: VisionShape, how: str, half: int) -> tuple[int, int]:
    """Numbers of one block that stay float32, and the others."""
    if shape.block == "plain":
        return 0, 9 * shape.width + 3 * shape.ffn_width
    inputs = VISION_CAST_INPUTS if half < FLOAT32_BYTES else SHARED_INPUTS
    scaled = 2 if how == "full" else 0
    return 2 * shape.width, (inputs + scaled + 5) * shape.width + 4 * shape.ffn_width


def _projector_bytes(shape: VisionShape, how: Mapping[PartName, str], half: int) -> int:
    """Bytes per patch. Layers keep three tensors where their weights change, else one; a norm keeps
    its input where anything at or below it changes, and RMSNorm what it scales where it changes."""
    own, is_passed = how["projector"], how["vision"] != "frozen"
    if own == "frozen" and not is_passed:
        return 0
    is_gated = shape.block == "gated"
    norm_input = int(own == "full" or is_passed) * (FLOAT32_BYTES if is_gated else half)
    scaled = half if is_gated and own == "full" else 0
    layers = half * (1 if own == "frozen" else 3)
    return shape.width * (norm_input + scaled + layers)
