"""Optimizers of other packages: found or asked for, and their state there and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from manako.core.errors import CheckpointError, MissingDependencyError
from manako.core.recipe import Recipe
from manako.core.record import read_record
from manako.train import eight_bit
from manako.train.loop import run_training

MakeRecipe = Callable[..., Recipe]
STAND_INS = {"adamw_bnb_8bit": "InTables", "adamw_torch_8bit": "InTensors"}


@pytest.fixture(params=sorted(STAND_INS))
def optim(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A recipe's `optim` whose package is there: a stand-in under its name."""
    package = eight_bit.LIBRARIES[request.param]
    folder = tmp_path / "site" / package
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    stand_in = STAND_INS[request.param]
    (folder / "optim.py").write_text(
        f"from fake_eight_bit import {stand_in}\n\nclass AdamW8bit({stand_in}):\n    pass\n"
    )
    about = tmp_path / "site" / f"{package}-9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in (package, f"{package}.optim"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield request.param
    for name in (package, f"{package}.optim"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("optim", sorted(eight_bit.LIBRARIES))
def test_a_missing_package_is_asked_for_before_weights_are_read(
    recipe: MakeRecipe, optim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eight_bit, "find_spec", lambda name: None)
    package = eight_bit.LIBRARIES[optim]
    with pytest.raises(
        MissingDependencyError, match=f"{optim} needs the package {package}"
    ) as told:
        run_training(recipe(optim=optim))
    assert told.value.next_step.startswith(f"pip install {package}, or ")


def tensors(folder: Path | None) -> dict[str, torch.Tensor]:
    assert folder is not None
    return {
        f"{file.name}/{name}": tensor
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def train_until(step: int, recipe: Recipe) -> None:
    """Train, and end without warning after this step; the one before it is saved."""

    def end(event: Any) -> None:
        if event["kind"] == "step" and event["step"] == step:
            raise MemoryError

    with pytest.raises(MemoryError):
        run_training(recipe.replace(save_steps=step - 1), listener=end)


def test_a_run_goes_on_bit_for_bit(recipe: MakeRecipe, optim: str) -> None:
    whole = run_training(recipe("whole", optim=optim))
    setup = next(iter(read_record(whole.folder / "record.jsonl").of_kind("setup")))
    assert setup["optimizer"] == f"AdamW (8 bit, {eight_bit.LIBRARIES[optim]} 9.9)"
    train_until(4, recipe("cut", optim=optim))
    gone_on = run_training(recipe("cut", optim=optim))
    expected, found = tensors(whole.checkpoint), tensors(gone_on.checkpoint)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    kept = {str(tensor.dtype) for name, tensor in found.items() if name.startswith("optimizer")}
    assert kept & {"torch.uint8", "torch.int8"}


def test_state_of_another_version_is_refused(recipe: MakeRecipe, optim: str) -> None:
    train_until(3, recipe(optim=optim))
    package = sys.modules[f"{eight_bit.LIBRARIES[optim]}.optim"]

    class Other(package.AdamW8bit):  # type: ignore[name-defined, misc]
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            for state in self.state.values():
                state.setdefault("new", torch.zeros(1))

    Other.__module__ = package.__name__
    package.AdamW8bit = Other  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match=r"as it is installed keeps .*new"):
        run_training(recipe(optim=optim))
