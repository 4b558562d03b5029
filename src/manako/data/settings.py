"""What of a recipe decides the order, and the fingerprint by which a stopped run knows it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from manako.core.errors import RecipeError
from manako.core.recipe import Recipe, Stage

ORDER_VERSION = 1
"""Raised when the same settings would give another order than before."""


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """Fields as in `Recipe`. weights: by source name, in force where there are no stages."""

    weights: Mapping[str, float]
    weight_in: Literal["rows", "answer_tokens"] = "rows"
    stages: tuple[Stage, ...] = ()
    pack_tokens: int = 8192
    global_batch_packs: int = 16
    pack_window_rows: int = 256
    too_long: str = "error"
    seed: int = 0
    max_steps: int = 0
    num_train_epochs: float = 1.0

    def __post_init__(self) -> None:
        if not any(weight > 0 for weight in self.weights.values()):
            raise RecipeError("no source has a weight above 0: nothing would be drawn")

    @classmethod
    def of(cls, recipe: Recipe) -> LoaderSettings:
        return cls(
            weights={source.name: source.weight for source in recipe.data},
            weight_in=recipe.data[0].weight_in,
            stages=recipe.stages,
            pack_tokens=recipe.pack_tokens,
            global_batch_packs=recipe.global_batch_packs,
            pack_window_rows=recipe.pack_window_rows,
            too_long=recipe.too_long,
            seed=recipe.seed,
            max_steps=recipe.max_steps,
            num_train_epochs=recipe.num_train_epochs,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Sources by name: in which order a recipe lists them changes nothing."""
        return tuple(sorted(self.weights))


def fingerprint_of(
    settings: LoaderSettings, manifests: Mapping[str, str], processor: Mapping[str, str]
) -> dict[str, Any]:
    """All that decides the order and what is in it, as JSON values.

    The length of the run is part of it where it decides the order: epochs say where the last
    window ends, and stages are shares of the steps. So a run of `max_steps` without stages may be
    made longer, and goes on as if it had been so from the start.
    """
    decided: dict[str, Any] = {
        "order_version": ORDER_VERSION,
        "sources": dict(manifests),
        "processor": dict(processor),
        "packing": {
            "pack_tokens": settings.pack_tokens,
            "global_batch_packs": settings.global_batch_packs,
            "pack_window_rows": settings.pack_window_rows,
            "too_long": settings.too_long,
        },
        "seed": settings.seed,
        "weight_in": settings.weight_in,
    }
    if not settings.max_steps:
        decided["num_train_epochs"] = settings.num_train_epochs
    if not settings.stages:
        return {**decided, "weights": dict(settings.weights)}
    stages = [{"share": stage.share, "weights": dict(stage.weights)} for stage in settings.stages]
    return {**decided, "stages": stages, "max_steps": settings.max_steps}


def differences(found: Any, expected: Any, name: str = "") -> list[str]:
    """`field: ...` for each field in which the fingerprint of a state differs from this run's."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        lines = []
        for key in dict.fromkeys([*expected, *found]):
            inner = f"{name}.{key}" if name else str(key)
            lines += differences(found.get(key, "nothing"), expected.get(key, "nothing"), inner)
        return lines
    if found == expected:
        return []
    return [f"{name}: the state has {found}, this run {expected}"]
