"""The plain references keep the numbers that are published, and the small sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from reference import blocks, decoder, nvila_lite, sarashina2_vision

DRAW = np.random.default_rng(0)
EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64, at most some hundred roundings


def draw(*shape: int) -> blocks.Array:
    return DRAW.normal(size=shape)


# ---------------------------------------------------------------------------------- blocks


def test_gelu_follows_the_error_function_and_its_approximations_stay_near() -> None:
    x = np.linspace(-6.0, 6.0, 49)
    expected = [value * 0.5 * math.erfc(-value / math.sqrt(2.0)) for value in x]
    np.testing.assert_allclose(blocks.gelu_erf(x), expected, **EXACT)
    # the greatest distances of the two approximations from the true function
    assert 1e-4 < np.abs(blocks.gelu_tanh(x) - expected).max() < 5e-4
    assert 1e-2 < np.abs(blocks.quick_gelu(x) - expected).max() < 2.1e-2
    assert blocks.silu(np.array([1.0]))[0] == pytest.approx(1.0 / (1.0 + math.exp(-1.0)))


def test_norms_by_hand() -> None:
    x = np.array([[1.0, 3.0]])  # mean 2, variance 1, mean square 5
    found = blocks.layer_norm(x, np.array([2.0, 2.0]), np.array([0.5, 0.5]), eps=3.0)
    np.testing.assert_allclose(found, [[-0.5, 1.5]], **EXACT)
    found = blocks.rms_norm(x, np.array([1.0, 2.0]), eps=4.0)
    np.testing.assert_allclose(found, [[1.0 / 3.0, 2.0]], **EXACT)


def test_attention_rows_sum_to_one_and_keep_to_what_is_allowed() -> None:
    allowed = np.array([True, False, True, False, True])
    row = blocks.attention_row(draw(4), draw(5, 4), allowed, 0.5)
    assert row.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.all(row[~allowed] == 0.0)


def test_attention_of_equal_keys_is_the_mean_of_the_values_seen() -> None:
    q, v = draw(4, 4, 6), draw(4, 2, 3)
    found = blocks.attention(q, np.ones((4, 2, 6)), v, causal=True).reshape(4, 4, 3)
    for position in range(4):
        for head in range(4):  # query heads 0, 1 read key head 0; 2, 3 read 1
            expected = v[: position + 1, head // 2].mean(axis=0)
            np.testing.assert_allclose(found[position, head], expected, **EXACT)


def test_rotary_turns_pairs_half_a_head_apart_and_sees_distances_only() -> None:
    turned = blocks.rotate_half_split(
        np.array([[[1.0, 0.0, 0.0, 0.0]]]), np.array([[math.pi / 2, 0.3]])
    )
    np.testing.assert_allclose(turned[0, 0], [0.0, 0.0, 1.0, 0.0], **EXACT)
    q, k = draw(10), draw(10)  # a width that is no power of two

    def product(first: int, second: int) -> float:
        angles = blocks.rotary_angles([first, second], 10, 500000.0)
        both = blocks.rotate_half_split(np.stack([q, k])[:, None, :], angles)
        return float(both[0, 0] @ both[1, 0])

    assert product(3, 1) == pytest.approx(product(12, 10), abs=1e-12)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3


# ------------------------------------------------------------------------- language models


def language_model(
    *, width: int, heads: int, keys: int, head: int, bias: bool, tied: bool, prefix: str
) -> tuple[dict[str, blocks.Array], dict[str, object]]:
    """Random weights and config of a decoder: 2 layers, inner width 12, 11 vocabulary rows."""
    sizes = {"q_proj": heads, "k_proj": keys, "v_proj": keys}
    weights = {f"{prefix}model.embed_tokens.weight": draw(11, width)}
    weights[f"{prefix}model.norm.weight"] = draw(width)
    if not tied:
        weights[f"{prefix}lm_head.weight"] = draw(11, width)
    for number in range(2):
        layer = f"{prefix}model.layers.{number}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}.{norm}.weight"] = draw(width)
        for name, count in sizes.items():
            weights[f"{layer}.self_attn.{name}.weight"] = draw(count * head, width)
            if bias:
                weights[f"{layer}.self_attn.{name}.bias"] = draw(count * head)
        weights[f"{layer}.self_attn.o_proj.weight"] = draw(width, heads * head)
        weights[f"{layer}.mlp.gate_proj.weight"] = draw(12, width)
        weights[f"{layer}.mlp.up_proj.weight"] = draw(12, width)
        weights[f"{layer}.mlp.down_proj.weight"] = draw(width, 12)
    config = {
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "head_dim": head,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
    }
    return weights, config


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_looks_back_only(tied: bool) -> None:
    weights, config = language_model(
        width=8, heads=4, keys=2, head=6, bias=tied, tied=tied, prefix=""
    )

    def run(ids: list[int]) -> blocks.Array:
        hidden = decoder.decode(weights, config, decoder.embed(weights, ids), bias=tied)
        return decoder.score(weights, config, hidden)

    one, other = run([1, 2, 3, 4]), run([1, 2, 3, 5])
    assert one.shape == (4, 11)
    np.testing.assert_array_equal(one[:3], other[:3])
    assert np.abs(one[3] - other[3]).max() > 1e-3


# ------------------------------------------------------------------------------ NVILA-Lite


@pytest.mark.parametrize(
    ("size", "grid", "tiles"),
    [
        ((448, 448), (1, 1), 1),
        ((512, 512), (1, 1), 1),
        ((634, 634), (2, 2), 5),
        ((896, 896), (2, 2), 5),
        ((1000, 1000), (3, 3), 10),
        ((640, 480), (4, 3), 13),
        ((480, 640), (3, 4), 13),
        ((1024, 768), (4, 3), 13),
        ((1920, 1080), (4, 2), 9),
        ((300, 200), (3, 2), 7),
        ((2000, 300), (7, 1), 8),
        ((200, 1000), (1, 5), 6),
    ],
)
def test_tiles_of_one_picture(size: tuple[int, int], grid: tuple[int, int], tiles: int) -> None:
    assert nvila_lite.choose_grid(*size) == grid
    views = nvila_lite.views_of_one_picture(*size)
    assert len(views) == tiles
    assert views[0].resized == (grid[0] * 448, grid[1] * 448)
    assert views[0].box == (0, 0, 448, 448)
    assert views[-1].box == (0, 0, 448, 448)
    assert views[-1].resized == (448, 448)  # the thumbnail, or the only tile


def test_tiles_go_row_by_row_and_several_pictures_get_one_each() -> None:
    (views,) = nvila_lite.views_of_pictures([(300, 200)])
    corners = [view.box[:2] for view in views[:-1]]
    assert corners == [(0, 0), (448, 0), (896, 0), (0, 448), (448, 448), (896, 448)]
    assert nvila_lite.views_of_pictures([(300, 200), (2000, 300)]) == [
        [nvila_lite.whole_view()],
        [nvila_lite.whole_view()],
    ]


def test_order_within_a_count_of_tiles_never_decides() -> None:
    grids = nvila_lite.candidate_grids()
    for one in grids:
        for other in grids:
            if one != other and one[0] * one[1] == other[0] * other[1]:
                middle = (one[0] / one[1] + other[0] / other[1]) / 2
                distances = [abs(middle - columns / rows) for columns, rows in grids]
                assert min(distances) < abs(middle - one[0] / one[1]) - 1e-9


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (4, [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]),
        (3, [[0, 1, 3, 4], [2, -1, 5, -1], [6, 7, -1, -1], [8, -1, -1, -1]]),
    ],
)
def test_downsample_puts_four_neighbours_whole_side_by_side(
    side: int, expected: list[list[int]]
) -> None:
    # patch n is (n + 1, -(n + 1)): a number of its position, and zero where the grid was filled up
    patches = np.array([[n + 1.0, -n - 1.0] for n in range(side * side)])
    rows = [[sign * (n + 1.0) for n in row for sign in (1, -1)] for row in expected]
    np.testing.assert_array_equal(nvila_lite.downsample(patches), rows)


def test_a_full_tile_is_256_vectors_of_four_patches() -> None:
    assert nvila_lite.downsample(np.zeros((1024, 1))).shape == (256, 4)


def test_normalised_bytes_run_from_minus_one_to_one() -> None:
    tile = np.array([[[0, 255, 51]]], dtype=np.uint8)
    np.testing.assert_allclose(nvila_lite.normalise(tile).ravel(), [-1.0, 1.0, -0.6], **EXACT)


def test_line_breaks_of_a_users_text() -> None:
    assert nvila_lite.user_text([2, "What?"]) == "<image>\n<image>\nWhat?"
    assert nvila_lite.user_text(["What? ", 2]) == "What? <image>\n<image>"
    assert nvila_lite.user_text([1, "and", 1, "?"]) == "<image>and<image>?"
    assert nvila_lite.user_text([" see <image> ", 1, " so"]) == "see<image>\n so"


def test_a_tile_stands_as_its_vectors_and_a_line_break() -> None:
    def run(ids: list[int]) -> list[nvila_lite.Place]:
        return nvila_lite.sequence(
            ids, image_token_id=9, newline_token_id=5, vectors_per_tile=2, dropped_ids=(0, 7)
        )

    assert run([1, 9, 5, 9, 5, 2, 7]) == [1, (0, 0), (0, 1), 5, 5, (1, 0), (1, 1), 5, 5, 2, 7]
    assert run([7, 1, 9, 7, 5]) == [1, (0, 0), (0, 1), 5, 5]


def test_positions_of_a_four_by_three_picture() -> None:
    text = nvila_lite.user_text([13, "?"])
    ids = [9 if piece else 5 for line in text[:-1].splitlines() for piece in (line, "")]
    places = nvila_lite.sequence(ids, image_token_id=9, newline_token_id=5)
    assert len(places) == 13 * 257 + 13 == 3354


def siglip(*, width: int, layers: int, patches: int) -> dict[str, blocks.Array]:
    """Random weights of a SigLIP tower: patches of 2 x 2 pixels, inner width 10."""
    start = "vision_model.embeddings"
    weights = {
        f"{start}.patch_embedding.weight": draw(width, 3, 2, 2),
        f"{start}.patch_embedding.bias": draw(width),
        f"{start}.position_embedding.weight": draw(patches, width),
    }
    for number in range(layers):
        layer = f"vision_model.encoder.layers.{number}"
        shapes = {f"self_attn.{one}": (width, width) for one in ("q_proj", "k_proj", "v_proj")}
        shapes |= {"self_attn.out_proj": (width, width)}
        shapes |= {"mlp.fc1": (10, width), "mlp.fc2": (width, 10)}
        for name, shape in shapes.items():
            weights[f"{layer}.{name}.weight"] = draw(*shape)
            weights[f"{layer}.{name}.bias"] = draw(shape[0])
        for norm in ("layer_norm1", "layer_norm2"):
            weights[f"{layer}.{norm}.weight"] = draw(width)
            weights[f"{layer}.{norm}.bias"] = draw(width)
    return weights


def test_nvila_runs_from_pixels_to_logits() -> None:
    language, language_config = language_model(
        width=8, heads=2, keys=1, head=4, bias=True, tied=True, prefix=""
    )
    tower = siglip(width=6, layers=3, patches=9)
    projector = {"layers.1.weight": draw(24), "layers.1.bias": draw(24)}
    projector |= {"layers.2.weight": draw(8, 24), "layers.2.bias": draw(8)}
    projector |= {"layers.4.weight": draw(8, 8), "layers.4.bias": draw(8)}
    tower_config = {
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "patch_size": 2,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu_pytorch_tanh",
    }
    config = {
        "llm_cfg": language_config,
        "vision_tower_cfg": tower_config,
        "mm_vision_select_layer": -2,
    }
    weights = {"llm": language, "vision_tower": tower, "mm_projector": projector}
    ids, tiles = [1, 9, 5, 9, 5, 2], draw(2, 3, 6, 6)
    found = nvila_lite.logits(weights, config, ids, tiles, image_token_id=9, newline_token_id=5)
    assert found.shape == (4 + 2 * 5, 11)  # an odd grid of 3 x 3 patches: 4 vectors and a break
    turned = nvila_lite.logits(
        weights, config, ids, tiles[::-1], image_token_id=9, newline_token_id=5
    )
    np.testing.assert_array_equal(found[0], turned[0])
    assert np.abs(found[1:] - turned[1:]).max() > 1e-3
    # the features come before the last layer, so its weights may be missing
    first_two = {name: array for name, array in tower.items() if ".layers.2." not in name}
    again = nvila_lite.logits(
        weights | {"vision_tower": first_two},
        config,
        ids,
        tiles,
        image_token_id=9,
        newline_token_id=5,
    )
    np.testing.assert_array_equal(found, again)


# ------------------------------------------------------------------------- Sarashina-Vision


@pytest.mark.parametrize(
    ("size", "target", "tokens"),
    [
        ((224, 224), (224, 224), 64),
        ((1190, 665), (672, 1176), 1008),
        ((1008, 1008), (1008, 1008), 1296),
        ((640, 480), (476, 644), 391),
        ((1920, 1080), (756, 1344), 1296),
        ((28, 28), (56, 56), 4),
        ((4000, 3000), (868, 1148), 1271),
    ],
)
def test_sizes_and_tokens_of_a_picture(
    size: tuple[int, int], target: tuple[int, int], tokens: int
) -> None:
    assert sarashina2_vision.smart_resize(size[1], size[0]) == target
    grid = (1, target[0] // 14, target[1] // 14)
    assert sarashina2_vision.image_tokens(grid) == tokens


def test_a_picture_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 200 times"):
        sarashina2_vision.smart_resize(28, 28 * 201)


def test_cubic_kernel_by_hand_and_its_weights_sum_to_one() -> None:
    found = [sarashina2_vision.cubic_weight(x) for x in (0.0, -0.5, 1.0, 1.5, 2.0)]
    np.testing.assert_allclose(found, [1.0, 0.59375, 0.0, -0.09375, 0.0], **EXACT)
    for index in range(7):
        taps = sarashina2_vision.cubic_taps(index, 7, 5)
        assert sum(weight for _, weight in taps) == pytest.approx(1.0, abs=1e-12)
        assert all(0 <= source < 5 for source, _ in taps)


@pytest.mark.parametrize("target", [(5, 9), (14, 23), (3, 4)])
def test_resize_keeps_a_constant_picture(target: tuple[int, int]) -> None:
    found = sarashina2_vision.resize_bicubic(np.full((2, 6, 8), 0.7), *target)
    np.testing.assert_allclose(found, np.full((2, *target), 0.7), **EXACT)


def test_a_ramp_stays_straight_only_where_centres_fall_on_pixels_or_halfway() -> None:
    """Unlike Pillow's a = -0.5, this kernel bends a ramp by -(2 a + 1) t (1 - t) (1 - 2 t)."""
    ramp = np.arange(12.0)[None, None, :].repeat(3, axis=1)
    halved = sarashina2_vision.resize_bicubic(ramp, 3, 6)  # centres at 0.5, 2.5, ...
    np.testing.assert_allclose(halved[0, 1, 1:-1], [2.5, 4.5, 6.5, 8.5], **EXACT)
    doubled = sarashina2_vision.resize_bicubic(ramp, 3, 24)[0, 1, 4:-4]  # t = 0.75, 0.25, ...
    straight = (np.arange(4, 20) + 0.5) / 2 - 0.5
    bend = -(2 * -0.75 + 1) * 0.25 * 0.75 * 0.5
    np.testing.assert_allclose(doubled - straight, [-bend, bend] * 8, **EXACT)


