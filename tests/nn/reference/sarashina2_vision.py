"""Sarashina2-Vision and Sarashina2.2-Vision (sbintuitions), plain: resize, tower, merger, norm, Llama.

Sources: the model card, config.json and preprocessor_config.json of sbintuitions/sarashina2.2-vision-3b;
`smart_resize`, the order of patches and the tower are those of Qwen2-VL (QwenLM, Apache-2.0) by its
paper (arXiv 2409.12191) and published key names; the resize is that of torch's documented
`interpolate(mode="bicubic", align_corners=False, antialias=False)`. The published class
`Sarashina2VisionForCausalLM` puts one more LayerNorm, `norm`, behind the merger.

Weights are one mapping of published keys: `visual...`, `norm...`, `llm...`. The config has
`vision_config`, `text_config` and `image_token_index` as published.

Dimension letters: P patches, E tower width, M merged vectors (P / 4), D language width, N heads,
H head width, T positions, V vocabulary rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.blocks import (
    ACTIVATIONS,
    Array,
    Weights,
    apply_layer_norm,
    apply_linear,
    attention,
    gelu_erf,
    rotate_half_split,
    split_heads,
    tensor,
)
from reference.decoder import decode, embed, score

TOWER_EPS = 1e-6  # norm1, norm2 and merger.ln_q
NORM_EPS = 1e-5  # the LayerNorm behind the merger: torch's default
TOWER_THETA = 10000.0
CUBIC = -0.75  # torch's coefficient of the cubic kernel; Pillow's is -0.5

Grid = tuple[int, int, int]  # frames (in pairs), rows of patches, columns of patches


# ----------------------------------------------------------------------------- size and pixels


def smart_resize(
    height: int,
    width: int,
    *,
    factor: int = 28,
    min_pixels: int = 3136,
    max_pixels: int = 1016064,
) -> tuple[int, int]:
    """The target (height, width): multiples of `factor` whose product keeps to the limits (Qwen2-VL).

    Halves go to the even multiple (Python's `round`); ValueError from a ratio of sides above 200.
    """
    if max(height, width) / min(height, width) > 200:
        raise ValueError(f"sides {height} x {width}: one is more than 200 times the other")
    rounded = round(height / factor) * factor, round(width / factor) * factor
    if rounded[0] * rounded[1] > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        return (
            math.floor(height / shrink / factor) * factor,
            math.floor(width / shrink / factor) * factor,
        )
    if rounded[0] * rounded[1] < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        return (
            math.ceil(height * grow / factor) * factor,
            math.ceil(width * grow / factor) * factor,
        )
    return rounded


def image_tokens(grid: Grid, *, merge: int = 2) -> int:
    """Vectors of a picture: its patches over merge ** 2."""
    return grid[0] * grid[1] * grid[2] // merge**2


def normalise(picture_HWC: NDArray[np.uint8]) -> Array:
    """Bytes [H, W, 3] -> float64 [3, H, W]: times 1/255, then mean = std = 0.5; before any resize."""
    return (np.asarray(picture_HWC, dtype=np.float64) / 255.0 - 0.5).transpose(2, 0, 1) / 0.5


def cubic_weight(distance: float) -> float:
    """Keys' cubic kernel with a = -0.75 at a distance in source pixels; 0 from 2 on."""
    x = abs(distance)
    if x <= 1.0:
        return (CUBIC + 2.0) * x**3 - (CUBIC + 3.0) * x**2 + 1.0
    if x < 2.0:
        return CUBIC * x**3 - 5.0 * CUBIC * x**2 + 8.0 * CUBIC * x - 4.0 * CUBIC
    return 0.0


def cubic_taps(index: int, target: int, source: int) -> list[tuple[int, float]]:
    """The four (source index, weight) of one target pixel; pixels beyond the edge are the edge's.

    Pixel centres meet (`align_corners` false), and the kernel is never widened (`antialias` false).
    """
    place = (index + 0.5) * source / target - 0.5
    first = math.floor(place) - 1
    return [
        (min(max(tap, 0), source - 1), cubic_weight(place - tap)) for tap in range(first, first + 4)
    ]


def resize_bicubic(picture_CHW: Array, height: int, width: int) -> Array:
    """[C, H, W] -> [C, height, width] in float: no antialias, no clamp, no rounding.

    Rows first, then columns. torch in float64 gives the same to 1e-13; in float32 it also rounds the
    places of the pixels, which moved noise of spread 1 by up to 1.5e-5.
    """
    channels, source_height, source_width = picture_CHW.shape
    rows = np.zeros((channels, height, source_width))
    for y in range(height):
        for tap, weight in cubic_taps(y, height, source_height):
            rows[:, y] += weight * picture_CHW[:, tap]
    resized = np.zeros((channels, height, width))
    for x in range(width):
        for tap, weight in cubic_taps(x, width, source_width):
            resized[:, :, x] += weight * rows[:, :, tap]
    return resized


def cut_patches(
    picture_CHW: Array, *, patch: int = 14, merge: int = 2, temporal: int = 2
) -> tuple[Array, Grid]:
    """A normalised float picture [C, H, W] -> patches [P, C * temporal * patch * patch] and its grid.

    Patches go by blocks of merge x merge, blocks row by row, and row by row inside a block
    (t, h / 2, w / 2, 2, 2); a patch is flat as (C, temporal, patch, patch), the one picture being
    every frame. H and W are multiples of merge * patch.
    """
    _, height, width = picture_CHW.shape
    rows, columns = height // patch, width // patch
    patches = []
    for block_row in range(0, rows, merge):
        for block_column in range(0, columns, merge):
            for row in range(block_row, block_row + merge):
                for column in range(block_column, block_column + merge):
                    top, left = row * patch, column * patch
                    window = picture_CHW[:, top : top + patch, left : left + patch]
                    frames = [[channel] * temporal for channel in window]
                    patches.append(np.array(frames).ravel())
    return np.array(patches), (1, rows, columns)


def preprocess(
    picture_HWC: NDArray[np.uint8],
    *,
    patch: int = 14,
    merge: int = 2,
    temporal: int = 2,
    min_pixels: int = 3136,
    max_pixels: int = 1016064,
) -> tuple[Array, Grid]:
    """A picture's bytes [H, W, 3] -> patches and grid: normalise first, then resize, then cut."""
    height, width = smart_resize(
        picture_HWC.shape[0],
        picture_HWC.shape[1],
        factor=patch * merge,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
    resized = resize_bicubic(normalise(picture_HWC), height, width)
    return cut_patches(resized, patch=patch, merge=merge, temporal=temporal)


# ---------------------------------------------------------------------------- patches -> vectors


def embed_patches(weights: Weights, patches_PX: Array) -> Array:
    """The Conv3d without bias, whose kernel is a whole patch: a dot product for each -> [P, E]."""
    kernel = tensor(weights, "visual.patch_embed.proj.weight")
    flat_EX = kernel.reshape(kernel.shape[0], -1)
    return np.array([[float(one @ patch) for one in flat_EX] for patch in patches_PX])


def patch_places(grid: Grid, *, merge: int = 2) -> list[tuple[int, int]]:
    """(row, column) of every patch, in the order of `cut_patches`."""
    frames, rows, columns = grid
    return [
        (block_row + row, block_column + column)
        for _ in range(frames)
        for block_row in range(0, rows, merge)
        for block_column in range(0, columns, merge)
        for row in range(merge)
        for column in range(merge)
    ]


def tower_angles(grid: Grid, head_width: int, *, merge: int = 2) -> Array:
    """[P, H / 2] rotary angles: the first quarter of H from the row, the second from the column.

    Frequency i of either is 10000 ** (-2 i / (H / 2)), i = 0 .. H / 4 - 1.
    """
    half = head_width // 2
    frequencies = [TOWER_THETA ** (-2.0 * i / half) for i in range(half // 2)]
    angles = [
        [row * one for one in frequencies] + [column * one for one in frequencies]
        for row, column in patch_places(grid, merge=merge)
    ]
    return np.array(angles)


def tower_block(
    weights: Weights, config: Mapping[str, Any], number: int, x_PE: Array, angles_PA: Array
) -> Array:
    """`visual.blocks.N` over the patches of one picture [P, E] -> [P, E]; every patch sees every other."""
    block, heads = f"visual.blocks.{number}", config["num_heads"]
    normed = apply_layer_norm(weights, f"{block}.norm1", x_PE, TOWER_EPS)
    q, k, v = np.split(apply_linear(weights, f"{block}.attn.qkv", normed, bias=True), 3, axis=1)
    mixed = attention(
        rotate_half_split(split_heads(q, heads), angles_PA),
        rotate_half_split(split_heads(k, heads), angles_PA),
        split_heads(v, heads),
    )
    x_PE = x_PE + apply_linear(weights, f"{block}.attn.proj", mixed, bias=True)
    normed = apply_layer_norm(weights, f"{block}.norm2", x_PE, TOWER_EPS)
    inner = apply_linear(weights, f"{block}.mlp.fc1", normed, bias=True)
    inner = ACTIVATIONS[config["hidden_act"]](inner)
    return x_PE + apply_linear(weights, f"{block}.mlp.fc2", inner, bias=True)


def vision_features(
    weights: Weights, config: Mapping[str, Any], patches_PX: Array, grid: Grid
) -> Array:
    """One picture's patches [P, C * temporal * patch ** 2] -> [P, E], before the merger.

    Config: `vision_config` (depth, embed_dim, num_heads, hidden_act, spatial_merge_size);
    the tower has no learned positions and no norm of its own at the end.
    """
    x_PE = embed_patches(weights, np.asarray(patches_PX, dtype=np.float64))
    width = config["embed_dim"] // config["num_heads"]
    angles = tower_angles(grid, width, merge=config["spatial_merge_size"])
    for number in range(config["depth"]):
        x_PE = tower_block(weights, config, number, x_PE, angles)
    return x_PE


def merge_patches(weights: Weights, x_PE: Array, *, merge: int = 2) -> Array:
    """`visual.merger`: ln_q per patch, merge ** 2 patches in a row side by side, mlp.0, erf GELU, mlp.2.

    [P, E] -> [M, D]. The erf GELU stands here whatever `hidden_act` says.
    """
    normed = apply_layer_norm(weights, "visual.merger.ln_q", x_PE, TOWER_EPS)
    blocks = [
        np.concatenate(list(normed[first : first + merge**2]))
        for first in range(0, len(normed), merge**2)
    ]
    inner = gelu_erf(apply_linear(weights, "visual.merger.mlp.0", np.array(blocks), bias=True))
    return apply_linear(weights, "visual.merger.mlp.2", inner, bias=True)


def final_norm(weights: Weights, x_MD: Array) -> Array:
    """The LayerNorm `norm` (eps 1e-5) over merged vectors [M, D]."""
    return apply_layer_norm(weights, "norm", x_MD, NORM_EPS)


def picture_vectors(
    weights: Weights, config: Mapping[str, Any], patches_PX: Array, grid: Grid
) -> Array:
    """One picture's patches -> the [M, D] vectors the language model gets; config: the root's."""
    vision = config["vision_config"]
    features = vision_features(weights, vision, patches_PX, grid)
    merged = merge_patches(weights, features, merge=vision["spatial_merge_size"])
    return final_norm(weights, merged)


# ------------------------------------------------------------------------------- the sequence


def assemble(
    weights: Weights, token_ids: list[int], vectors_RD: list[Array], image_token_index: int
) -> Array:
    """Embeddings [T, D] in which the n-th `image_token_index` is the n-th vector of all pictures.

    ValueError where the number of such ids is not the number of vectors.
    """
    x_TD = embed(weights, token_ids, prefix="llm.")
    waiting = [row for rows_MD in vectors_RD for row in rows_MD]
    places = [at for at, token in enumerate(token_ids) if token == image_token_index]
    if len(places) != len(waiting):
        raise ValueError(f"{len(places)} image ids for {len(waiting)} vectors")
    for at, row in zip(places, waiting, strict=True):
        x_TD[at] = row
    return x_TD


def language_logits(weights: Weights, config: Mapping[str, Any], x_TD: Array) -> Array:
    """Llama over given embeddings [T, D] -> [T, V]: positions 0, 1, 2, ...; no biases; config: `text_config`."""
    return score(
        weights, config, decode(weights, config, x_TD, prefix="llm.", bias=False), prefix="llm."
    )


def logits(
    weights: Weights,
    config: Mapping[str, Any],
    token_ids: list[int],
    pictures: list[tuple[Array, Grid]],
) -> Array:
    """Ids with one image id per vector, and (patches, grid) per picture in order -> float64 [T, V]."""
    vectors = [picture_vectors(weights, config, patches, grid) for patches, grid in pictures]
    x_TD = assemble(weights, token_ids, vectors, config["image_token_index"])
    return language_logits(weights, config["text_config"], x_TD)
