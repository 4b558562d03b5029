"""`manako.train` is a verb for whoever calls it, also when its room is loaded already."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import manako


def test_train_can_be_called_once_the_room_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []
    monkeypatch.setattr("manako.verbs.tune.train", trained.append)
    # What the import system does to `manako` when something imports the room.
    monkeypatch.setattr(manako, "train", importlib.import_module("manako.train"))
    recipe: Any = object()
    manako.train(recipe)
    assert trained == [recipe]
