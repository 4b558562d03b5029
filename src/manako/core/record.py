"""Record: the one file format that every verb writes and `report` reads.

JSON lines, UTF-8. The first line is the header (what made it, when, with which versions), every
further line an event with a `kind`. A reader takes whole lines only: a process that was killed
while writing leaves a torn last line, never a broken record.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from manako.core.errors import InputError, MissingFileError
from manako.core.files import write_error, write_text

SCHEMA_VERSION = 1
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "pillow")


@dataclass(frozen=True)
class Record:
    """A record read back: its header and its events in order."""

    header: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...] = field(repr=False)

    def of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event.get("kind") == kind]


class RecordWriter:
    """Appends events to a record; every line is flushed, so a reader may follow along."""

    def __init__(self, path: Path, *, verb: str, **header: Any) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = _drop_torn_line(path) == 0
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise write_error(path, error) from error
        if is_new:
            self.write("header", **make_header(verb), **header)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event. Raises `WriteError` when the disk does not take it."""
        try:
            self._file.write(_line({"kind": kind, **fields}))
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error) from error

    def close(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()  # also where the disk is full

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_header(verb: str) -> dict[str, Any]:
    """What made a record: schema, verb, time (UTC), machine kind and package versions."""
    from manako import __version__

    return {
        "schema_version": SCHEMA_VERSION,
        "verb": verb,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "manako": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages whose numbers depend on them; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_record(path: Path) -> Record:
    """Read a record; a torn last line is left out. Raises `InputError` for anything else broken."""
    if not path.is_file():
        raise MissingFileError(f"no record at {path}")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    whole = lines[:-1]  # what follows the last newline was never finished
    events = [_parsed(path, number, line) for number, line in enumerate(whole, 1) if line]
    if not events or events[0].get("kind") != "header":
        raise InputError(f"{path} is no record: its first line is no header")
    return Record(events[0], tuple(events[1:]))


def write_record(path: Path, verb: str, events: Iterable[Mapping[str, Any]], **header: Any) -> None:
    """Write a whole record at once, atomically."""
    head = {"kind": "header", **make_header(verb), **header}
    write_text(path, "".join(_line(event) for event in [head, *events]))


def forget_after(path: Path, step: int) -> None:
    """Drop events of steps after `step`: a resumed run makes them again."""
    if not path.is_file():
        return
    record = read_record(path)
    kept = [record.header] + [event for event in record.events if event.get("step", 0) <= step]
    write_text(path, "".join(_line(event) for event in kept))


def _drop_torn_line(path: Path) -> int:
    """Cut what follows the last newline, or the next event would end in the middle of it.

    Returns the bytes that are left.
    """
    if not path.exists():
        return 0
    whole_bytes = path.read_bytes().rfind(b"\n") + 1
    os.truncate(path, whole_bytes)
    return whole_bytes


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, allow_nan=True) + "\n"


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path} line {number} is no JSON: {error}") from error
    if not isinstance(event, dict):
        raise InputError(f"{path} line {number} is no JSON object")
    return event
