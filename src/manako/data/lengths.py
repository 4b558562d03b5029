"""What is known of the lengths of rows: learnt chunk by chunk, or for a whole source at once.

A whole source's lengths are kept in a file named by everything that decides them, so that a run
that is started again does not measure again.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.files import atomic_path
from manako.data.pack import FAILED_TOKENS
from manako.data.row_work import Measured, Refusal
from manako.data.schedule import Unmeasured

UNKNOWN = -2
FILE_VERSION = 1


class LengthBook:
    """Tokens and trained tokens per row: 8 bytes a row, whatever the row holds."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._tokens = [np.full(count, UNKNOWN, np.int32) for count in rows]
        self._trained = [np.zeros(count, np.int32) for count in rows]
        self._refusals: list[dict[int, Refusal]] = [{} for _ in rows]

    def __call__(self, source: int, row: int) -> tuple[int, int]:
        """(tokens, trained tokens); tokens are `FAILED_TOKENS` for a refused row.

        Raises `Unmeasured` where nothing is known, and `TooLongError` (or what else stops a run)
        for a row that must not be passed over.
        """
        tokens = int(self._tokens[source][row])
        if tokens == UNKNOWN:
            raise Unmeasured(source, row)
        if tokens == FAILED_TOKENS:
            refusal = self._refusals[source][row]
            if refusal.stops:
                raise refusal.error()
        return tokens, int(self._trained[source][row])

    def knows(self, source: int, row: int) -> bool:
        return bool(self._tokens[source][row] != UNKNOWN)

    def unknown_rows(self, source: int) -> NDArray[np.int64]:
        """int64: rows of a source of which nothing is known."""
        return np.flatnonzero(self._tokens[source] == UNKNOWN)

    def refusal(self, source: int, row: int) -> Refusal | None:
        return self._refusals[source].get(row)

    def why(self, source: int, row: int) -> str:
        refusal = self._refusals[source].get(row)
        return refusal.error().message if refusal else f"row {row}"

    def all_refusals(self) -> list[Refusal]:
        """Why, of every row known to be refused, in the order of sources and rows."""
        return [found[row] for found in self._refusals for row in sorted(found)]

    def learn(self, measured: Measured) -> None:
        source, rows = measured.task.source, list(measured.task.rows)
        self._tokens[source][rows] = measured.tokens
        self._trained[source][rows] = measured.trained
        self._refusals[source].update(measured.refusals)

    def save(self, source: int, path: Path) -> None:
        """Write what is known of a source, atomically. Raises `WriteError`."""
        refusals = {str(row): why.as_dict() for row, why in self._refusals[source].items()}
        text = json.dumps(refusals, ensure_ascii=False).encode("utf-8")
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                tokens=self._tokens[source],
                trained=self._trained[source],
                refusals=np.frombuffer(text, np.uint8),
            )

    def load(self, source: int, path: Path) -> bool:
        """Take over what `save` wrote; False where there is no such file, or it does not fit.

        The file is a copy of what can be measured again, so one that cannot be read is passed
        over and will be replaced.
        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                tokens, trained = file["tokens"], file["trained"]
                found = json.loads(file["refusals"].tobytes())
            refusals = {int(row): Refusal(**values) for row, values in found.items()}
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return False
        if tokens.shape != self._tokens[source].shape or trained.shape != tokens.shape:
            return False
        self._tokens[source] = tokens.astype(np.int32)
        self._trained[source] = trained.astype(np.int32)
        self._refusals[source] = refusals
        return True


def lengths_file(folder: Path, what_decides: Mapping[str, Any]) -> Path:
    """The file of one source's lengths, named by a hash of what decides them."""
    text = json.dumps({"version": FILE_VERSION, **what_decides}, sort_keys=True)
    return folder / f"lengths-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:24]}.npz"
