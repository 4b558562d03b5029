"""Plain values to dataclasses: every wrong field is named, with what was meant or expected."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.core.errors import RecipeError
from manako.core.settings import build, parse_assignment, plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    items: tuple[Inner, ...] = ()
    kind: Literal["cosine", "linear"] = "cosine"
    parts: Literal[False, True, "some"] = False
    rates: Mapping[str, float] | None = None
    bf16: bool = False
    limit: int | None = None


def made(**values: Any) -> Outer:
    return build(Outer, {"steps": 1, **values}, where="recipe")


def test_values_are_converted_where_nothing_is_lost() -> None:
    outer = made(items=[{"name": "a", "weight": 2}], rates={"x": "1e-4"}, limit=None)
    assert outer.items == (Inner(name="a", weight=2.0),)
    assert outer.rates == {"x": 1e-4}
    assert made(items=[{"name": 3}]).items[0].name == "3"
    assert made(parts=True).parts is True
    assert made(parts="some").parts == "some"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"step": 2}, r"unknown field 'step' \(did you mean 'steps'\?\)"),
        ({"items": [{"name": "a", "wieght": 2}]}, r"items\[0\]: unknown field 'wieght'.*'weight'"),
        ({"items": [{}]}, r"items\[0\]: missing name"),
        ({"items": {"name": "a"}}, "items: expected a list"),
        ({"kind": "cosin"}, r"kind is 'cosin' .*did you mean 'cosine'"),
        ({"parts": "sme"}, r"parts is 'sme' .*false \| true \| some \(did you mean 'some'\?\)"),
        ({"parts": 1}, "parts is 1"),
        ({"steps": "many"}, r"steps is 'many' \(str\); expected int"),
        ({"steps": True}, "steps is True"),
        ({"steps": False}, "steps is False"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"bf16": 1}, "bf16 is 1"),
        ({"rates": {"x": "fast"}}, r"rates\.x is 'fast'"),
        ({"rates": {"x": math.nan}}, "finite number"),
        ({"rates": {"x": "inf"}}, "finite number"),
        ({"rates": {"x": True}}, "finite number"),
        ({"rates": 3}, "rates: expected fields"),
        ({"limit": "a"}, "limit is 'a'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(values: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        made(**values)


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(RecipeError, match="expected fields, found 'x'"):
        build(Outer, "x", where="recipe")


def test_assignments_reach_inside() -> None:
    values: dict[str, Any] = {"items": [{"name": "a"}], "rates": None}
    for assignment in ("steps=3", "items.0.weight=2.5", "rates.x=1e-4", "kind = linear"):
        parse_assignment(assignment, values)
    assert build(Outer, values, where="recipe") == Outer(
        steps=3, items=(Inner(name="a", weight=2.5),), rates={"x": 1e-4}, kind="linear"
    )


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("items.7.weight=1", "'7' is no position in a list of 1"),
        ("items.²=1", "'²' is no position"),
        ("items.-1=1", "'-1' is no position"),
        ("steps.a=1", "'steps' has|no place to go"),
        ("steps=[1", "no YAML"),
        ("steps=2001-99-99", "no YAML"),
        ("steps=!!timestamp x", "no YAML"),
    ],
)
def test_a_wrong_assignment_is_quoted(assignment: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_assignment(assignment, {"steps": 1, "items": [{"name": "a"}]})


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_any_assignment_is_taken_or_refused_but_never_crashes(assignment: str) -> None:
    values: dict[str, Any] = {"steps": 1, "items": [{"name": "a"}]}
    with contextlib.suppress(RecipeError):
        parse_assignment(assignment, values)
        assert "=" in assignment
    assert values.keys() >= {"steps", "items"}


OUTERS = st.builds(
    Outer,
    steps=st.integers(),
    items=st.lists(
        st.builds(Inner, name=st.text(), weight=st.floats(allow_nan=False, allow_infinity=False)),
        max_size=3,
    ).map(tuple),
    kind=st.sampled_from(["cosine", "linear"]),
    rates=st.none()
    | st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    bf16=st.booleans(),
    limit=st.none() | st.integers(),
)


@settings(max_examples=100, deadline=None)
@given(OUTERS)
def test_plain_values_build_the_same_again(outer: Outer) -> None:
    assert build(Outer, plain(outer), where="recipe") == outer
