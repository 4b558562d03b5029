"""Heron-NVILA-Lite (turing-motors), plain: tiles, SigLIP tower, 2 x 2 downsample, projector, Qwen2.

Sources: the Heron-NVILA-Lite model cards (`mlp_downsample_2x2_fix`, tiles of 448), the authors' public
code NVlabs/VILA (Apache-2.0; `llava/remote_code`, `scripts/NVILA-Lite`) for the rules, and the config
and key names of SigLIP so400m and Qwen2.5. Written from these facts, without their code.

Weights come as three mappings named as the published folders: `llm` (`model...`, `lm_head.weight`),
`vision_tower` (`vision_model...`), `mm_projector` (`layers.1/2/4`). The config is the root config with
`llm_cfg`, `vision_tower_cfg` and `mm_vision_select_layer` as published.

Dimension letters: P patches of one tile, C tower width, Q vectors of one tile, D language width,
T positions, V vocabulary rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    split_heads,
    tensor,
)
from reference.decoder import decode, embed, score

PROJECTOR_EPS = 1e-5  # torch's default for LayerNorm, which the authors' projector takes
PLACEHOLDER = "<image>"

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class View:
    """One tile: the whole picture resized to `resized` (width, height), then cut to `box`."""

    resized: tuple[int, int]
    box: Box  # left, top, right, bottom in pixels of the resized picture


# ----------------------------------------------------------------- which tiles a picture becomes


def candidate_grids(min_tiles: int = 1, max_tiles: int = 12) -> list[tuple[int, int]]:
    """All (columns, rows) with min_tiles <= columns * rows <= max_tiles, fewest tiles first.

    The order inside one number of tiles never decides: see `test_order_within_a_count`.
    """
    sides = range(1, max_tiles + 1)
    grids = [
        (columns, rows)
        for columns in sides
        for rows in sides
        if min_tiles <= columns * rows <= max_tiles
    ]
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def choose_grid(
    width: int, height: int, *, tile: int = 448, min_tiles: int = 1, max_tiles: int = 12
) -> tuple[int, int]:
    """The grid (columns, rows) whose ratio is nearest to the picture's.

    On an exact tie a later, larger grid wins only if the picture has more than half its pixels.
    """
    best, best_distance = (1, 1), float("inf")
    for columns, rows in candidate_grids(min_tiles, max_tiles):
        distance = abs(width / height - columns / rows)
        fills = width * height > 0.5 * tile * tile * columns * rows
        if distance < best_distance or (distance == best_distance and fills):
            best, best_distance = (columns, rows), distance
    return best


def views_of_one_picture(
    width: int, height: int, *, tile: int = 448, min_tiles: int = 1, max_tiles: int = 12
) -> list[View]:
    """The only picture of a prompt: tiles row by row, and the whole picture last if there are several."""
    columns, rows = choose_grid(width, height, tile=tile, min_tiles=min_tiles, max_tiles=max_tiles)
    resized = (columns * tile, rows * tile)
    views = []
    for row in range(rows):
        for column in range(columns):
            left, top = column * tile, row * tile
            views.append(View(resized=resized, box=(left, top, left + tile, top + tile)))
    return views if len(views) == 1 else [*views, whole_view(tile)]


def whole_view(tile: int = 448) -> View:
    """The whole picture squashed into one tile."""
    return View(resized=(tile, tile), box=(0, 0, tile, tile))


def views_of_pictures(
    sizes: list[tuple[int, int]], *, tile: int = 448, min_tiles: int = 1, max_tiles: int = 12
) -> list[list[View]]:
    """Per picture (width, height) of a prompt, its views: tiles for a single one, else one view each."""
    if len(sizes) == 1:
        width, height = sizes[0]
        return [
            views_of_one_picture(width, height, tile=tile, min_tiles=min_tiles, max_tiles=max_tiles)
        ]
    return [[whole_view(tile)] for _ in sizes]


def normalise(tile_HWC: NDArray[np.uint8]) -> Array:
    """A tile's bytes [H, W, 3] -> float64 [3, H, W]: times 1/255, then mean = std = 0.5."""
    return (np.asarray(tile_HWC, dtype=np.float64) / 255.0 - 0.5).transpose(2, 0, 1) / 0.5


