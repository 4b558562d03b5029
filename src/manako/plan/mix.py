"""What a mix of data sets really holds: weights are meant in one unit, and set shares in the others.

Everything follows from how often a set is drawn (its passes). What nobody has counted stays unknown:
then a share of what is known is a bound, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from manako.catalogue.datasets import UNITS, Unit
from manako.core.errors import InputError

WeightUnit = Literal["rows", "questions", "answer_tokens", "epochs"]
WEIGHT_UNITS: tuple[WeightUnit, ...] = get_args(WeightUnit)


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A set and its weight. sizes: what it holds, by unit; None where nobody has counted."""

    id: str
    weight: float
    sizes: Mapping[Unit, int | None]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of the mix, 0..1. is_at_most: the true one may be smaller, as not all sizes are known."""

    value: float
    is_at_most: bool = False


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What one set brings. passes: how often each of its rows is drawn; None where unknown."""

    id: str
    weight: float
    passes: float | None
    amounts: Mapping[Unit, float | None]
    shares: Mapping[Unit, Share | None]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A mix of `size` in the unit of its weights (None: how much there is, is unknown)."""

    unit: WeightUnit
    size: float | None
    portions: tuple[Portion, ...]
    totals: Mapping[Unit, float | None]


def mix(ingredients: Sequence[Ingredient], unit: WeightUnit, *, size: float | None = None) -> Mix:
    """Shares, amounts and passes of each set.

    size: of the whole mix, in `unit`; without one, as much as all sets hold together. With weights
    in epochs a weight is how often the set is drawn, and a size has no place.
    Raises `InputError` for no set, a set that stands twice, a weight or size that is not above 0.
    """
    _check(ingredients, unit, size)
    given = _normal([one.weight for one in ingredients])
    if unit == "epochs":
        relative: list[float | None] = [one.weight for one in ingredients]
        scale: float | None = 1.0
    else:
        sizes = [one.sizes[unit] for one in ingredients]
        relative = [_divided(share, held) for share, held in zip(given, sizes, strict=True)]
        scale = size = _sum(sizes) if size is None else size
    shares = {name: _shares_of(_amounts(ingredients, relative, name)) for name in UNITS}
    passes = [_times(often, scale) for often in relative]
    amounts = {name: _amounts(ingredients, passes, name) for name in UNITS}
    if unit != "epochs":
        shares[unit] = [Share(value=share) for share in given]
        amounts[unit] = [_times(share, size) for share in given]
    totals = {name: _sum(found) for name, found in amounts.items()}
    portions = _portions(ingredients, passes, amounts, shares)
    return Mix(unit=unit, size=size, portions=portions, totals=totals)


def _normal(weights: Sequence[float]) -> list[float]:
    """Weights that sum to 1; the largest first becomes 1, so that no sum is too large."""
    scaled = [weight / max(weights) for weight in weights]
    return [weight / math.fsum(scaled) for weight in scaled]


def _amounts(
    ingredients: Sequence[Ingredient], passes: Sequence[float | None], unit: Unit
) -> list[float | None]:
    return [_times(often, one.sizes[unit]) for one, often in zip(ingredients, passes, strict=True)]


def _shares_of(amounts: Sequence[float | None]) -> list[Share | None]:
    """Shares of one unit. A share of the known amounts is at least the share of all of them."""
    if len(amounts) == 1:
        return [Share(value=1.0)]
    if len(amounts) - amounts.count(None) == 1:
        return [None] * len(amounts)  # at most all of it: says nothing
    known = math.fsum(amount for amount in amounts if amount is not None)
    is_at_most = None in amounts
    return [
        None if amount is None or not known else Share(value=amount / known, is_at_most=is_at_most)
        for amount in amounts
    ]


def _portions(
    ingredients: Sequence[Ingredient],
    passes: Sequence[float | None],
    amounts: Mapping[Unit, Sequence[float | None]],
    shares: Mapping[Unit, Sequence[Share | None]],
) -> tuple[Portion, ...]:
    return tuple(
        Portion(
            id=one.id,
            weight=one.weight,
            passes=passes[place],
            amounts={unit: found[place] for unit, found in amounts.items()},
            shares={unit: found[place] for unit, found in shares.items()},
        )
        for place, one in enumerate(ingredients)
    )


def _times(often: float | None, size: float | None) -> float | None:
    return None if often is None or size is None else often * size


def _divided(share: float, size: int | None) -> float | None:
    return share / size if size else None


def _sum(found: Sequence[float | int | None]) -> float | None:
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def _check(ingredients: Sequence[Ingredient], unit: WeightUnit, size: float | None) -> None:
    if not ingredients:
        raise InputError("a mix of no sets", next_step="name sets as ID=WEIGHT")
    ids = [one.id for one in ingredients]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise InputError(
            f"{', '.join(twice)} stands in the mix twice", next_step="give each set one weight"
        )
    for one in ingredients:
        if not 0 < one.weight < float("inf"):
            raise InputError(f"the weight of {one.id} is {one.weight:g}; expected a number above 0")
    if size is not None and unit == "epochs":
        raise InputError(
            f"a size of {size:,.0f} beside weights in epochs, which say already how much is drawn",
            next_step="leave the size out, or give the weights in rows, questions or answer_tokens",
        )
    if size is not None and not 0 < size < float("inf"):
        raise InputError(f"the size of the mix is {size:g}; expected a number above 0")
