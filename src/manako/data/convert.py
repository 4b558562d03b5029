"""Any known source into the canonical form, row by row; a row that does not fit is on record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.discovery import discover
from manako.core.errors import ImageError, InputError, RowError
from manako.core.row import row_of
from manako.data.manifest import Manifest
from manako.data.writer import DroppedRow, StoreWriter, check_is_free, write_store
from manako.formats._shared import Format, RawRow, SourceFiles, json_value, labels_of

if TYPE_CHECKING:
    Progress = Callable[[int, float], None]
    """Told (rows done, share of the source read, 0..1) every so often."""

PROGRESS_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class ConvertReport:
    """What a conversion did.

    bytes: size of the written files. left_out: files of the source that are of another format, and
    why. seconds: wall time.
    """

    out: Path
    format: str
    rows: int
    images: int
    dropped: int
    by_reason: Mapping[str, int]
    left_out: Mapping[str, str]
    seconds: float
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            **vars(self),
            "out": str(self.out),
            "by_reason": dict(self.by_reason),
            "left_out": dict(self.left_out),
        }


def convert(
    src: Path,
    out: Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    progress: Progress | None = None,
) -> ConvertReport:
    """Convert `src`, a file or folder, into a new data set folder `out`.

    format: name of a format; found out from the files when None.
    images: a further folder in which the source's picture paths may lie.
    Raises `InputError` when no format fits, several do, no row could be used, or `out` holds files;
    `MissingFileError` when `src` does not exist. Rows that do not fit go to `dropped.parquet`.
    """
    started = time.monotonic()
    check_is_free(out)
    chosen = _format_of(src, format)
    found = chosen.find(src)
    if images is not None and not images.is_dir():
        raise InputError(f"the folder for pictures {images} does not exist")
    first_failure = ""
    with write_store(out, origin=_origin(chosen, src, found)) as writer:
        for row, share in _rows(chosen, found, images):
            if (failed := _add(writer, chosen, row)) and not writer.rows:
                first_failure = first_failure or failed
            done = writer.rows + writer.by_reason.total()
            if progress is not None and done % PROGRESS_ROWS == 0:
                progress(done, share)
        _check_any(writer, src, first_failure)
    if progress is not None:
        progress(writer.rows + writer.by_reason.total(), 1.0)
    manifest = Manifest.load(out)
    return ConvertReport(
        out=out,
        format=chosen.name,
        rows=manifest.rows,
        images=manifest.images,
        dropped=manifest.dropped.rows,
        by_reason=manifest.by_reason,
        left_out=found.left_out,
        seconds=time.monotonic() - started,
        bytes=sum(file.bytes for file in (*manifest.files, manifest.dropped)),
    )


def format_names() -> list[str]:
    """Names of all formats."""
    return sorted(item.name for item in _formats().values())


def _formats() -> Mapping[str, Format]:
    return discover("manako.formats", "FORMAT").items


def _format_of(src: Path, name: str | None) -> Format:
    formats = {item.name: item for item in _formats().values()}
    if name is not None:
        if name not in formats:
            raise InputError(
                f"format {name!r} is unknown", next_step=f"known: {', '.join(sorted(formats))}"
            )
        formats = {name: formats[name]}
    found = {known: item.find(src) for known, item in formats.items()}
    fitting = [known for known, files in found.items() if files.used]
    if len(fitting) == 1:
        return formats[fitting[0]]
    if fitting:
        raise InputError(
            f"{src} holds files of several formats: {', '.join(fitting)}",
            next_step="say which with --format",
        )
    reasons = [f"{known}: {_why_not(formats[known], files)}" for known, files in found.items()]
    broken = discover("manako.formats", "FORMAT").broken.items()
    reasons += [f"{module}: its file is broken ({why})" for module, why in broken]
    raise InputError(
        f"{src} is of no known format\n  " + "\n  ".join(reasons),
        next_step="give a file or folder of one of these formats",
    )


def _why_not(item: Format, files: SourceFiles) -> str:
    if not files.left_out:
        return f"no {' or '.join(item.suffixes)} file in it"
    file, why = next(iter(files.left_out.items()))
    more = f" (and {len(files.left_out) - 1} more files)" if len(files.left_out) > 1 else ""
    return f"{file}: {why}{more}"


def _origin(chosen: Format, src: Path, found: SourceFiles) -> dict[str, Any]:
    return {
        "format": chosen.name,
        "name": src.resolve().name,
        "files": [
            {"path": file.relative_to(found.folder).as_posix(), "bytes": file.stat().st_size}
            for file in found.used
        ],
        "left_out": dict(found.left_out),
    }


def _rows(
    chosen: Format, found: SourceFiles, images: Path | None
) -> Iterator[tuple[RawRow, float]]:
    """Every row with the share of all source bytes read so far."""
    sizes = [max(file.stat().st_size, 1) for file in found.used]
    total_bytes, done_bytes = sum(sizes), 0
    for file, size in zip(found.used, sizes, strict=True):
        for row in chosen.read_file(file, found.folder, images=images):
            yield row, (done_bytes + row.share * size) / total_bytes
        done_bytes += size


def _add(writer: StoreWriter, chosen: Format, row: RawRow) -> str:
    """Add the row, or drop it and return why."""
    try:
        conversation = chosen.convert(row)
        writer.add(row_of(conversation, **labels_of(row.values)))
    except (RowError, ImageError) as error:
        writer.drop(_dropped(row, error))
        return error.message
    return ""


def _dropped(row: RawRow, error: RowError | ImageError) -> DroppedRow:
    text = json.dumps(json_value(row.values), ensure_ascii=False)
    own = row.values.get("id") if isinstance(row.values, Mapping) else None
    return DroppedRow(
        file=row.file,
        index=row.index,
        id=str(own) if isinstance(own, str | int) else row.made_id,
        sha256=hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
        reason=error.reason,
        detail=error.message,
        row=text,
    )


def _check_any(writer: StoreWriter, src: Path, first_failure: str) -> None:
    if writer.rows:
        return
    if not first_failure:
        raise InputError(f"{src} has no rows")
    reasons = ", ".join(f"{reason} {count}" for reason, count in writer.by_reason.items())
    raise InputError(
        f"{src}: not one row could be used ({reasons}); the first: {first_failure}",
        next_step="nothing was written; put right what the reasons name and run it again",
    )
