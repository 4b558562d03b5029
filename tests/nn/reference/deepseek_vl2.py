"""DeepSeek-VL2 in plain loops and float64: slow on purpose, to check the fast code against.

Written from the rules alone: the authors' public code (deepseek-ai/DeepSeek-VL2, MIT), the papers
of DeepSeek-VL2 (arXiv 2412.10302) and Pillow's documented `ImageOps.pad`. The language model is in
`deepseek_vl2_language`. NumPy only; nothing from `manako` is imported.

Weights are a mapping of published key names to arrays of any float type; every sum is in float64.
Arrays are float64 unless a docstring says otherwise and end in dimension letters: T tokens,
D width, V vocabulary, P tiles of a picture, L vectors of a tile, C colours or channels, Y rows,
X columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.blocks import (
    Array,
    Weights,
    apply_layer_norm,
    apply_linear,
    attention,
    gelu_erf,
    gelu_tanh,
    split_heads,
    tensor,
)
from reference.deepseek_vl2_language import Settings, decode

TILE_PIXELS = 384
GREY = 127  # int(0.5 * 255): what the padding is filled with
NEWLINE_KEY = "image_newline"
SEPARATOR_KEY = "view_seperator"  # the published spelling

# (width, height) in the order of the published configs; on a tie the earlier entry wins.
CANDIDATES = (
    (384, 384), (384, 768), (768, 384), (384, 1152), (1152, 384), (384, 1536), (1536, 384),
    (768, 768), (384, 1920), (1920, 384), (384, 2304), (2304, 384), (768, 1152), (1152, 768),
    (384, 2688), (2688, 384), (384, 3072), (3072, 384), (768, 1536), (1536, 768), (384, 3456),
    (3456, 384), (1152, 1152),
)  # fmt: skip

# What the authors' config classes say where a published file is silent.
VISION_DEFAULTS: Mapping[str, Any] = {"heads": 16}
PROJECTOR_DEFAULTS: Mapping[str, Any] = {"downsample_ratio": 2}
TOWER_EPS = 1e-6

Pixels = NDArray[np.uint8]
# Tiles [P, 3, Y, X] of a picture, the global view first, and its local (columns, rows).
Picture = tuple[Array, tuple[int, int]]


# -- pixels: authors' processor, Pillow's ImageOps.pad -------------------------------------------


def best_resolution(
    width: int, height: int, candidates: Sequence[tuple[int, int]] = CANDIDATES
) -> tuple[int, int]:
    """The candidate that keeps most pixels of the picture; then wastes least; then stands first."""
    best, best_kept, best_waste = candidates[0], -1, 0
    for wide, high in candidates:
        scale = min(wide / width, high / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        waste = wide * high - kept
        if kept > best_kept or (kept == best_kept and waste < best_waste):
            best, best_kept, best_waste = (wide, high), kept, waste
    return best


def resolution(
    width: int,
    height: int,
    pictures: int,
    candidates: Sequence[tuple[int, int]] = CANDIDATES,
    tile: int = TILE_PIXELS,
) -> tuple[int, int]:
    """(width, height) of the local view, where the whole conversation has `pictures` pictures."""
    return best_resolution(width, height, candidates) if pictures <= 2 else (tile, tile)


def pad_geometry(width: int, height: int, wide: int, high: int) -> tuple[int, int, int, int]:
    """(width, height, left, top) of the resized picture on a `wide` x `high` canvas, centred.

    `ImageOps.pad`: one side fits, the other and the offset are rounded half to even.
    """
    new_width, new_height = wide, high
    if width / height > wide / high:
        new_height = round(height / width * wide)
    elif width / height < wide / high:
        new_width = round(width / height * high)
    if new_width != wide:
        return new_width, new_height, round((wide - new_width) * 0.5), 0
    return new_width, new_height, 0, round((high - new_height) * 0.5)


def pad_canvas(resized_YXC: Pixels, wide: int, high: int, left: int, top: int) -> Pixels:
    """uint8 [high, wide, 3]: the resized picture on grey, at the place that `pad_geometry` says."""
    height, width, colours = resized_YXC.shape
    canvas_YXC = np.full((high, wide, colours), GREY, dtype=np.uint8)
    for y in range(height):
        for x in range(width):
            canvas_YXC[top + y, left + x] = resized_YXC[y, x]
    return canvas_YXC


def cut_tiles(canvas_YXC: Pixels, tile: int = TILE_PIXELS) -> Pixels:
    """[P, tile, tile, C] of a canvas, row by row, in each row from the left."""
    high, wide, _ = canvas_YXC.shape
    tiles = []
    for top in range(0, high, tile):
        for left in range(0, wide, tile):
            tiles.append(canvas_YXC[top : top + tile, left : left + tile])  # noqa: PERF401
    return np.stack(tiles)


def normalise_pixels(tiles_PYXC: Pixels) -> Array:
    """[P, C, Y, X] in -1..1 of uint8 [P, Y, X, C]: over 255, mean 0.5, deviation 0.5."""
    return (tiles_PYXC.transpose(0, 3, 1, 2).astype(np.float64) / 255 - 0.5) / 0.5


def token_count(columns: int, rows: int, side: int = 14) -> int:
    """Vectors of one picture: the global rows, the separator, the local rows; newlines counted."""
    return side * (side + 1) + 1 + side * rows * (side * columns + 1)


# -- vision tower: SigLIP so400m in timm's names, authors' siglip_vit ----------------------------


def patch_embedding(pixels_CYX: Array, weights: Weights, patch: int) -> Array:
    """[L, D]: one vector per whole patch, row-major; pixels past the last whole one are dropped."""
    kernel_DCYX = tensor(weights, "vision.patch_embed.proj.weight")
    bias_D = tensor(weights, "vision.patch_embed.proj.bias")
    _, high, wide = pixels_CYX.shape
    vectors = []
    for top in range(0, high - patch + 1, patch):
        for left in range(0, wide - patch + 1, patch):
            window_CYX = pixels_CYX[:, top : top + patch, left : left + patch]
            vectors.append([(kernel_CYX * window_CYX).sum() for kernel_CYX in kernel_DCYX] + bias_D)
    return np.stack(vectors)


def vision_block(x_LD: Array, weights: Weights, block: int, heads: int) -> Array:
    """[L, D]: x + attention(norm1 x), then + MLP(norm2); fused qkv, tanh GELU, eps 1e-6."""
    prefix = f"vision.blocks.{block}"
    normed_LD = apply_layer_norm(weights, f"{prefix}.norm1", x_LD, TOWER_EPS)
    fused = apply_linear(weights, f"{prefix}.attn.qkv", normed_LD, bias=True)
    width = x_LD.shape[1]
    q, k, v = (split_heads(fused[:, i * width : (i + 1) * width], heads) for i in range(3))
    mixed = attention(q, k, v, scale=(width // heads) ** -0.5)
    x_LD = x_LD + apply_linear(weights, f"{prefix}.attn.proj", mixed, bias=True)
    normed_LD = apply_layer_norm(weights, f"{prefix}.norm2", x_LD, TOWER_EPS)
    inner = gelu_tanh(apply_linear(weights, f"{prefix}.mlp.fc1", normed_LD, bias=True))
    return x_LD + apply_linear(weights, f"{prefix}.mlp.fc2", inner, bias=True)


def vision_tower(pixels_CYX: Array, weights: Weights, config: Settings) -> Array:
    """[L, D] of one tile: patches + positions, all blocks, the final norm; no pooling head."""
    vision = {**VISION_DEFAULTS, **config["vision_config"]}
    x_LD = patch_embedding(np.asarray(pixels_CYX, np.float64), weights, vision["patch_size"])
    x_LD = x_LD + tensor(weights, "vision.pos_embed")[0]
    for block in range(vision["layers"]):
        x_LD = vision_block(x_LD, weights, block, vision["heads"])
    return apply_layer_norm(weights, "vision.norm", x_LD, TOWER_EPS)


# -- projector and the vectors of one picture: authors' DeepseekVLV2ForCausalLM ------------------


def unfold(x_LC: Array, ratio: int = 2) -> Array:
    """[ceil(side/ratio)**2, C * ratio**2] of a square row-major grid [side**2, C].

    The grid grows to the right and to the bottom with zeros; channels come as (c, dy, dx).
    """
    side, channels = math.isqrt(x_LC.shape[0]), x_LC.shape[1]
    small = -(-side // ratio)
    out = np.zeros((small * small, channels * ratio * ratio))
    for y in range(side):
        for x in range(side):
            for c in range(channels):
                token = (y // ratio) * small + x // ratio
                channel = (c * ratio + y % ratio) * ratio + x % ratio
                out[token, channel] = x_LC[y * side + x, c]
    return out


def projector(x_LC: Array, weights: Weights, config: Settings) -> Array:
    """[L', D] of one tile's tower vectors [L, C]: unfold, linear, erf GELU, linear."""
    ratio = {**PROJECTOR_DEFAULTS, **config["projector_config"]}["downsample_ratio"]
    inner = gelu_erf(apply_linear(weights, "projector.layers.0", unfold(x_LC, ratio), bias=True))
    return apply_linear(weights, "projector.layers.2", inner, bias=True)


def lay_out(
    tiles_PLD: Array,
    columns: int,
    rows: int,
    newline_D: Array,
    separator_D: Array,
) -> Array:
    """[tokens, D] of one picture's tiles, the global view first (`tile_tag` 2D, head).

    Global rows, each with a newline; the separator; then the rows of the whole local map, each
    running through all tiles beside each other, with one newline at its end.
    """
    side = math.isqrt(tiles_PLD.shape[1])
    vectors: list[Array] = []
    for y in range(side):
        vectors += [tiles_PLD[0, y * side + x] for x in range(side)]
        vectors.append(newline_D)
    vectors.append(separator_D)
    for map_y in range(rows * side):
        for map_x in range(columns * side):
            tile = 1 + (map_y // side) * columns + map_x // side
            vectors.append(tiles_PLD[tile, (map_y % side) * side + map_x % side])
        vectors.append(newline_D)
    return np.stack(vectors)


def picture_vectors(picture: Picture, weights: Weights, config: Settings) -> Array:
    """[tokens, D] of one picture: tower and projector tile by tile, then the 2-D layout."""
    tiles_PCYX, (columns, rows) = picture
    if len(tiles_PCYX) != 1 + columns * rows:
        raise ValueError(f"{len(tiles_PCYX)} tiles for {columns} x {rows} and a global view")
    tiles = [projector(vision_tower(t, weights, config), weights, config) for t in tiles_PCYX]
    newline_D, separator_D = tensor(weights, NEWLINE_KEY), tensor(weights, SEPARATOR_KEY)
    return lay_out(np.stack(tiles), columns, rows, newline_D, separator_D)


# -- the whole ----------------------------------------------------------------------------------


def embed(
    ids_T: Sequence[int],
    weights: Weights,
    config: Settings,
    pictures: Sequence[Picture] = (),
    picture_mask_T: Sequence[bool] | None = None,
) -> Array:
    """[T, D]: rows of the table; the pictures' vectors, in order, where the mask is true."""
    table_VD = tensor(weights, "language.model.embed_tokens.weight")
    x_TD = np.stack([table_VD[token] for token in ids_T])
    vectors = [v for picture in pictures for v in picture_vectors(picture, weights, config)]
    places = [
        t for t, masked in enumerate(() if picture_mask_T is None else picture_mask_T) if masked
    ]
    if len(vectors) != len(places):
        raise ValueError(f"{len(vectors)} vectors of pictures for {len(places)} places")
    for place, vector_D in zip(places, vectors, strict=True):
        x_TD[place] = vector_D
    return x_TD


def logits(
    weights: Weights,
    config: Settings,
    ids_T: Sequence[int],
    pictures: Sequence[Picture] = (),
    picture_mask_T: Sequence[bool] | None = None,
) -> Array:
    """[T, V] of one conversation: `ids_T` integers, `picture_mask_T` true at `<image>` ids."""
    return decode(embed(ids_T, weights, config, pictures, picture_mask_T), weights, config)
