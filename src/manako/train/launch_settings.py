"""What `accelerate launch` was asked for: done, or refused; nothing of it is passed over."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from manako.core.errors import InputError, NotInThisVersion

if TYPE_CHECKING:
    from manako.core.recipe import Recipe

USE_FSDP = "ACCELERATE_USE_FSDP"
ON = ("1", "true", "yes")


def as_launched(recipe: Recipe) -> Recipe:
    """The recipe with `fsdp` where `accelerate launch --use_fsdp` started this process.

    Raises `NotInThisVersion` for what Accelerate was asked for and is not done here.
    """
    for kind in ("DEEPSPEED", "MEGATRON_LM"):
        if _is_on(f"ACCELERATE_USE_{kind}"):
            raise NotInThisVersion(
                f"Accelerate's {kind} is not in this version",
                next_step="start with `accelerate launch --use_fsdp --fsdp_version 2`",
            )
    if not _is_on(USE_FSDP):
        return recipe
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise NotInThisVersion(
            "FSDP of version 1 is not in this version", next_step="add --fsdp_version 2"
        )
    if _is_on("FSDP_OFFLOAD_PARAMS"):
        raise NotInThisVersion(
            "FSDP with weights kept on the CPU is not in this version",
            next_step="leave --fsdp_offload_params out; more ranks hold less each",
        )
    if _is_on("FSDP_ACTIVATION_CHECKPOINTING"):
        raise InputError(
            "layers that are computed again are the recipe's to choose",
            next_step="set gradient_checkpointing: true there, and leave "
            "--fsdp_activation_checkpointing out",
        )
    if not _is_on("FSDP_RESHARD_AFTER_FORWARD", default="true"):
        raise NotInThisVersion(
            "FSDP that keeps layers gathered is not in this version",
            next_step="leave --fsdp_reshard_after_forward out",
        )
    return recipe.replace(fsdp=True)


@contextlib.contextmanager
def fsdp_is_ours() -> Iterator[None]:
    """Keep the word of FSDP from Accelerate and `transformers`: the one would want to prepare the
    model, the other loads weights on the first rank alone where it reads it."""
    before = os.environ.pop(USE_FSDP, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[USE_FSDP] = before


def _is_on(name: str, default: str = "") -> bool:
    return os.environ.get(name, default).lower() in ON