# ------------------------------------------------------------------------------ pixels -> vectors


def embed_patches(weights: Weights, config: Mapping[str, Any], tile_CHW: Array) -> Array:
    """The patch convolution, patch by patch, plus learned positions: [3, H, W] -> [P, C], row by row."""
    patch = config["patch_size"]
    kernel = tensor(weights, "vision_model.embeddings.patch_embedding.weight")
    bias = tensor(weights, "vision_model.embeddings.patch_embedding.bias")
    rows = []
    for top in range(0, tile_CHW.shape[1] - patch + 1, patch):
        for left in range(0, tile_CHW.shape[2] - patch + 1, patch):
            window = tile_CHW[:, top : top + patch, left : left + patch]
            rows.append([float((window * one).sum()) for one in kernel] + bias)
    return np.array(rows) + tensor(weights, "vision_model.embeddings.position_embedding.weight")


def tower_layer(weights: Weights, config: Mapping[str, Any], number: int, x_PC: Array) -> Array:
    """One SigLIP encoder layer [P, C] -> [P, C]: pre-norm, full attention, two-layer MLP, all biased."""
    layer = f"vision_model.encoder.layers.{number}"
    eps, heads = float(config["layer_norm_eps"]), config["num_attention_heads"]
    normed = apply_layer_norm(weights, f"{layer}.layer_norm1", x_PC, eps)
    q, k, v = (
        split_heads(apply_linear(weights, f"{layer}.self_attn.{one}", normed, bias=True), heads)
        for one in ("q_proj", "k_proj", "v_proj")
    )
    x_PC = x_PC + apply_linear(
        weights, f"{layer}.self_attn.out_proj", attention(q, k, v), bias=True
    )
    normed = apply_layer_norm(weights, f"{layer}.layer_norm2", x_PC, eps)
    inner = apply_linear(weights, f"{layer}.mlp.fc1", normed, bias=True)
    inner = ACTIVATIONS[config["hidden_act"]](inner)
    return x_PC + apply_linear(weights, f"{layer}.mlp.fc2", inner, bias=True)


def vision_features(
    weights: Weights, config: Mapping[str, Any], tile_CHW: Array, *, select_layer: int = -2
) -> Array:
    """One normalised tile [3, H, W] -> [P, C], every patch kept and no norm after the layers.

    `select_layer` counts hidden states from the end, of which there is one more than layers: -2 is
    the output of the last layer but one. Config: the tower's (num_hidden_layers, num_attention_heads,
    patch_size, layer_norm_eps, hidden_act). Keys `vision_model.embeddings...`, `vision_model.encoder...`.
    """
    x_PC = embed_patches(weights, config, np.asarray(tile_CHW, dtype=np.float64))
    for number in range(config["num_hidden_layers"] + 1 + select_layer):
        x_PC = tower_layer(weights, config, number, x_PC)
    return x_PC


def downsample(x_PC: Array) -> Array:
    """2 x 2 neighbours side by side: [g * g, C] -> [ceil(g / 2) ** 2, 4 * C], row by row.

    An odd grid gets a zero row below and a zero column at the right. A vector is its four patches
    whole, in the order upper left, upper right, lower left, lower right (`mlp_downsample_2x2_fix`).
    """
    side = round(len(x_PC) ** 0.5)
    nothing = np.zeros(x_PC.shape[1])
    vectors = []
    for top in range(0, side, 2):
        for left in range(0, side, 2):
            neighbours = []
            for row in (top, top + 1):
                for column in (left, left + 1):
                    inside = row < side and column < side
                    neighbours.append(x_PC[row * side + column] if inside else nothing)
            vectors.append(np.concatenate(neighbours))
    return np.array(vectors)


def project(weights: Weights, x_Q4C: Array) -> Array:
    """`layers.1` LayerNorm (eps 1e-5), `layers.2` linear, erf GELU, `layers.4` linear: [Q, 4C] -> [Q, D]."""
    normed = apply_layer_norm(weights, "layers.1", x_Q4C, PROJECTOR_EPS)
    inner = gelu_erf(apply_linear(weights, "layers.2", normed, bias=True))
    return apply_linear(weights, "layers.4", inner, bias=True)