def test_resize_turns_with_the_picture() -> None:
    picture = draw(2, 6, 9)
    found = sarashina2_vision.resize_bicubic(picture, 10, 4)
    turned = sarashina2_vision.resize_bicubic(picture.transpose(0, 2, 1), 4, 10)
    np.testing.assert_allclose(found, turned.transpose(0, 2, 1), **EXACT)


def test_a_large_shrink_skips_pixels_between() -> None:
    """Without antialias a picture an eighth the size looks at four of eight pixels."""
    picture = np.zeros((1, 1, 64))
    picture[0, 0, 0::8] = 1.0
    assert not sarashina2_vision.resize_bicubic(picture, 1, 8).any()


def test_patches_are_blocks_of_four_and_two_equal_frames() -> None:
    rows, columns = np.meshgrid(np.arange(8), np.arange(12), indexing="ij")
    picture = np.stack([rows * 100.0 + columns + 10000.0 * channel for channel in range(3)])
    patches, grid = sarashina2_vision.cut_patches(picture, patch=2)
    assert grid == (1, 4, 6)
    assert patches.shape == (24, 3 * 2 * 2 * 2)
    places = sarashina2_vision.patch_places(grid)
    assert places[:6] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3)]
    assert places[12] == (2, 0)
    for patch, (row, column) in zip(patches, places, strict=True):
        assert patch[0] == row * 200 + column * 2
    corner = [0.0, 1.0, 100.0, 101.0]
    expected = [corner, corner, [one + 10000.0 for one in corner]]
    np.testing.assert_array_equal(patches[0].reshape(6, 4)[:3], expected)


