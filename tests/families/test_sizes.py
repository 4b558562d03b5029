"""Image-token rules count what the reference counts, at every size, and refuse what it refuses."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest
import reference_sizes as reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manako.core.errors import ImageError, InputError
from manako.families._shared.sizes import RULES, image_tokens, qwen_size

Size = tuple[int, int]
PUBLISHED_SIZES: tuple[Size, ...] = (
    (512, 512), (1024, 768), (1920, 1080), (1240, 1754), (2480, 3508),
)  # fmt: skip


def many_sizes() -> list[Size]:
    """Extreme, tied, and 280 drawn sizes; the same in every run."""
    draw = random.Random(20261122)
    extreme = [(1, 1), (1, 4000), (4000, 1), (37, 53), (27, 4000), (28, 5601), (5600, 28), (2, 399)]
    edges = [side + step for side in (28, 112, 336, 384, 448, 512) for step in (-1, 0, 1)]
    tied = [(w * n, h * n) for w, h in ((5, 4), (4, 5), (13, 6), (3, 2), (1, 1)) for n in (64, 500)]
    small = [(draw.randint(1, 80), draw.randint(1, 80)) for _ in range(80)]
    usual = [(draw.randint(1, 4200), draw.randint(1, 4200)) for _ in range(200)]
    crossed = [(a, b) for a in edges for b in (edges[0], edges[4], edges[-1])]
    return [*PUBLISHED_SIZES, *extreme, *tied, *crossed, *small, *usual]


SIZES = many_sizes()
QWEN3 = {"factor": 32, "min_pixels": 65_536, "max_pixels": 16_777_216}
GLM = {"factor": 28, "min_pixels": 12_544, "max_pixels": 9_633_792}
GEMMA_FILES = (
    "gemma4/image_processing_pil_gemma4.py", "gemma4_unified/image_processing_gemma4_unified.py",
)  # fmt: skip
PARITY: Mapping[str, tuple[str, Mapping[str, int], Callable[[Size], int]]] = {
    "qwen": ("qwen", {}, lambda s: reference.qwen(s, factor=28, min_pixels=3136, max_pixels=12_845_056)),
    "qwen class": ("qwen", {"max_pixels": 1_003_520}, lambda s: reference.qwen(s, factor=28, min_pixels=3136, max_pixels=1_003_520)),
    "qwen3": ("qwen", QWEN3, lambda s: reference.qwen(s, **QWEN3)),
    "sarashina": ("sarashina", {}, lambda s: reference.qwen(s, factor=28, min_pixels=3136, max_pixels=1_016_064)),
    "glm4v": ("glm4v", {}, lambda s: reference.glm4v(s, model="glm4v", **GLM)),
    "glm46v": ("glm4v", {}, lambda s: reference.glm4v(s, model="glm46v", **GLM)),
    **{
        f"{file.partition('/')[0]} {budget}": (
            "gemma4", {"budget": budget},
            lambda s, budget=budget, file=file: reference.gemma4(s, budget=budget, file=file),
        )
        for budget in (70, 140, 280, 560, 1120)
        for file in GEMMA_FILES[: 2 if budget == 280 else 1]
    },
    "kimi_k25": ("kimi_k25", {}, reference.kimi_k25),
    "pixtral": ("pixtral", {}, lambda s: reference.pixtral(s, cell=16, longest=1024)),
    "mistral3": ("mistral3", {}, lambda s: reference.pixtral(s, cell=28, longest=1540)),
    "lighton": ("lighton", {}, lambda s: reference.pixtral(s, cell=28, longest=1540, has_breaks=False)),
    "llava_next": ("llava_next", {}, reference.llava_next),
    "llava_onevision": ("llava_onevision", {}, reference.llava_onevision),
    "deepseek_vl2": ("deepseek_vl2", {}, reference.deepseek_vl2),
    "internvl": ("internvl_tiles", {}, lambda s: 256 * reference.internvl(s, tile=448)),
    "aya_vision": ("internvl_tiles", {"tile": 364, "tile_tokens": 169}, lambda s: 169 * reference.internvl(s, tile=364)),
    "llm_jp_4_vl": ("internvl_tiles", {"tile": 512}, lambda s: 256 * reference.internvl(s, tile=512)),
    "internvl one tile": ("internvl_tiles", {"max_tiles": 1}, lambda s: 256 * reference.internvl(s, tile=448, max_tiles=1)),
    "nvila_tiles": ("nvila_tiles", {}, lambda s: 258 * reference.internvl(s, tile=448)),
    "lfm2_vl": ("lfm2_vl", {}, reference.lfm2_vl),
    "phi4_crops": ("phi4_crops", {}, reference.phi4),
    "idefics3": ("idefics3", {}, lambda s: 169 * reference.idefics3(s, tile=364, longest=1456, model="idefics3")),
    "smolvlm": ("idefics3", {"tile": 384, "tile_tokens": 81, "longest": 1536}, lambda s: 81 * reference.idefics3(s, tile=384, longest=1536, model="idefics3")),
    "smolvlm2": ("idefics3", {"tile": 512, "tile_tokens": 64, "longest": 2048}, lambda s: 64 * reference.idefics3(s, tile=512, longest=2048, model="smolvlm")),
    "llama4": ("llama4", {}, reference.llama4),
    "molmo2": ("molmo2", {}, reference.molmo2),
    "minicpm_v4_6": ("minicpm_v4_6", {}, reference.minicpm_v4_6),
}  # fmt: skip
"""What is compared → (rule, settings, the reference's count)."""


def counted(count: Callable[[], int]) -> int | str:
    """The count, or that the size is refused (the reference raises what its arithmetic meets)."""
    try:
        return count()
    except (ImageError, ValueError, ZeroDivisionError):
        return "refused"


@pytest.mark.parametrize("name", PARITY)
def test_counts_and_refusals_are_the_references(name: str) -> None:
    rule, chosen, count = PARITY[name]
    differ = {
        size: (ours, theirs)
        for size in SIZES
        if (ours := counted(lambda: image_tokens(rule, *size, chosen)))  # noqa: B023
        != (theirs := counted(lambda: count(size)))  # noqa: B023
    }
    assert not differ, f"{len(differ)} of {len(SIZES)} sizes"


@pytest.mark.parametrize("split", [0, 1])
def test_idefics2_is_what_its_processor_makes(split: int) -> None:
    for size in ((1, 1), (1, 4000), (4000, 1), (37, 53), (512, 512)):
        ours = counted(lambda: image_tokens("idefics2", *size, {"split": split}))  # noqa: B023
        theirs = counted(lambda: reference.idefics2(size, split=bool(split)))  # noqa: B023
        assert ours == theirs, size


SMOLVLM = {"tile": 384, "longest": 1536}
SMOLVLM2 = {"tile": 512, "longest": 2048}
MEASURED: tuple[tuple[str, Mapping[str, int], tuple[int, ...]], ...] = (
    ("qwen", {}, (324, 999, 2691, 2772, 11125)),
    ("qwen", {"max_pixels": 1_003_520}, (324, 999, 1222, 1260, 1260)),
    ("qwen", QWEN3, (256, 768, 2040, 2145, 8580)),
    ("gemma4", {"budget": 70}, (64, 63, 66, 63, 63)),
    ("gemma4", {"budget": 140}, (121, 130, 120, 126, 126)),
    ("gemma4", {}, (256, 266, 264, 266, 266)),
    ("gemma4", {"budget": 560}, (529, 540, 527, 532, 532)),
    ("gemma4", {"budget": 1120}, (1089, 1064, 1100, 1092, 1092)),
    ("pixtral", {}, (1056, 3120, 2340, 3008, 3008)),
    ("mistral3", {}, (380, 1064, 1736, 2200, 2200)),
    ("lighton", {}, (361, 1036, 1705, 2145, 2145)),
    ("idefics3", {"tile_tokens": 1}, (17, 13, 13, 13, 13)),
    ("idefics3", SMOLVLM | {"tile_tokens": 1}, (17, 13, 13, 13, 13)),
    ("idefics3", SMOLVLM2 | {"tile_tokens": 1}, (17, 13, 13, 13, 13)),
    ("internvl_tiles", {"tile_tokens": 1}, (1, 13, 9, 7, 7)),
    ("fixed", {"tokens": 256}, (256, 256, 256, 256, 256)),
)
"""Counted with whole processors once: at PUBLISHED_SIZES."""


@pytest.mark.parametrize(("rule", "chosen", "counts"), MEASURED)
def test_the_measured_counts(rule: str, chosen: Mapping[str, int], counts: tuple[int, ...]) -> None:
    assert tuple(image_tokens(rule, *size, chosen) for size in PUBLISHED_SIZES) == counts


VECTORS: Mapping[str, Mapping[Size, int]] = {
    "sarashina": {
        (224, 224): 64, (1190, 665): 1008, (1008, 1008): 1296, (640, 480): 391,
        (1920, 1080): 1296, (28, 28): 4, (4000, 3000): 1271,
    },
    "nvila_tiles": {
        size: 258 * tiles for size, tiles in {
            (448, 448): 1, (512, 512): 1, (634, 634): 5, (896, 896): 5, (1000, 1000): 10,
            (640, 480): 13, (480, 640): 13, (1024, 768): 13, (1920, 1080): 9, (300, 200): 7,
            (2000, 300): 8, (200, 1000): 6,
        }.items()
    },
    "deepseek_vl2": {
        (384, 384): 421, (640, 480): 1023, (1920, 1080): 1807, (1000, 1000): 2017,
        (200, 1000): 841, (2000, 300): 1401, (1024, 768): 1415, (384, 3456): 2101,
        (3456, 384): 1989,
    },
    "glm4v": {(28, 28): 9, (2480, 3508): 6045},
    "phi4_crops": {(448, 448): 545, (260, 75): 358, (2480, 3508): 9345},
    "llava_next": {(4000, 1): 576, (336, 336): 1176, (672, 672): 2928},
    "llava_onevision": {(4000, 1): 757, (384, 384): 1485, (1024, 1024): 7371},
    "internvl_tiles": {(37, 53): 7 * 256},
}  # fmt: skip
"""Published, or measured once with the model's own code."""


@pytest.mark.parametrize("rule", VECTORS)
def test_the_published_counts(rule: str) -> None:
    assert {size: image_tokens(rule, *size) for size in VECTORS[rule]} == VECTORS[rule]


@pytest.mark.parametrize(
    ("rule", "pictures", "tokens"),
    [("nvila_tiles", 2, 257), ("llava_onevision", 2, 730), ("deepseek_vl2", 3, 421)],
)
def test_several_pictures_are_not_cut_up(rule: str, pictures: int, tokens: int) -> None:
    assert image_tokens(rule, 1240, 1754, {"pictures": pictures}) == tokens


def test_two_pictures_are_still_cut_up_by_deepseek() -> None:
    assert image_tokens("deepseek_vl2", 1240, 1754, {"pictures": 2}) == 2017


sides = st.integers(1, 5000)


@given(rule=st.sampled_from(sorted(RULES)), width=sides, height=sides)
@settings(max_examples=300, deadline=None)
def test_every_size_has_a_count_or_is_refused_by_its_size(
    rule: str, width: int, height: int
) -> None:
    size = f"{width} × {height}"
    try:
        tokens = image_tokens(rule, width, height)
    except ImageError as error:
        tokens = int(size in error.message)
    assert type(tokens) is int
    assert tokens > 0


@given(width=sides, height=sides, budgets=st.tuples(*[st.integers(1, 16_384)] * 2))
@example(width=15, height=135, budgets=(4, 5))
@settings(max_examples=150, deadline=None)
def test_more_room_never_costs_less(width: int, height: int, budgets: tuple[int, int]) -> None:
    if max(width, height) > 200 * min(width, height):
        return
    few, many = sorted(budgets)
    short, long = sorted((width, height))
    if short < 28 or few * short < 2 * long:
        return  # a side that would be less than one token becomes one, whatever the budget says
    for rule, name, unit in (("qwen", "max_pixels", 784), ("glm4v", "max_pixels", 1568)):
        least = {"min_pixels": 1}
        counts = [image_tokens(rule, width, height, {name: n * unit, **least}) for n in (few, many)]
        assert counts[0] <= counts[1], rule
    low, high = (image_tokens("gemma4", width, height, {"budget": n}) for n in (few, many))
    assert low <= few
    assert high <= many


@given(width=sides, height=sides)
@settings(max_examples=100, deadline=None)
def test_bounds_hold(width: int, height: int) -> None:
    assert image_tokens("internvl_tiles", width, height) <= 13 * 256
    assert image_tokens("idefics3", width, height) <= 17 * 169
    assert image_tokens("lfm2_vl", width, height) <= 11 * 256
    assert image_tokens("llama4", width, height) <= 17 * 144
    if max(width, height) <= 200 * min(width, height):
        columns, rows = qwen_size(width, height, factor=28, min_pixels=3136, max_pixels=1_003_520)
        assert columns % 28 == rows % 28 == 0
        assert image_tokens("qwen", width, height, {"max_pixels": 1_003_520}) <= 1280


def test_what_is_no_rule_setting_or_size_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="no image-token rule 'qwem'") as found:
        image_tokens("qwem", 10, 10)
    assert "qwen" in found.value.next_step
    with pytest.raises(InputError, match="rule qwen has no setting 'max_pixel'") as found:
        image_tokens("qwen", 10, 10, {"max_pixel": 1})
    assert "factor, min_pixels, max_pixels" in found.value.next_step
    with pytest.raises(InputError, match="factor of rule qwen is 0"):
        image_tokens("qwen", 10, 10, {"factor": 0})
    with pytest.raises(InputError, match="split of rule idefics2 is 2; expected 0 or 1"):
        image_tokens("idefics2", 10, 10, {"split": 2})
    with pytest.raises(ImageError, match="0 × 10 pixels is empty"):
        image_tokens("fixed", 0, 10)


def test_every_rule_says_what_it_does_and_has_defaults() -> None:
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.about.endswith(".")
        assert rule.settings
        assert all(type(value) is int for value in rule.settings.values())
        assert rule.flags <= set(rule.settings)
