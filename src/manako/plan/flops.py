"""Floating-point operations of a training step: arithmetic on sizes, for the share of a machine's
peak that training reaches (MFU). What a step holds stands in `plan/work.py`.

Counted are matrix products alone, two operations for each multiply-add, and only what the step must
compute: real tokens (no padding), causal pairs of tokens inside one conversation, pairs of patches
inside one picture, tile or window of it, the LM head at trained positions, no layer whose result
nobody reads, nothing twice (activation checkpointing adds nothing). Forward, with W the width, A heads × head width, K key-value heads × head width, F the
width of the MLP, V the vocabulary; v marks the vision tower, P the numbers of a patch:

    decoder layer    per token 2 (2 W A + 2 W K + 3 W F), per pair 4 A; of a mixture the experts that
                     one token passes, of latent attention A is the mean over keys and values
    LM head          per trained token 2 W V
    vision block     per patch 2 (4 Wv Wv + 2 Wv Fv), gated 2 (4 Wv Wv + 3 Wv Fv), per pair 4 Wv
    patch layer      per patch 2 P Wv
    projector        per row 2 × the numbers of its matrices; rows are image tokens, or patches where
                     a matrix stands before a resampler; there per pair 4 × the width of its heads

Backward, in units of that forward: a trained matrix takes two (gradients of input and of weight), one
that is passed through takes one, one below everything that is trained takes none; attention takes two
where gradients pass. Adapters of rank r take three times 2 r (in + out) per token. The derivation
with a case by hand is in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manako.core.errors import NotInThisVersion
from manako.core.family import PARTS, PartName
from manako.core.recipe import PartSetting
from manako.plan.dims import Dims
from manako.plan.projectors import Matrix
from manako.plan.work import Work

MULTIPLY_ADD = 2
ATTENTION = 2 * MULTIPLY_ADD
"""Scores and their product with the values."""
BACKWARD = {"full": 2, "lora": 1, "frozen": 1}
"""Of a matrix through which gradients pass, in units of its forward."""
ADAPTED = 3
"""An adapter's own forward and backward, in units of its forward."""
GATED_WIDENS = 2
"""Matrices of a gated MLP that widen: gate and up."""
RULES = ("causal", "image_blocks", "soft_capped")
"""Ways in which tokens see each other whose pairs are counted."""


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Operations of one step, forward and backward, per part."""

    vision: int
    projector: int
    language: int

    @property
    def total(self) -> int:
        return self.vision + self.projector + self.language


def training_flops(
    dims: Dims, settings: Mapping[PartName, PartSetting], work: Work, *, rank: int = 0
) -> Flops:
    """Operations of one step over `work`; rank: of adapters. Raises as `check_counted` does."""
    check_counted(dims)
    how = {part: settings[part].how for part in settings}
    below_vision = bool(dims.shapes.vision.layers) and how["vision"] != "frozen"
    has_projector = bool(dims.projector.matrices)
    below_projector = below_vision or (has_projector and how["projector"] != "frozen")
    return Flops(
        vision=_vision(dims, how["vision"], work, rank),
        projector=_projector(dims, how["projector"], below_vision, work, rank),
        language=_language(dims, how["language"], below_projector, work, rank),
    )


def forward_flops(dims: Dims, work: Work) -> Flops:
    """Operations of the forward pass alone. Raises as `check_counted` does."""
    check_counted(dims)
    return Flops(
        vision=_patch_layer(dims, work) + _blocks(dims, work) + _patch_attention(dims, work),
        projector=sum(_forward(m, work) for m in dims.projector.matrices) + _looks(dims, work),
        language=_decoder(dims, work) + _token_attention(dims, work) + _head(dims, work),
    )


def check_counted(dims: Dims) -> None:
    """Raise `NotInThisVersion`, naming it, where a model has something that is not counted here."""
    left_out = list(dims.left_out)
    if dims.rule is None:
        left_out.append("an architecture that no family file knows")
    elif dims.rule not in RULES:
        left_out.append(f"attention of the kind {dims.rule}")
    if left_out:
        raise NotInThisVersion(
            f"operations are not counted: this model has {', '.join(left_out)}",
            next_step="go by tokens per second, which are always measured",
        )


def matrix_numbers(dims: Dims) -> dict[PartName, int]:
    """Numbers of the matrices that are counted, by part, without embeddings and LM head: what a
    model's own weights must come to, or it has something that its config does not say."""
    shape = dims.shapes.vision
    layers = shape.layers * sum(out * into for out, into in vision_linears(dims))
    return {
        "vision": layers + shape.patch_values * shape.width + dims.patch_attention.unread,
        "projector": sum(m.numbers for m in dims.projector.matrices) + dims.projector.others,
        "language": dims.linears.passed + dims.linears.idle,
    }


