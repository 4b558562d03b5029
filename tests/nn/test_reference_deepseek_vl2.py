"""The plain reference of DeepSeek-VL2 keeps the published numbers and the small sums done by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from reference import blocks
from reference import deepseek_vl2 as reference
from reference import deepseek_vl2_language as language_model

EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64, at most some hundred roundings
WIDTH, TOWER, VOCABULARY, EXPERTS, IMAGE_ID = 12, 8, 20, 4, 19


# ------------------------------------------------------------------------------- tiny weights


def layer_widths(use_mla: bool) -> dict[str, tuple[int, ...]]:
    """Two heads: 6 wide in MHA; 4 + 4 wide with values of 5 in MLA."""
    if not use_mla:
        return {f"{name}_proj": (WIDTH, WIDTH) for name in "qkvo"}
    return {
        "q_proj": (2 * 8, WIDTH),
        "kv_a_proj_with_mqa": (3 + 4, WIDTH),
        "kv_b_proj": (2 * (4 + 5), 3),
        "o_proj": (WIDTH, 2 * 5),
    }


def mlp_shapes(name: str, inner: int) -> dict[str, tuple[int, ...]]:
    ends = {"gate_proj": (inner, WIDTH), "up_proj": (inner, WIDTH), "down_proj": (WIDTH, inner)}
    return {f"{name}.{end}.weight": shape for end, shape in ends.items()}


def language_shapes(layer: str, number: int, use_mla: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{layer}.input_layernorm.weight": (WIDTH,),
        f"{layer}.post_attention_layernorm.weight": (WIDTH,),
    }
    for name, shape in layer_widths(use_mla).items():
        shapes[f"{layer}.self_attn.{name}.weight"] = shape
    if use_mla:
        shapes[f"{layer}.self_attn.kv_a_layernorm.weight"] = (3,)
    if number == 0:
        return shapes | mlp_shapes(f"{layer}.mlp", 16)
    shapes[f"{layer}.mlp.gate.weight"] = (EXPERTS, WIDTH)
    for expert in range(EXPERTS):
        shapes |= mlp_shapes(f"{layer}.mlp.experts.{expert}", 6)
    return shapes | mlp_shapes(f"{layer}.mlp.shared_experts", 12)


def vision_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "vision.patch_embed.proj.weight": (TOWER, 3, 14, 14),
        "vision.patch_embed.proj.bias": (TOWER,),
        "vision.pos_embed": (1, 9, TOWER),
        "vision.norm.weight": (TOWER,),
        "vision.norm.bias": (TOWER,),
    }
    wide = {"attn.qkv": (24, 8), "attn.proj": (8, 8), "mlp.fc1": (30, 8), "mlp.fc2": (8, 30)}
    for block in range(2):
        for name in ("norm1", "norm2"):
            shapes |= {f"vision.blocks.{block}.{name}.{end}": (8,) for end in ("weight", "bias")}
        for name, shape in wide.items():
            shapes[f"vision.blocks.{block}.{name}.weight"] = shape
            shapes[f"vision.blocks.{block}.{name}.bias"] = shape[:1]
    return shapes


def make_weights(use_mla: bool, biased: bool) -> dict[str, np.ndarray]:
    """Small random arrays in float32 for a tower of 2 blocks and a language model of 2 layers."""
    shapes = vision_shapes() | {
        "projector.layers.0.weight": (WIDTH, 4 * TOWER),
        "projector.layers.0.bias": (WIDTH,),
        "projector.layers.2.weight": (WIDTH, WIDTH),
        "projector.layers.2.bias": (WIDTH,),
        "image_newline": (WIDTH,),
        "view_seperator": (WIDTH,),
        "language.model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "language.model.norm.weight": (WIDTH,),
        "language.lm_head.weight": (VOCABULARY, WIDTH),
    }
    for number in range(2):
        shapes |= language_shapes(f"language.model.layers.{number}", number, use_mla)
    if biased:
        shapes["language.model.layers.1.mlp.gate.e_score_correction_bias"] = (EXPERTS,)
    draw = np.random.default_rng(7)
    return {
        name: draw.normal(size=shape, scale=0.3).astype(np.float32)
        for name, shape in shapes.items()
    }


def make_config(use_mla: bool, biased: bool) -> dict[str, Any]:
    """The published fields, and as silent as the published files are."""
    language: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "use_mla": use_mla,
        "q_lora_rank": None,
        "first_k_dense_replace": 1,
        "num_experts_per_tok": 2,
        "topk_method": "greedy",
    }
    if use_mla:
        language |= {"kv_lora_rank": 3, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4}
        language |= {"v_head_dim": 5}
    if biased:
        language |= {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "n_group": 1}
        language |= {"topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.0}
    vision = {"layers": 2, "width": TOWER, "patch_size": 14, "heads": 2, "image_size": 42}
    return {"language_config": language, "vision_config": vision, "projector_config": {}}


VARIANTS = pytest.mark.parametrize(
    ("use_mla", "biased"), [(False, False), (True, False), (True, True)]
)


# ------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    ("size", "resolution", "tokens"),
    [
        ((384, 384), (384, 384), 421),
        ((640, 480), (768, 768), 1023),
        ((1920, 1080), (1536, 768), 1807),
        ((1000, 1000), (1152, 1152), 2017),
        ((200, 1000), (384, 1152), 841),
        ((2000, 300), (2304, 384), 1401),
        ((1024, 768), (1152, 768), 1415),
    ],
)
def test_published_sizes_and_tokens(
    size: tuple[int, int], resolution: tuple[int, int], tokens: int
) -> None:
    for pictures in (1, 2):
        wide, high = reference.resolution(*size, pictures)
        assert (wide, high) == resolution
        assert reference.token_count(wide // 384, high // 384) == tokens
    assert reference.resolution(*size, 3) == (384, 384)


def test_token_totals() -> None:
    totals = {(1, 1): 421, (1, 9): 2101, (9, 1): 1989}
    assert {grid: reference.token_count(*grid) for grid in totals} == totals
    every = [reference.token_count(w // 384, h // 384) for w, h in reference.CANDIDATES]
    assert (min(every), max(every)) == (421, 2101)


def test_candidates_are_all_grids_of_at_most_nine_tiles_in_the_published_order() -> None:
    grids = [(m, n) for m in range(1, 10) for n in range(1, 10) if m * n <= 9]
    grids.sort(key=lambda grid: (grid[0] * grid[1], -max(grid), grid[0]))
    assert [(384 * m, 384 * n) for m, n in grids] == list(reference.CANDIDATES)
    assert len(reference.CANDIDATES) == 23


def test_of_equal_candidates_the_least_wasteful_and_then_the_earlier_wins() -> None:
    assert reference.best_resolution(10, 10) == (384, 384)
    wide_first = [(768, 384), (384, 768)]
    assert reference.best_resolution(100, 100, wide_first) == (768, 384)
    assert reference.best_resolution(100, 100, wide_first[::-1]) == (384, 768)


@pytest.mark.parametrize(
    "size", [(7, 5), (5, 7), (30, 31), (42, 42), (99, 50), (101, 33), (85, 84)]
)
@pytest.mark.parametrize("canvas", [(42, 42), (84, 42), (42, 126)])
def test_padding_is_pillows(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    expected = ImageOps.pad(picture, canvas, Image.Resampling.BICUBIC, color=(127, 127, 127))
    *resized, left, top = reference.pad_geometry(*size, *canvas)
    small = np.asarray(picture.resize(tuple(resized), Image.Resampling.BICUBIC))
    found = reference.pad_canvas(small, *canvas, left, top)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_halves_are_rounded_to_even_in_the_padding() -> None:
    assert reference.pad_geometry(4, 1, 10, 10) == (10, 2, 0, 4)  # 2.5 rows, then 4
    assert reference.pad_geometry(10, 3, 10, 10) == (10, 3, 0, 4)  # 3.5 above
    assert reference.pad_geometry(10, 5, 10, 10) == (10, 5, 0, 2)  # 2.5 above
    assert reference.pad_geometry(5, 10, 10, 10) == (5, 10, 2, 0)


def test_tiles_are_cut_row_by_row() -> None:
    canvas = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    tiles = reference.cut_tiles(canvas, tile=2)
    assert tiles.shape == (6, 2, 2, 3)
    np.testing.assert_array_equal(tiles[1], canvas[:2, 2:4])
    np.testing.assert_array_equal(tiles[3], canvas[2:, :2])


def test_pixels_reach_from_minus_one_to_one_and_the_grey_is_just_below_zero() -> None:
    pixels = np.array([[[[0, 255, reference.GREY]]]], dtype=np.uint8)
    found = reference.normalise_pixels(pixels)
    assert found.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(found.ravel(), [-1.0, 1.0, -1 / 255], **EXACT)


# ---------------------------------------------------------------------- tower, projector, layout


def test_patches_are_row_major_and_border_pixels_are_dropped() -> None:
    pixels = np.random.default_rng(2).normal(size=(3, 5, 7))
    kernel = np.zeros((1, 3, 2, 2))
    kernel[0, 2, 0, 1] = 1.0  # picks the right upper pixel of the third colour
    weights = {
        "vision.patch_embed.proj.weight": kernel,
        "vision.patch_embed.proj.bias": np.array([0.5]),
    }
    found = reference.patch_embedding(pixels, weights, patch=2)
    expected = [pixels[2, y, x] + 0.5 for y in (0, 2) for x in (1, 3, 5)]
    np.testing.assert_allclose(found[:, 0], expected, **EXACT)
    wide = np.random.default_rng(13).normal(size=(3, 41, 55))
    found, cropped = (
        reference.patch_embedding(part, make_weights(False, False), patch=14)
        for part in (wide, wide[:, :28, :42])
    )
    np.testing.assert_array_equal(found, cropped)


def test_the_tower_ends_in_its_norm() -> None:
    weights, config = make_weights(False, False), make_config(False, False)
    weights["vision.norm.weight"], weights["vision.norm.bias"] = np.full(8, 3.0), np.full(8, 0.25)
    found = reference.vision_tower(np.ones((3, 42, 42)), weights, config)
    assert found.shape == (9, 8)
    np.testing.assert_allclose(found.mean(axis=1), 0.25, **EXACT)
    np.testing.assert_allclose(found.std(axis=1), 3.0, atol=1e-4)  # eps 1e-6 beside the variance


def test_a_tower_block_without_weights_is_the_identity_and_qkv_come_in_thirds() -> None:
    weights = {key: value * 0 for key, value in make_weights(False, False).items()}
    x = np.random.default_rng(3).normal(size=(5, 8))
    np.testing.assert_array_equal(reference.vision_block(x, weights, 1, heads=2), x)
    # no scores, so every vector becomes the mean of the values: the third third of the bias
    weights["vision.blocks.1.attn.qkv.bias"] = np.arange(24.0)
    weights["vision.blocks.1.attn.proj.weight"] = np.eye(8)
    found = reference.vision_block(x, weights, 1, heads=2)
    np.testing.assert_allclose(found - x, np.tile(np.arange(16.0, 24.0), (5, 1)), **EXACT)


def test_unfolded_channels_are_channel_then_row_then_column_and_the_odd_edge_is_zero() -> None:
    numbered = np.stack(
        [np.arange(1.0, 10.0), np.arange(101.0, 110.0)], axis=1
    )  # 3 x 3, 2 channels
    found = reference.unfold(numbered)
    assert found.tolist() == [
        [1, 2, 4, 5, 101, 102, 104, 105],
        [3, 0, 6, 0, 103, 0, 106, 0],
        [7, 8, 0, 0, 107, 108, 0, 0],
        [9, 0, 0, 0, 109, 0, 0, 0],
    ]
    assert reference.unfold(np.zeros((27 * 27, 1))).shape == (14 * 14, 4)


def test_rows_run_through_tiles_that_stand_beside_each_other() -> None:
    tiles = np.arange(12.0).reshape(3, 4, 1)  # global 0..3, then 4..7 and 8..11, each 2 x 2
    newline, separator = np.array([-1.0]), np.array([-2.0])
    found = reference.lay_out(tiles, 2, 1, newline, separator)[:, 0].tolist()
    assert found == [0, 1, -1, 2, 3, -1, -2, 4, 5, 8, 9, -1, 6, 7, 10, 11, -1]
    found = reference.lay_out(tiles, 1, 2, newline, separator)[:, 0].tolist()
    assert found == [0, 1, -1, 2, 3, -1, -2, 4, 5, -1, 6, 7, -1, 8, 9, -1, 10, 11, -1]
    four = np.arange(5.0).reshape(5, 1, 1)  # one vector a tile, 2 x 2 tiles row by row
    found = reference.lay_out(four, 2, 2, newline, separator)[:, 0].tolist()
    assert found == [0, -1, -2, 1, 2, -1, 3, 4, -1]


@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (2, 4), (1, 9), (9, 1)])
def test_a_picture_has_as_many_vectors_as_counted(grid: tuple[int, int]) -> None:
    columns, rows = grid
    tiles = np.zeros((1 + columns * rows, 196, 1))
    found = reference.lay_out(tiles, columns, rows, np.ones(1), np.ones(1))
    assert len(found) == reference.token_count(columns, rows)
    assert found.sum() == 14 + 1 + 14 * rows  # newlines and the separator


def test_tiles_that_do_not_fill_the_grid_are_refused() -> None:
    picture = (np.zeros((2, 3, 42, 42)), (2, 1))
    with pytest.raises(ValueError, match="2 tiles for 2 x 1"):
        reference.picture_vectors(picture, make_weights(False, False), make_config(False, False))


# ------------------------------------------------------------------------------------- router


def routing(**changes: Any) -> dict[str, Any]:
    language = {
        **language_model.LANGUAGE_DEFAULTS,
        "num_experts_per_tok": 2,
        "topk_method": "greedy",
    }
    return {**language, **changes}


BASE_ROUTING = {
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.0,
}


def log_odds(*shares: float) -> np.ndarray:
    return np.array([math.log(share / (1 - share)) for share in shares])


def test_greedy_weights_are_shares_of_all_experts() -> None:
    logits = np.log([0.1, 0.4, 0.2, 0.3])
    chosen, weights = language_model.route(logits, None, routing())
    assert chosen == [1, 3]
    np.testing.assert_allclose(weights, [0.4, 0.3], **EXACT)
    language = routing(norm_topk_prob=True, routed_scaling_factor=3.0)
    np.testing.assert_allclose(
        language_model.route(logits, None, language)[1], [3 * 4 / 7, 3 * 3 / 7], **EXACT
    )


def test_the_bias_changes_the_choice_and_not_the_weight() -> None:
    logits = log_odds(0.9, 0.6, 0.5, 0.3)
    none, bias = np.zeros(4), np.array([-0.5, 0.0, 0.0, 0.4])  # choice: 0.4, 0.6, 0.5, 0.7
    language = routing(**BASE_ROUTING)
    chosen, weights = language_model.route(logits, none, language)
    assert chosen == [0, 1]
    np.testing.assert_allclose(weights, [2 * 0.9 / 1.5, 2 * 0.6 / 1.5], **EXACT)
    chosen, weights = language_model.route(logits, bias, language)
    assert chosen == [3, 1]
    np.testing.assert_allclose(weights, [2 * 0.3 / 0.9, 2 * 0.6 / 0.9], **EXACT)
    assert sum(weights) == pytest.approx(2.0, abs=1e-12)


def test_a_bias_that_moves_no_choice_moves_nothing() -> None:
    logits = log_odds(0.9, 0.6, 0.5, 0.3)
    language = routing(**BASE_ROUTING)
    unmoved = language_model.route(logits, np.zeros(4), language)
    assert language_model.route(logits, np.full(4, 0.7), language) == unmoved


def test_groups_are_chosen_by_the_sum_of_their_two_best() -> None:
    logits = log_odds(0.9, 0.1, 0.1, 0.6, 0.5, 0.4)  # groups: 1.0 and 1.1
    language = routing(**BASE_ROUTING, n_group=2, topk_group=1)
    assert language_model.route(logits, np.zeros(6), language)[0] == [3, 4]
    assert language_model.route(logits, np.zeros(6), {**language, "topk_group": 2})[0] == [0, 3]
    # below zero the unchosen group's zeros win, unless it stands at minus infinity
    assert language_model.route(logits, np.full(6, -1.0), language)[0] == [0, 1]
    far = language_model.route(logits, np.full(6, -1.0), language, outside=-math.inf)
    assert far[0] == [3, 4]


@pytest.mark.parametrize(
    "changes",
    [{"topk_method": "gready"}, {"topk_method": "noaux_tc"}, {"scoring_func": "tanh"}],
    ids=["class default", "without bias", "scoring"],
)
def test_unknown_routing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"topk_method|scoring_func"):
        language_model.route(np.zeros(4), None, routing(**changes))


def test_experts_that_are_alike_are_one_expert_and_the_shared_ones_are_added() -> None:
    weights, name = make_weights(True, True), "language.model.layers.1.mlp"
    for expert in range(EXPERTS):
        for end in ("gate_proj", "up_proj", "down_proj"):
            weights[f"{name}.experts.{expert}.{end}.weight"] = weights[
                f"{name}.experts.0.{end}.weight"
            ]
    x = np.random.default_rng(4).normal(size=(5, WIDTH))
    found = language_model.moe(x, weights, name, routing(**BASE_ROUTING))
    one = blocks.swiglu(weights, f"{name}.experts.0", x)
    shared = blocks.swiglu(weights, f"{name}.shared_experts", x)
    np.testing.assert_allclose(found, 2 * one + shared, **EXACT)


# ----------------------------------------------------------------------------------- positions


def apart(x: np.ndarray) -> np.ndarray:
    """Even places, then odd ones."""
    return np.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)


def test_position_zero_turns_nothing() -> None:
    x = np.random.default_rng(5).normal(size=(3, 2, 8))
    np.testing.assert_array_equal(language_model.rotate_halves(x, [0, 0, 0], 1e4), x)
    np.testing.assert_array_equal(language_model.rotate_pairs(x, [0, 0, 0], 1e4), apart(x))


def test_pairs_are_halves_of_what_was_put_apart() -> None:
    x, places = np.random.default_rng(6).normal(size=(4, 2, 8)), [0, 3, 11, 400]
    found = language_model.rotate_pairs(x, places, 1e4)
    np.testing.assert_allclose(found, language_model.rotate_halves(apart(x), places, 1e4), **EXACT)


def test_a_quarter_turn_by_hand() -> None:
    x = np.array([[[1.0, 2.0, 3.0, 4.0]]])
    # theta 1: both pairs turn by the position itself
    found = language_model.rotate_pairs(x, [math.pi / 2], 1.0)
    np.testing.assert_allclose(found, [[[-2.0, -4.0, 1.0, 3.0]]], **EXACT)
    found = language_model.rotate_halves(x, [math.pi / 2], 1.0)
    np.testing.assert_allclose(found, [[[-3.0, -4.0, 1.0, 2.0]]], **EXACT)


@pytest.mark.parametrize("rotate", [language_model.rotate_halves, language_model.rotate_pairs])
def test_products_know_the_distance_alone(rotate: Any) -> None:
    q, k = np.random.default_rng(8).normal(size=(2, 1, 1, 8))
    products = [
        (rotate(q, [place], 1e4) * rotate(k, [place - 3], 1e4)).sum() for place in (3, 10, 250)
    ]
    np.testing.assert_allclose(products, products[0], rtol=0.0, atol=1e-11)
    other = (rotate(q, [3], 1e4) * rotate(k, [1], 1e4)).sum()
    assert abs(other - products[0]) > 1e-3


# -------------------------------------------------------------------------------------- layers


@VARIANTS
def test_attention_of_one_token_is_its_value(use_mla: bool, biased: bool) -> None:
    weights = make_weights(use_mla, biased)
    language = language_model.language_settings(make_config(use_mla, biased))
    name, x = "language.model.layers.0.self_attn", np.random.default_rng(9).normal(size=(1, WIDTH))
    if use_mla:
        latent = blocks.apply_linear(weights, f"{name}.kv_a_proj_with_mqa", x, bias=False)[:, :3]
        scale = blocks.tensor(weights, f"{name}.kv_a_layernorm.weight")
        latent = blocks.rms_norm(latent, scale, 1e-6)
        both = blocks.apply_linear(weights, f"{name}.kv_b_proj", latent, bias=False)
        value = np.concatenate([both[:, 4:9], both[:, 13:18]], axis=1)  # 4 keys, 5 values a head
        found = language_model.mla(x, weights, name, language, [5])
    else:
        value = blocks.apply_linear(weights, f"{name}.v_proj", x, bias=False)
        found = language_model.mha(x, weights, name, language, [5])
    expected = blocks.apply_linear(weights, f"{name}.o_proj", value, bias=False)
    np.testing.assert_allclose(found, expected, **EXACT)


def test_latent_attention_by_hand() -> None:
    """One head, nope 1, rope 4, value 1; two places of the rope part would not tell pairs from halves."""
    weights = {
        "a.q_proj.weight": np.eye(5),
        "a.kv_a_proj_with_mqa.weight": np.eye(5),
        "a.kv_a_layernorm.weight": np.ones(1),
        "a.kv_b_proj.weight": np.array([[2.0], [5.0]]),  # the key, the value
        "a.o_proj.weight": np.eye(1),
    }
    language = {**language_model.LANGUAGE_DEFAULTS, "q_lora_rank": None, "num_attention_heads": 1}
    language |= {"kv_lora_rank": 1, "qk_nope_head_dim": 1, "qk_rope_head_dim": 4, "v_head_dim": 1}
    x = np.array([[-1.0, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0, 0.0]])
    found = language_model.mla(x, weights, "a", language, [0, 1])
    # the latents are -1 and 1 by the norm; the pair (0, 1) at position 1 turns by one radian
    sign = 1.0 / math.sqrt(1.0 + 1e-6)
    scores = np.array([-2 * sign + math.cos(1.0), 2 * sign + 1.0]) / math.sqrt(5.0)
    shares = np.exp(scores) / np.exp(scores).sum()
    values = np.array([-5.0, 5.0]) * sign
    np.testing.assert_allclose(found, [[values[0]], [shares @ values]], **EXACT)


@VARIANTS
def test_a_shift_of_all_positions_changes_nothing(use_mla: bool, biased: bool) -> None:
    weights, config = make_weights(use_mla, biased), make_config(use_mla, biased)
    x = np.random.default_rng(10).normal(size=(6, WIDTH))
    found = language_model.decode(x, weights, config, range(40, 46))
    np.testing.assert_allclose(
        found, language_model.decode(x, weights, config), rtol=0.0, atol=1e-10
    )
    spread = language_model.decode(x, weights, config, range(0, 12, 2))
    assert np.abs(spread - found).max() > 1e-4


def test_fields_that_no_published_size_has_are_refused() -> None:
    config = make_config(True, False)
    weights, x = make_weights(True, False), np.ones((2, WIDTH))
    del config["language_config"]["q_lora_rank"]  # the class default is 1536
    with pytest.raises(ValueError, match="q_lora_rank"):
        language_model.decode(x, weights, config)
    config["language_config"]["rope_scaling"] = {"type": "yarn"}
    with pytest.raises(ValueError, match="rotary"):
        language_model.decode(x, weights, config)


# --------------------------------------------------------------------------------------- whole


@VARIANTS
def test_logits_with_a_picture(use_mla: bool, biased: bool) -> None:
    weights, config = make_weights(use_mla, biased), make_config(use_mla, biased)
    tiles = np.random.default_rng(11).normal(size=(2, 3, 42, 42))
    count = reference.token_count(1, 1, side=2)
    ids = [0, 3, *[IMAGE_ID] * count, 4, 5]
    mask = [token == IMAGE_ID for token in ids]
    found = reference.logits(weights, config, ids, [(tiles, (1, 1))], mask)
    assert found.shape == (len(ids), VOCABULARY)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    # another local tile is seen from its own first place on: 2 texts, 6 global, 1 separator
    other = tiles.copy()
    other[1] += 1.0
    changed = reference.logits(weights, config, ids, [(other, (1, 1))], mask)
    np.testing.assert_array_equal(changed[:9], found[:9])
    assert (np.abs(changed[9:] - found[9:]).max(axis=1) > 1e-7).all()
    # and a later word is not seen before it
    later = reference.logits(weights, config, [*ids[:-1], 6], [(tiles, (1, 1))], mask)
    np.testing.assert_array_equal(later[:-1], found[:-1])


def test_two_pictures_fill_the_mask_in_order_and_the_count_must_fit() -> None:
    weights, config = make_weights(False, False), make_config(False, False)
    one, two = np.random.default_rng(12).normal(size=(2, 2, 3, 42, 42))
    count = reference.token_count(1, 1, side=2)
    ids = [IMAGE_ID] * count + [2] + [IMAGE_ID] * count
    mask = [token == IMAGE_ID for token in ids]
    pictures = [(one, (1, 1)), (two, (1, 1))]
    found = reference.embed(ids, weights, config, pictures, mask)
    expected = [reference.picture_vectors(picture, weights, config) for picture in pictures]
    np.testing.assert_array_equal(found[:count], expected[0])
    np.testing.assert_array_equal(found[count + 1 :], expected[1])
    table = blocks.tensor(weights, "language.model.embed_tokens.weight")
    np.testing.assert_array_equal(found[count], table[2])
    with pytest.raises(ValueError, match="13 vectors of pictures for 26 places"):
        reference.embed(ids, weights, config, pictures[:1], mask)