def test_a_picture_is_normalised_resized_and_cut() -> None:
    white = np.full((28, 28, 3), 255, dtype=np.uint8)
    patches, grid = sarashina2_vision.preprocess(white)
    assert grid == (1, 4, 4)
    np.testing.assert_allclose(patches, np.ones((16, 1176)), **EXACT)
    edge = np.zeros((28, 28, 3), dtype=np.uint8)
    edge[:, 14:] = 255
    patches, _ = sarashina2_vision.preprocess(edge)
    assert patches.max() > 1.05  # beyond white: the cubic overshoots and nothing clamps it


def test_angles_are_rows_then_columns() -> None:
    angles = sarashina2_vision.tower_angles((1, 2, 4), 12)
    assert angles.shape == (8, 6)
    low = 10000.0 ** (-1.0 / 3.0)
    expected = [1.0, low, low**2, 3.0, 3 * low, 3 * low**2]  # the last patch: row 1, column 3
    np.testing.assert_allclose(angles[-1], expected, **EXACT)


def tower(*, width: int, depth: int, language_width: int) -> dict[str, blocks.Array]:
    """Random weights of tower, merger and norm: patches of 2 x 2 pixels, inner width 10."""
    shapes = {"visual.merger.mlp.0": (4 * width, 4 * width)}
    shapes |= {"visual.merger.mlp.2": (language_width, 4 * width)}
    norms = {"visual.merger.ln_q": width, "norm": language_width}
    for number in range(depth):
        block = f"visual.blocks.{number}"
        shapes |= {f"{block}.attn.qkv": (3 * width, width), f"{block}.attn.proj": (width, width)}
        shapes |= {f"{block}.mlp.fc1": (10, width), f"{block}.mlp.fc2": (width, 10)}
        norms |= {f"{block}.norm1": width, f"{block}.norm2": width}
    weights = {}
    for name, size in norms.items():
        weights[f"{name}.weight"], weights[f"{name}.bias"] = draw(size), draw(size)
    for name, shape in shapes.items():
        weights[f"{name}.weight"], weights[f"{name}.bias"] = draw(*shape), draw(shape[0])
    weights["visual.patch_embed.proj.weight"] = draw(width, 3, 2, 2, 2)
    return weights


