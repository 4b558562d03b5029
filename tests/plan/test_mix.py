"""Mixes: shares follow from weights and sizes, and what is unknown is never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.catalogue.datasets import UNITS, datasets, find_set, parts_of
from manako.core.errors import InputError
from manako.plan.mix import WEIGHT_UNITS, Ingredient, Mix, WeightUnit, mix

SIZE = st.integers(1, 10**9)


def ingredient(name: str, weight: float, *sizes: int | None) -> Ingredient:
    return Ingredient(id=name, weight=weight, sizes=dict(zip(UNITS, sizes, strict=True)))


@st.composite
def ingredients(draw: st.DrawFn, *, known: bool) -> list[Ingredient]:
    size = SIZE if known else st.none() | SIZE
    count = draw(st.integers(1, 6))
    return [
        ingredient(f"s{place}", draw(st.floats(1e-3, 1e3)), draw(size), draw(size), draw(size))
        for place in range(count)
    ]


@settings(max_examples=60)
@given(ingredients(known=True), st.sampled_from(WEIGHT_UNITS))
def test_shares_sum_to_one_in_every_unit(given_sets: list[Ingredient], unit: WeightUnit) -> None:
    found = mix(given_sets, unit)
    for name in UNITS:
        shares = [portion.shares[name] for portion in found.portions]
        assert all(share is not None and not share.is_at_most for share in shares)
        assert sum(share.value for share in shares if share) == pytest.approx(1)


@settings(max_examples=60)
@given(ingredients(known=False), st.sampled_from(WEIGHT_UNITS), st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_the_scale_of_weights(
    given_sets: list[Ingredient], unit: WeightUnit, factor: float
) -> None:
    scaled = [ingredient(s.id, s.weight * factor, *s.sizes.values()) for s in given_sets]
    assert shares_of(mix(given_sets, unit)) == pytest.approx(shares_of(mix(scaled, unit)))


@settings(max_examples=60)
@given(ingredients(known=True), st.sampled_from(UNITS), st.data())
def test_an_unknown_size_only_loosens_what_is_said(
    given_sets: list[Ingredient], unit: WeightUnit, data: st.DataObject
) -> None:
    hidden = data.draw(st.integers(0, len(given_sets) - 1))
    blurred = list(given_sets)
    blurred[hidden] = ingredient(f"s{hidden}", given_sets[hidden].weight, None, None, None)
    exact, loose = mix(given_sets, unit), mix(blurred, unit)
    for one, other in zip(exact.portions, loose.portions, strict=True):
        for name in UNITS:
            true, said = one.shares[name], other.shares[name]
            if said is None or true is None:
                continue
            assert said.value >= true.value * (1 - 1e-9)
            assert said.is_at_most or said.value == pytest.approx(true.value)


def shares_of(found: Mix) -> list[float]:
    shares = [portion.shares[name] for portion in found.portions for name in UNITS]
    return [-1.0 if share is None else share.value for share in shares]


def test_weights_in_questions_are_shares_of_questions() -> None:
    found = mix([ingredient("a", 1, 10, 1000, None), ingredient("b", 3, 50, 50, 200)], "questions")
    a, b = found.portions
    assert found.size == 1050
    assert a.passes == pytest.approx(0.2625)
    assert b.passes == pytest.approx(15.75)
    assert [round(s.value, 4) for s in (a.shares["questions"], b.shares["questions"]) if s] == [
        0.25,
        0.75,
    ]
    assert a.amounts["rows"] == pytest.approx(2.625)
    assert a.shares["answer_tokens"] is None
    assert b.shares["answer_tokens"] is None  # at most all of it: says nothing
    assert found.totals["answer_tokens"] is None


def test_a_size_scales_passes_and_amounts_alone() -> None:
    sets = [ingredient("a", 1, 10, 10, 10), ingredient("b", 1, 20, 20, 20)]
    small, large = mix(sets, "rows", size=30), mix(sets, "rows", size=300)
    assert shares_of(small) == shares_of(large)
    assert [portion.passes for portion in large.portions] == [15, 7.5]
    assert large.totals["rows"] == 300


def test_a_mix_of_unknown_size_has_shares_and_no_passes() -> None:
    found = mix([ingredient("a", 1, None, 10, 10), ingredient("b", 1, 20, 20, 20)], "rows")
    assert found.size is None
    assert [portion.passes for portion in found.portions] == [None, None]
    assert [portion.shares["rows"].value for portion in found.portions] == [0.5, 0.5]  # type: ignore[union-attr]


def test_plotqa_is_two_thirds_of_the_questions_of_the_cauldron() -> None:
    parts = parts_of(find_set("HuggingFaceM4/the_cauldron"))
    sets = [
        Ingredient(id=one.id, weight=1, sizes={unit: one.size(unit) for unit in UNITS})
        for one in parts
    ]
    found = {portion.id.partition(":")[2]: portion for portion in mix(sets, "epochs").portions}
    share = found["plotqa"].shares["questions"]
    assert share is not None
    assert share.value == pytest.approx(20_249_479 / 30_344_030)
    assert found["plotqa"].shares["answer_tokens"] is None
    dvqa = found["dvqa"].shares["answer_tokens"]
    assert dvqa is not None
    assert dvqa.is_at_most


def test_the_published_mix_draws_small_sets_often() -> None:
    """The passes that follow from the published shares are whole steps of one unit: 2, 1, 1/2 ..."""
    sets = [
        Ingredient(
            id=one.id.partition(":")[2],
            weight=one.shares["idefics2"].value,
            sizes={unit: one.size(unit) for unit in UNITS},
        )
        for one in datasets()
        if "idefics2" in one.shares and one.part_of
    ]
    found = mix(sets, "answer_tokens", size=10**9)
    passes = {portion.id: portion.passes or 0 for portion in found.portions}
    assert passes["docvqa"] / passes["cocoqa"] == pytest.approx(2, rel=0.02)
    assert passes["clevr"] / passes["cocoqa"] == pytest.approx(0.1, rel=0.02)
    assert passes["websight"] < passes["rendered_text"] / 100


@pytest.mark.parametrize(
    ("sets", "unit", "size", "message"),
    [
        ([], "rows", None, "a mix of no sets"),
        ([("a", 1.0), ("a", 2.0)], "rows", None, "a stands in the mix twice"),
        ([("a", 0.0)], "rows", None, "the weight of a is 0"),
        ([("a", float("nan"))], "rows", None, "the weight of a is nan"),
        ([("a", 1.0)], "rows", 0, "the size of the mix is 0"),
        ([("a", 1.0)], "epochs", 10, "beside weights in epochs"),
    ],
)
def test_what_is_no_mix_is_refused(
    sets: list[tuple[str, float]], unit: WeightUnit, size: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        mix([ingredient(name, weight, 1, 1, 1) for name, weight in sets], unit, size=size)
