"""AdamW with moments of eight bits, from a library where it is installed.

Each block of 256 numbers shares a scale (Dettmers et al., arXiv 2110.02861). The names are those of
`TrainingArguments.optim`. The libraries keep their state in forms of their own, whole numbers and
tensors made of tensors; here it becomes plain tensors and that form again.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from manako.core.errors import CheckpointError, MissingDependencyError

if TYPE_CHECKING:
    from manako.core.recipe import Recipe

LIBRARIES = {"adamw_bnb_8bit": "bitsandbytes", "adamw_torch_8bit": "torchao"}
"""The package that has an `optim.AdamW8bit`, by the recipe's `optim`."""


def check_installed(recipe: Recipe) -> None:
    """Raise `MissingDependencyError`, with the install line, where the recipe's library is not."""
    package = LIBRARIES.get(recipe.optim)
    if package and find_spec(package) is None:
        raise MissingDependencyError(
            f"optim: {recipe.optim} needs the package {package}",
            next_step=f"pip install {package}, or set optim_state_dtype: bfloat16 with optim: adamw",
        )


def open_8bit(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """The library's AdamW on these groups. Raises `MissingDependencyError`."""
    check_installed(recipe)
    library = importlib.import_module(f"{LIBRARIES[recipe.optim]}.optim")
    betas = (recipe.adam_beta1, recipe.adam_beta2)
    made: torch.optim.Optimizer = library.AdamW8bit(
        groups, lr=0.0, betas=betas, eps=recipe.adam_epsilon
    )
    return made


def library_of(optimizer: torch.optim.Optimizer) -> str | None:
    """The package that an optimizer comes from, None for one of ours or torch's."""
    package = type(optimizer).__module__.partition(".")[0]
    return package if package in LIBRARIES.values() else None


def describe_8bit(optimizer: torch.optim.Optimizer) -> str:
    """Package and version: others give other bits."""
    package = str(library_of(optimizer))
    return f"AdamW (8 bit, {package} {metadata.version(package)})"


def plain_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of one parameter as plain tensors; those inside another are called `outer/inner`."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if hasattr(value, "to_local"):  # some rows of a tensor that ranks share
            found[key] = value
        elif isinstance(value, Tensor) and is_traceable_wrapper_subclass(value):
            names, _ = value.__tensor_flatten__()
            found |= {f"{key}/{name}": getattr(value, name) for name in names}
        else:
            found[key] = torch.as_tensor(value).clone()  # tables are shared between parameters
    return found


def restore_8bit(
    optimizer: torch.optim.Optimizer, saved: Mapping[nn.Parameter, Mapping[str, Tensor]]
) -> None:
    """Put saved state back, in the library's own form.

    That form is made by the library: by a step of rate 0 on gradients of 0, which moves nothing.
    Raises `CheckpointError` where it has other tensors than were saved.
    """
    for parameter in saved:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, tensors in saved.items():
        parameter.grad = None
        state = optimizer.state[parameter]
        fresh = plain_state(state)
        if fresh.keys() != tensors.keys() or any(
            fresh[key].shape != tensors[key].shape for key in fresh
        ):
            raise CheckpointError(
                f"optimizer state has {', '.join(sorted(tensors))}; {library_of(optimizer)} as it "
                f"is installed keeps {', '.join(sorted(fresh))}",
                next_step="install the version that the run's record.jsonl names",
            )
        _fill(state, tensors)


def _fill(state: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    for key, tensor in tensors.items():
        outer, _, inner = key.partition("/")
        if inner:
            getattr(state[outer], inner).copy_(tensor)
        elif isinstance(state[outer], Tensor):
            state[outer].copy_(tensor)
        else:
            state[outer] = type(state[outer])(tensor.item())
