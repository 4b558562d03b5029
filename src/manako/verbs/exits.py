"""How a command ends: one number that scripts may rely on."""

from __future__ import annotations

from enum import IntEnum

from manako.core.errors import (
    CheckpointError,
    InputError,
    MissingDependencyError,
    MissingFileError,
    NotInThisVersion,
    NotOnHubError,
    ResumeError,
)


class Exit(IntEnum):
    """Exit codes of every command. NOT_RUN: a law could not be tried on this machine, which never
    reads as holding."""

    OK = 0
    FAILED = 1
    WRONG_CALL = 2
    STOPPED = 3
    NOT_RUN = 4


WRONG_CALLS = (
    InputError,
    MissingFileError,
    CheckpointError,
    ResumeError,
    NotInThisVersion,
    NotOnHubError,
    MissingDependencyError,
)
"""Errors that say the call asked for what cannot be: the same call would fail the same way."""


def exit_of(error: BaseException) -> Exit:
    """The exit code that an error ends a command with."""
    if isinstance(error, KeyboardInterrupt):
        return Exit.STOPPED
    return Exit.WRONG_CALL if isinstance(error, WRONG_CALLS) else Exit.FAILED