def test_sarashina_runs_from_pixels_to_logits() -> None:
    language, text_config = language_model(
        width=8, heads=2, keys=1, head=10, bias=False, tied=False, prefix="llm."
    )
    weights = language | tower(width=8, depth=2, language_width=8)
    config = {
        "text_config": text_config,
        "image_token_index": 9,
        "vision_config": {
            "depth": 2,
            "embed_dim": 8,
            "num_heads": 2,
            "hidden_act": "gelu_pytorch_tanh",
            "spatial_merge_size": 2,
        },
    }
    pictures = [
        sarashina2_vision.cut_patches(draw(3, rows, 8), patch=2) for rows in (4, 8)
    ]  # 2 and 4 vectors
    ids = [1, 9, 9, 2, 9, 9, 9, 9, 3]
    found = sarashina2_vision.logits(weights, config, ids, pictures)
    assert found.shape == (9, 11)

    def changed(name: str, factor: float) -> float:
        other = sarashina2_vision.logits(
            weights | {name: weights[name] * factor}, config, ids, pictures
        )
        np.testing.assert_array_equal(found[0], other[0])
        return float(np.abs(found - other).max())

    assert changed("norm.weight", 1.5) > 1e-3
    assert changed("norm.bias", 1.5) > 1e-3
    assert changed("visual.merger.ln_q.bias", 1.5) > 1e-4
    second = [pictures[0], (pictures[1][0] * 2.0, pictures[1][1])]
    other = sarashina2_vision.logits(weights, config, ids, second)
    np.testing.assert_array_equal(found[:4], other[:4])  # pictures do not see each other
    assert np.abs(found[4] - other[4]).max() > 1e-3
    with pytest.raises(ValueError, match="8 image ids for 6 vectors"):
        sarashina2_vision.logits(weights, config, [*ids, 9, 9], pictures)


def test_the_last_norm_leaves_mean_and_spread() -> None:
    weights = {"norm.weight": np.ones(6), "norm.bias": np.zeros(6)}
    found = sarashina2_vision.final_norm(weights, 1e3 * draw(4, 6))
    np.testing.assert_allclose(found.mean(axis=1), np.zeros(4), **EXACT)
    np.testing.assert_allclose(found.std(axis=1), np.ones(4), rtol=0.0, atol=1e-9)  # eps 1e-5
