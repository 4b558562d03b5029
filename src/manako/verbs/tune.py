"""Tune: train by a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manako.core.recipe import Recipe
    from manako.train.loop import Outcome


def train(recipe: Recipe) -> Outcome:
    """Train in this process, and go on from the last checkpoint where `output_dir` has one."""
    from manako.train.loop import run_training

    return run_training(recipe)
