"""Floating-point operations of a training step: arithmetic on sizes, for the share of a machine's
peak that training reaches (MFU).

Counted are matrix products alone, two operations for each multiply-add, and only what the step must
compute: real tokens (no padding), causal pairs of tokens inside one conversation, pairs of patches
inside one picture, the LM head at trained positions, nothing twice (activation checkpointing adds
nothing). Forward, with W the width, A heads × head width, K key-value heads × head width, F the
width of the MLP, V the vocabulary; v marks the vision tower, P the numbers of a patch:

    decoder layer    per token 2 (2 W A + 2 W K + 3 W F), per pair 4 A
    LM head          per trained token 2 W V
    vision block     per patch 2 (4 Wv Wv + 2 Wv Fv), per pair 4 Wv
    patch layer      per patch 2 P Wv
    projector        per image token 2 × the numbers of its matrices

Backward, in units of that forward: a trained matrix takes two (gradients of input and of weight), one
that is passed through takes one, one below everything that is trained takes none; attention takes two
where gradients pass. Adapters of rank r take three times 2 r (in + out) per token. The derivation
with a case by hand is in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from manako.core.errors import NotInThisVersion
from manako.core.family import PartName
from manako.core.recipe import PartSetting
from manako.plan.activations import VisionShape
from manako.plan.dims import Dims

MULTIPLY_ADD = 2
ATTENTION = 2 * MULTIPLY_ADD
"""Scores and their product with the values."""
BACKWARD = {"full": 2, "lora": 1, "frozen": 1}
"""Of a matrix through which gradients pass, in units of its forward."""
ADAPTED = 3
"""An adapter's own forward and backward, in units of its forward."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step holds. token_pairs, patch_pairs: pairs that attend to each other, counted inside
    one conversation (a token with itself and those before it) and inside one picture (all)."""

    tokens: int
    trained_tokens: int
    token_pairs: int
    image_tokens: int = 0
    patches: int = 0
    patch_pairs: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(**{name: value + vars(other)[name] for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Operations of one step, forward and backward, per part."""

    vision: int
    projector: int
    language: int

    @property
    def total(self) -> int:
        return self.vision + self.projector + self.language


