"""Which files are ever taken from the Hub, and which paths are safe to write to."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import PurePosixPath

from manako.core.errors import RefusedFileError

PICKLED = "it is pickled: opening it can run any code"
CODE = "it is code, and code from a checkpoint is never run"
ARCHIVE = "what an archive holds is not seen before it is unpacked"
TAKEN = frozenset(
    {
        *(".safetensors", ".json", ".jsonl", ".jinja", ".txt", ".md", ".csv", ".tsv", ".parquet"),
        *(".model", ".tiktoken", ".spm"),  # tokenizers: SentencePiece is a protobuf, no pickle
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    }
)
"""Suffixes of the kinds that are read."""
TAKEN_NAMES = frozenset({"LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY", "README"})
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"), PICKLED
    ),
    **dict.fromkeys((".py", ".pyc", ".so", ".dll", ".dylib", ".ipynb", ".sh", ".exe", ".js"), CODE),
    **dict.fromkeys(
        (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".whl"), ARCHIVE
    ),
    ".h5": "it may hold layers with code of their own",
    ".keras": "it may hold layers with code of their own",
}
"""Suffix → why; every other suffix is refused because nothing here reads it."""
MAX_HEADER_BYTES = 100_000_000
"""Of a safetensors file; the format's own ceiling (safetensors, README, "Format")."""
ZIP, PICKLE = b"PK\x03\x04", re.compile(rb"\x80[\x02-\x05]")
CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def check_path(name: str) -> None:
    """Raise `RefusedFileError` for a path that could lead out of its folder."""
    parts = name.split("/")
    if (
        not name
        or len(name) > 1024
        or CONTROL.search(name)
        or re.match(r"[A-Za-z]:", name)
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise RefusedFileError(
            f"the path {name!r} is not taken: it is no plain path below its folder",
            next_step="tell the owner of the repository; take another revision",
        )


def check_kind(name: str) -> None:
    """Raise `RefusedFileError`, with the reason, for a kind of file that is never taken."""
    if reason := why_refused(name):
        raise RefusedFileError(
            f"{name} is not taken: {reason}",
            next_step="take a revision that has it as safetensors, JSON, text, Parquet or pictures",
        )


def why_refused(name: str) -> str:
    """Why a file of this name is never taken; nothing for one that is."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix in TAKEN or path.name in TAKEN_NAMES:
        return ""
    return REFUSED.get(suffix, "it is of no kind that Manako reads")


def check_content(name: str, first_bytes: bytes, size_bytes: int) -> None:
    """Raise `RefusedFileError` for content that its name hides: a pickle or an archive.

    first_bytes: the first 8, or all where there are fewer.
    """
    found = ""
    if PurePosixPath(name).suffix.lower() == ".safetensors":
        whole = len(first_bytes) == 8
        header_bytes = struct.unpack("<Q", first_bytes)[0] if whole else 0
        if not 0 < header_bytes <= min(MAX_HEADER_BYTES, size_bytes - 8):
            found = "no safetensors file"
    elif first_bytes.startswith(ZIP):
        found = "a zip archive or pickled weights"
    elif PICKLE.match(first_bytes):
        found = "pickled"
    if found:
        raise RefusedFileError(
            f"{name} is not taken: by its first bytes it is {found}",
            next_step="tell the owner of the repository; take another revision",
        )
