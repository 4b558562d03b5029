"""Every error that Manako raises on purpose.

    ManakoError                    message + next step; the command line prints both, no traceback
     ├─ InputError (ValueError)            a value the user gave is wrong
     │   ├─ RecipeError                    a recipe field: unknown, ill-typed, contradictory
     │   ├─ RowError                       one conversation cannot be used; carries the row id
     │   │   ├─ TooLongError               longer than a pack
     │   │   └─ NothingTrainedError        no token of the row would be trained
     │   ├─ ImageError                     corrupt, empty, too large
     │   ├─ TemplateError                  a chat template refuses, loops, or changes the words
     │   └─ RefusedFileError               a file of a kind that is never taken, or an unsafe path
     ├─ MissingFileError (FileNotFoundError)
     ├─ CheckpointError (ValueError)       a folder is no checkpoint, or its weights do not fit
     │   └─ AdapterError                   adapter names match nothing in the model
     ├─ BatchError (KeyError)              a key the model needs is missing from its inputs
     ├─ ResumeError (RuntimeError)         a run cannot go on from where it stopped
     ├─ WorkerError (RuntimeError)         a worker process died, or its code failed on a row
     ├─ RankError (RuntimeError)           another process of the same run did not come
     ├─ WriteError (OSError)               a file could not be written; what was there still is
     ├─ HubError (OSError)                 a file or fact could not be had from the Hub
     │   ├─ NotOnHubError (FileNotFoundError)   no such repository, revision or file; or private
     │   ├─ HubAccessError (PermissionError)    gated, or the token is missing, wrong or too weak
     │   ├─ HubUnreachableError (ConnectionError)  nothing came, and the cache does not have it
     │   └─ WrongBytesError                what came is not what was announced; none of it is kept
     ├─ NotInThisVersion (NotImplementedError)
     ├─ MissingDependencyError (ImportError)   prints the install line
     └─ LawBroken (AssertionError)         a law of `verify/` does not hold

To add one: subclass the nearest, and the standard error it refines; keep `__init__` (errors cross
process borders, so they must pickle with their next step).
"""

from __future__ import annotations


class ManakoError(Exception):
    """Base of all deliberate errors: what is wrong, and what to do about it."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.next_step}" if self.next_step else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


def _rebuild(kind: type[ManakoError], message: str, state: dict[str, object]) -> ManakoError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class InputError(ManakoError, ValueError):
    """A value the user gave is wrong."""


class RecipeError(InputError):
    """A recipe field is unknown, ill-typed or contradicts another."""


class RowError(InputError):
    """One conversation cannot be used.

    `row_id` names the row, `reason` is a short stable word for `dropped.parquet` and records.
    """

    def __init__(
        self, message: str, *, reason: str = "refused", row_id: str = "", next_step: str = ""
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.reason = reason
        self.row_id = row_id


class TooLongError(RowError):
    """A conversation is longer than a pack."""


class NothingTrainedError(RowError):
    """No token of a conversation would be trained."""


class ImageError(InputError):
    """An image is corrupt, empty, of an unknown kind, or beyond the ceilings.

    `reason` is a short stable word for `dropped.parquet` and records, as in `RowError`.
    """

    def __init__(self, message: str, *, reason: str = "image", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.reason = reason


class TemplateError(InputError):
    """A chat template refuses the conversation, runs too long, or changes its words."""


class RefusedFileError(InputError):
    """A file of a kind that is never taken from the Hub, or a path that leaves its folder."""


class MissingFileError(ManakoError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class CheckpointError(ManakoError, ValueError):
    """A folder is no checkpoint, or what it holds does not fit together."""


class AdapterError(CheckpointError):
    """An adapter's weights match nothing in the model it is put on."""


class BatchError(ManakoError, KeyError):
    """A key that the model needs is missing from its inputs."""

    __str__ = ManakoError.__str__


class ResumeError(ManakoError, RuntimeError):
    """A run cannot go on from where it stopped."""


class WorkerError(ManakoError, RuntimeError):
    """A worker process of the loader died, or what it was handed failed on a row."""


class RankError(ManakoError, RuntimeError):
    """Another process of the same run did not come where all were to meet.

    `failed_rank` is the one that is to blame, None where that is not known.
    """

    def __init__(
        self, message: str, *, failed_rank: int | None = None, next_step: str = ""
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.failed_rank = failed_rank


class WriteError(ManakoError, OSError):
    """A file could not be written; what was there before is still there."""


class HubError(ManakoError, OSError):
    """A file or a fact could not be had from the Hub."""

    def __init__(
        self,
        message: str,
        *,
        next_step: str = "run the same command again; see that HF_ENDPOINT "
        "is right, and that no proxy on the way changes what comes",
    ) -> None:
        super().__init__(message, next_step=next_step)


class NotOnHubError(HubError, FileNotFoundError):
    """The Hub knows no such repository, revision or file; or it is private."""


class HubAccessError(HubError, PermissionError):
    """A gated repository, or a token that is missing, wrong, or without the right."""


class HubUnreachableError(HubError, ConnectionError):
    """Nothing came after all attempts, or offline, and the cache does not have it."""


class WrongBytesError(HubError):
    """What came is not what was announced (length, range, hash, kind); none of it is kept."""


class NotInThisVersion(ManakoError, NotImplementedError):
    """A known wish that this version does not fulfil."""


class MissingDependencyError(ManakoError, ImportError):
    """An optional package is not installed; the next step is the install line."""


class LawBroken(ManakoError, AssertionError):
    """A law of `verify/` does not hold."""
