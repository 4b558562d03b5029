"""Errors cross process borders, so they must arrive with all they carry."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from manako.core import errors
from manako.core.errors import ImageError, InputError, ManakoError, RowError

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ManakoError)
]


def pickled(error: ManakoError) -> Any:
    return pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("travel", [pickled, copy.copy])
def test_every_error_survives_the_way_with_its_next_step(kind: Any, travel: Any) -> None:
    error = kind("何かが違います", next_step="直してください")
    again = travel(error)
    assert type(again) is kind
    assert str(again) == str(error) == "何かが違います\n  → 直してください"
    assert (again.message, again.next_step) == (error.message, error.next_step)


def test_reasons_and_row_ids_travel_too() -> None:
    row = pickled(RowError("m", reason="image_count", row_id="r"))
    assert (row.reason, row.row_id) == ("image_count", "r")
    assert pickled(ImageError("m", reason="image_empty")).reason == "image_empty"


def test_each_error_is_also_the_standard_one_it_refines() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(errors.MissingFileError, FileNotFoundError)
    assert issubclass(errors.WriteError, OSError)
    assert issubclass(errors.BatchError, KeyError)
    assert issubclass(errors.MissingDependencyError, ImportError)
    assert issubclass(errors.NotInThisVersion, NotImplementedError)
    assert str(InputError("only this")) == "only this"