def check_weights(dims: Dims, found: Mapping[PartName, int]) -> None:
    """Raise `NotInThisVersion` where a part of the model has other matrices than are counted."""
    counted = matrix_numbers(dims)
    for part in PARTS:
        if found[part] != counted[part]:
            raise NotInThisVersion(
                f"operations are not counted: the {part} part has matrices of {found[part]:,} "
                f"numbers, its config speaks of {counted[part]:,}",
                next_step="go by tokens per second, which are always measured",
            )


def vision_linears(dims: Dims) -> tuple[tuple[int, int], ...]:
    """(out, in) of the linear layers of one vision block; first those that read its input."""
    width, ffn = dims.shapes.vision.width, dims.shapes.vision.ffn_width
    into = ((3 * width, width),) if dims.patch_attention.is_fused else ((width, width),) * 3
    wide = GATED_WIDENS if dims.shapes.vision.block == "gated" else 1
    return (*into, (width, width), *((ffn, width),) * wide, (width, ffn))


def _vision(dims: Dims, how: str, work: Work, rank: int) -> int:
    patch_layer, blocks = _patch_layer(dims, work), _blocks(dims, work)
    attention = _patch_attention(dims, work)
    if how == "frozen":
        return patch_layer + blocks + attention
    passed = blocks * (1 + BACKWARD[how]) + attention * 3
    if how == "full":  # nothing lies below the patch layer: it needs the gradient of its weight
        return passed + patch_layer * 2
    linears, width = vision_linears(dims), dims.shapes.vision.width
    ends = dims.patch_attention.layers * sum(out + into for out, into in linears)
    # Nothing below the first adapters is trained: no gradient of their input.
    first = 1 if dims.patch_attention.is_fused else 3
    saved = MULTIPLY_ADD * work.vision_tokens * width * (3 * width + first * rank)
    return passed - saved + patch_layer + _adapters(work.vision_tokens * ends, rank)


def _projector(dims: Dims, how: str, below: bool, work: Work, rank: int) -> int:
    looks = _looks(dims, work) * (3 if below or how != "frozen" else 1)
    return looks + sum(_matrix(m, how, below, work, rank) for m in dims.projector.matrices)


def _matrix(matrix: Matrix, how: str, below: bool, work: Work, rank: int) -> int:
    forward, is_passed = _forward(matrix, work), _is_passed(matrix, how, below)
    found = forward * (1 + is_passed + (how == "full"))
    if how != "lora":
        return found
    rows = _rows(matrix, work) * matrix.count
    saved = 0 if is_passed else MULTIPLY_ADD * rank * rows * matrix.into
    return found - saved + _adapters(rows * (matrix.out + matrix.into), rank)


def _is_passed(matrix: Matrix, how: str, below: bool) -> bool:
    """Whether what the matrix reads needs a gradient."""
    return {
        "vision": below,
        "own": below or how == "full",
        "latents": how == "full",
        "inner": below or how != "frozen",
    }[matrix.reads]


def _forward(matrix: Matrix, work: Work) -> int:
    return MULTIPLY_ADD * _rows(matrix, work) * matrix.numbers


def _rows(matrix: Matrix, work: Work) -> int:
    patches = work.patches if matrix.rows != "tokens" else 0
    return patches + (work.image_tokens if matrix.rows != "patches" else 0)


def _looks(dims: Dims, work: Work) -> int:
    return ATTENTION * work.latent_pairs * dims.projector.pair_width


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
    ends = sum((out + into) * count for out, into, count in dims.linears.every)
    return passed - _first_saved(dims, below, work, rank) + _adapters(work.tokens * ends, rank)


def _first_saved(dims: Dims, below: bool, work: Work, rank: int) -> int:
    """Query, key and value of the first layer, where nothing below them is trained."""
    if below:
        return 0
    ends = sum(into * (out + rank) for out, into in dims.linears.first)
    return MULTIPLY_ADD * work.tokens * ends


def _adapters(rows_times_ends: int, rank: int) -> int:
    return ADAPTED * MULTIPLY_ADD * rank * rows_times_ends


def _decoder(dims: Dims, work: Work) -> int:
    return MULTIPLY_ADD * work.tokens * dims.linears.passed


def _token_attention(dims: Dims, work: Work) -> int:
    pairs = dims.attention.full * work.token_pairs + dims.attention.sliding * work.near_pairs
    return ATTENTION * pairs * dims.shapes.language.attention


def _head(dims: Dims, work: Work) -> int:
    language = dims.shapes.language
    return MULTIPLY_ADD * work.trained_tokens * language.width * language.vocabulary


def _patch_layer(dims: Dims, work: Work) -> int:
    shape = dims.shapes.vision
    return MULTIPLY_ADD * work.patches * shape.patch_values * shape.width


def _blocks(dims: Dims, work: Work) -> int:
    numbers = sum(out * into for out, into in vision_linears(dims))
    return MULTIPLY_ADD * work.vision_tokens * numbers * dims.patch_attention.layers


def _patch_attention(dims: Dims, work: Work) -> int:
    patching = dims.patch_attention
    pairs = patching.full * work.patch_pairs + patching.windowed * work.window_pairs
    return ATTENTION * pairs * dims.shapes.vision.width