def tile_vectors(
    weights: Mapping[str, Weights], config: Mapping[str, Any], tile_CHW: Array
) -> Array:
    """One normalised tile [3, H, W] -> the [Q, D] vectors the language model gets (256 of 448 pixels)."""
    features = vision_features(
        weights["vision_tower"],
        config["vision_tower_cfg"],
        tile_CHW,
        select_layer=config["mm_vision_select_layer"],
    )
    return project(weights["mm_projector"], downsample(features))


# ------------------------------------------------------------------------------- the sequence


def user_text(parts: list[str | int]) -> str:
    """A user's text before the chat template; a number is a picture with that many tiles.

    A literal `<image>` in text is removed and that part stripped. Parts follow each other with
    nothing between. The only picture of a prompt becomes `<image>` and a line break per tile,
    several pictures one bare `<image>` each; the whole is stripped last, so that a picture at the
    end loses its last line break.
    """
    alone = sum(isinstance(part, int) for part in parts) == 1
    pieces = []
    for part in parts:
        if isinstance(part, int):
            pieces.append(f"{PLACEHOLDER}\n" * part if alone else PLACEHOLDER)
        elif PLACEHOLDER in part:
            pieces.append(part.replace(PLACEHOLDER, "").strip())
        else:
            pieces.append(part)
    return "".join(pieces).strip()


Place = int | tuple[int, int]


def sequence(
    token_ids: list[int],
    *,
    image_token_id: int,
    newline_token_id: int,
    vectors_per_tile: int = 256,
    dropped_ids: tuple[int, ...] = (),
) -> list[Place]:
    """What stands at each position: a token id, or (tile, vector) counted from 0 over the prompt.

    Every `<image>` id becomes its tile's vectors and one line break (`end_tokens="\\n"`). An id of
    `dropped_ids` (the authors' code: pad and end of text) is left out where it stands directly after
    a placeholder or at the very start, and with it all that follow in a row; elsewhere it stays.
    """
    places: list[Place] = []
    tile, fresh = 0, True
    for token in token_ids:
        if token == image_token_id:
            places += [(tile, vector) for vector in range(vectors_per_tile)]
            places.append(newline_token_id)
            tile, fresh = tile + 1, True
        elif not (fresh and token in dropped_ids):
            places.append(token)
            fresh = False
    return places


def assemble(weights: Weights, places: list[Place], vectors: list[Array]) -> Array:
    """The language model's input [T, D]: embedding rows for tokens, `vectors[tile][vector]` for tiles."""
    rows = [
        vectors[place[0]][place[1]] if isinstance(place, tuple) else embed(weights, [place])[0]
        for place in places
    ]
    return np.array(rows)


def language_logits(weights: Weights, config: Mapping[str, Any], x_TD: Array) -> Array:
    """Qwen2 over given embeddings [T, D] -> [T, V]; q, k and v biased, tied as the config says."""
    return score(weights, config, decode(weights, config, x_TD, bias=True))


def logits(
    weights: Mapping[str, Weights],
    config: Mapping[str, Any],
    token_ids: list[int],
    tiles_BCHW: Array,
    *,
    image_token_id: int,
    newline_token_id: int,
    dropped_ids: tuple[int, ...] = (),
) -> Array:
    """Ids with one `<image>` per tile, and normalised tiles [B, 3, H, W] -> float64 [T, V].

    T counts each tile's vectors and its line break, so it is longer than `token_ids`.
    """
    vectors = [tile_vectors(weights, config, tile) for tile in tiles_BCHW]
    places = sequence(
        token_ids,
        image_token_id=image_token_id,
        newline_token_id=newline_token_id,
        vectors_per_tile=len(vectors[0]) if vectors else 0,
        dropped_ids=dropped_ids,
    )
    x_TD = assemble(weights["llm"], places, vectors)
    return language_logits(weights["llm"], config["llm_cfg"], x_TD)