def work_of(
    segments: Sequence[int], trained_tokens: int, pictures: Iterable[tuple[int, int]]
) -> Work:
    """Work of one pack. segments: boundaries of its conversations; pictures: (patches, tokens)."""
    seen = list(pictures)
    lengths = [end - start for start, end in pairwise(segments)]
    return Work(
        tokens=sum(lengths),
        trained_tokens=trained_tokens,
        token_pairs=sum(length * (length + 1) // 2 for length in lengths),
        image_tokens=sum(tokens for _, tokens in seen),
        patches=sum(patches for patches, _ in seen),
        patch_pairs=sum(patches**2 for patches, _ in seen),
    )


def training_flops(
    dims: Dims, settings: Mapping[PartName, PartSetting], work: Work, *, rank: int = 0
) -> Flops:
    """Operations of one step over `work`; rank: of adapters. Raises as `forward_flops` does."""
    _check_vision(dims.shapes.vision)
    how = {part: settings[part].how for part in settings}
    below_vision = how["vision"] != "frozen"
    below_projector = below_vision or how["projector"] != "frozen"
    return Flops(
        vision=_vision(dims.shapes.vision, how["vision"], work, rank),
        projector=_projector(dims.merger, how["projector"], below_vision, work, rank),
        language=_language(dims, how["language"], below_projector, work, rank),
    )


def forward_flops(dims: Dims, work: Work) -> Flops:
    """Operations of the forward pass alone.

    Raises `NotInThisVersion` for a vision tower with a gated MLP, whose patches attend in windows.
    """
    _check_vision(dims.shapes.vision)
    vision = dims.shapes.vision
    merger = sum(out * into for out, into in dims.merger)
    return Flops(
        vision=_patch_layer(vision, work) + _blocks(vision, work) + _patch_attention(vision, work),
        projector=MULTIPLY_ADD * work.image_tokens * merger,
        language=_decoder(dims, work) + _token_attention(dims, work) + _head(dims, work),
    )


def _check_vision(shape: VisionShape) -> None:
    if shape.block != "plain":
        raise NotInThisVersion(
            f"operations of a vision tower with {shape.block} blocks are not counted",
            next_step="count a family whose patches attend to their whole picture, as Qwen2-VL",
        )


def _vision(shape: VisionShape, how: str, work: Work, rank: int) -> int:
    patch_layer, blocks = _patch_layer(shape, work), _blocks(shape, work)
    attention = _patch_attention(shape, work)
    if how == "frozen":
        return patch_layer + blocks + attention
    passed = blocks * (1 + BACKWARD[how]) + attention * 3
    if how == "full":  # nothing lies below the patch layer: it needs the gradient of its weight
        return passed + patch_layer * 2
    width, ffn = shape.width, shape.ffn_width
    ends = (width + 3 * width) + (width + width) + 2 * (width + ffn)
    # Nothing below the first adapter is trained: no gradient of its input, nor of its matrix's.
    saved = MULTIPLY_ADD * work.patches * width * (3 * width + rank)
    return passed - saved + patch_layer + _adapters(work.patches * shape.layers * ends, rank)


def _projector(
    merger: Iterable[tuple[int, int]], how: str, below: bool, work: Work, rank: int
) -> int:
    matrices = list(merger)
    forward = MULTIPLY_ADD * work.image_tokens * sum(out * into for out, into in matrices)
    if how == "frozen":
        return forward * (2 if below else 1)
    if how == "full":  # the norm in front is trained too, so gradients pass every matrix
        return forward * 3
    ends = sum(out + into for out, into in matrices)
    saved = 0 if below or not matrices else matrices[0][1] * (matrices[0][0] + rank)
    passed = forward * 2 - MULTIPLY_ADD * work.image_tokens * saved
    return passed + _adapters(work.image_tokens * ends, rank)


def _language(dims: Dims, how: str, below: bool, work: Work, rank: int) -> int:
    decoder, attention, head = (
        _decoder(dims, work),
        _token_attention(dims, work),
        _head(dims, work),
    )
    if how == "frozen" and not below:
        return decoder + attention + head
    # The head is trained with the part, tied or not; adapters leave it alone.
    passed = (decoder + head) * (1 + BACKWARD[how]) + attention * 3
    if how != "lora":
        return passed
    ends = sum((out + into) * count for out, into, count in dims.linears)
    return passed - _first_saved(dims, below, work, rank) + _adapters(work.tokens * ends, rank)


def _first_saved(dims: Dims, below: bool, work: Work, rank: int) -> int:
    """Query, key and value of the first layer, where nothing below them is trained."""
    if below:
        return 0
    (query, width, _), _, (key, _, _) = dims.linears[:3]
    return MULTIPLY_ADD * work.tokens * width * (query + 2 * key + 3 * rank)


def _adapters(rows_times_ends: int, rank: int) -> int:
    return ADAPTED * MULTIPLY_ADD * rank * rows_times_ends


def _decoder(dims: Dims, work: Work) -> int:
    numbers = sum(out * into * count for out, into, count in dims.linears)
    return MULTIPLY_ADD * work.tokens * numbers


def _token_attention(dims: Dims, work: Work) -> int:
    layers = dims.attention.full + dims.attention.sliding
    return ATTENTION * work.token_pairs * dims.shapes.language.attention * layers


def _head(dims: Dims, work: Work) -> int:
    language = dims.shapes.language
    return MULTIPLY_ADD * work.trained_tokens * language.width * language.vocabulary


def _patch_layer(shape: VisionShape, work: Work) -> int:
    return MULTIPLY_ADD * work.patches * shape.patch_values * shape.width


def _blocks(shape: VisionShape, work: Work) -> int:
    numbers = 4 * shape.width**2 + 2 * shape.width * shape.ffn_width
    return MULTIPLY_ADD * work.patches * numbers * shape.layers


def _patch_attention(shape: VisionShape, work: Work) -> int:
    return ATTENTION * work.patch_pairs * shape.width * shape.layers
