"""The cache, in `huggingface_hub`'s layout: what is there, and whether it is what it should be.

    models--OWNER--NAME/
      blobs/HASH              the content; a name that is its own checksum
      blobs/HASH.incomplete   half a download; the next one goes on from there
      snapshots/COMMIT/PATH   a link to a blob
      refs/REVISION           the commit that a branch or tag last meant
      trees/COMMIT.json       the list of files, so that offline nothing is missing unnoticed
      .manako/HASH            length and time of a blob whose hash was computed

Other tools write blobs without computing their hash, so each is hashed when it is first met; a blob
whose length or time has changed since is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import ManakoError, WrongBytesError
from manako.core.files import atomic_path, write_error, write_text
from manako.hub.kinds import check_path

if TYPE_CHECKING:
    from manako.hub.client import Hub
    from manako.hub.repo import Kind, RemoteFile, Repo

LIST_VERSION = 1
CHUNK_BYTES = 1 << 20


def folder_of(hub: Hub, repo_id: str, kind: Kind) -> Path:
    """The folder of a repository."""
    from huggingface_hub.file_download import repo_folder_name

    return hub.cache / repo_folder_name(repo_id=repo_id, repo_type=kind)


def snapshot_of(repo: Repo) -> Path:
    """The folder in which the files of a commit have their names."""
    return folder_of(repo.hub, repo.id, repo.kind) / "snapshots" / repo.commit


def blob_of(repo: Repo, file: RemoteFile) -> Path:
    """Where the content of a file lies."""
    return folder_of(repo.hub, repo.id, repo.kind) / "blobs" / file.hash


def commit_of(hub: Hub, repo_id: str, kind: Kind, revision: str) -> str | None:
    """The commit that a revision last meant, or that it is; None where the cache knows none."""
    folder = folder_of(hub, repo_id, kind)
    commit = _text_of(folder / "refs" / revision) or revision
    is_known = (folder / "snapshots" / commit).is_dir() or _list_file(folder, commit).is_file()
    return commit if is_known else None


def advice(hub: Hub, repo_id: str, kind: Kind, revision: str) -> str:
    """What the cache could give instead."""
    commit = commit_of(hub, repo_id, kind, revision)
    if commit is None:
        return "nothing of it is in the cache"
    return f"HF_HUB_OFFLINE=1 uses the cached commit {commit[:12]}"


def remember(repo: Repo) -> None:
    """Keep what the revision means, and the list of files, in the form of `huggingface_hub` 2.4.

    Called once a file of the commit is there: a reference to nothing reads as a broken cache.
    """
    folder = folder_of(repo.hub, repo.id, repo.kind)
    ref, listed = folder / "refs" / repo.revision, _list_file(folder, repo.commit)
    if repo.revision != repo.commit and _text_of(ref) != repo.commit:
        write_text(ref, repo.commit)
    if not listed.is_file():
        entries = {path: _entry(repo.files[path]) for path in sorted(repo.files)}
        written = {"format_version": LIST_VERSION, "files": entries}
        write_text(listed, json.dumps(written, indent=1))


def read_list(hub: Hub, repo_id: str, kind: Kind, commit: str) -> dict[str, tuple[int, str]] | None:
    """Length and hash by path, of a commit; None where no readable list is kept."""
    try:
        found = json.loads(
            _list_file(folder_of(hub, repo_id, kind), commit).read_text(encoding="utf-8")
        )
        if found["format_version"] != LIST_VERSION:
            return None
        return {
            path: (entry["size"], entry.get("lfs_sha256") or entry["blob_id"])
            for path, entry in found["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no list, or one of another version: it is asked for again


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _entry(file: RemoteFile) -> dict[str, Any]:
    if not file.is_lfs:
        return {"size": file.size_bytes, "blob_id": file.hash}
    # The blob id of an LFS pointer is used by nobody, but the form wants one.
    lfs = {"lfs_sha256": file.hash, "lfs_size": file.size_bytes}
    return {"size": file.size_bytes, "blob_id": "", **lfs}


def _list_file(folder: Path, commit: str) -> Path:
    return folder / "trees" / f"{commit}.json"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of the disk become `WriteError`; those that Manako raises pass as they are."""
    try:
        yield
    except ManakoError:
        raise
    except OSError as error:
        raise write_error(path, error) from error


class Checksum:
    """The hash that the Hub names a file by: sha256, or git's blob id (sha1 over length and bytes)."""

    def __init__(self, file: RemoteFile) -> None:
        if file.is_lfs:
            self._digest = hashlib.sha256()
        else:
            self._digest = hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)
        self.bytes = 0

    def update(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.bytes += len(chunk)

    @property
    def value(self) -> str:
        return self._digest.hexdigest()


def checksum_of(path: Path, file: RemoteFile) -> Checksum:
    """The checksum of a file's bytes so far."""
    found = Checksum(file)
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            found.update(chunk)
    return found


def cached_file(repo: Repo, file: RemoteFile) -> Path | None:
    """The file in its snapshot folder, if it is there whole and right; a wrong one is taken away.

    Raises `WrongBytesError` for a link that leads out of the cache, and for a wrong one offline.
    """
    place = place_of(repo, file)
    blob = blob_of(repo, file)
    if os.path.lexists(place) and not _is_within(place, repo.hub.cache):
        raise WrongBytesError(
            f"{place} leads out of the cache, to {place.resolve()}",
            next_step="delete it, then run the same command again",
        )
    if place.is_file():
        if _is_right(repo, file, place):
            return place
        _take_away(repo, file, place)
    if blob.is_file() and _is_within(blob, repo.hub.cache):
        if _is_right(repo, file, blob):
            return link(repo, file)
        _take_away(repo, file, blob)
    return None


def is_in_place(repo: Repo, file: RemoteFile) -> bool:
    """Whether the file is in its snapshot folder, whole and right; mends nothing."""
    place = place_of(repo, file)
    return place.is_file() and _is_right(repo, file, place)


def place_of(repo: Repo, file: RemoteFile) -> Path:
    """A file's path in the snapshot folder. Raises `RefusedFileError` or `WrongBytesError` for one
    that would lie elsewhere."""
    check_path(file.path)
    snapshot = snapshot_of(repo)
    place = snapshot / file.path
    if not _is_within(place.parent, snapshot):
        raise WrongBytesError(
            f"{place.parent} leads out of its folder, to {place.parent.resolve()}",
            next_step="delete it, then run the same command again",
        )
    return place


def link(repo: Repo, file: RemoteFile) -> Path:
    """Give a blob its name in the snapshot folder: a relative link, or a copy where none can be."""
    place, blob = place_of(repo, file), blob_of(repo, file)
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            place.symlink_to(os.path.relpath(blob, place.parent))
        except (OSError, NotImplementedError):  # Windows without the right to make links
            with atomic_path(place) as partial:
                shutil.copyfile(blob, partial)
    return place


def mark_right(repo: Repo, file: RemoteFile, path: Path) -> None:
    """Remember that a file's hash was computed and is right."""
    write_text(_mark_file(repo, file), _stamp(path))


@contextlib.contextmanager
def locked(repo: Repo, file: RemoteFile) -> Iterator[None]:
    """Hold the lock under which every tool writes this blob; waits for whoever has it."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    folder = repo.hub.cache / ".locks" / folder_of(repo.hub, repo.id, repo.kind).name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder / f"{file.hash}.lock"):
        yield


def check_room(repo: Repo, files: Iterable[RemoteFile]) -> None:
    """Raise `WriteError` when the disk cannot take what is still to come."""
    folder = folder_of(repo.hub, repo.id, repo.kind)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
    wanted = sum(file.size_bytes - partial_bytes(repo, file) for file in files)
    if wanted > free_bytes:
        raise write_error(
            folder, OSError(f"{wanted:,} bytes are to come, {free_bytes:,} are free on its disk")
        )


def partial_of(repo: Repo, file: RemoteFile) -> Path:
    """Half a download of a file."""
    blob = blob_of(repo, file)
    return blob.with_name(f"{blob.name}.incomplete")


def partial_bytes(repo: Repo, file: RemoteFile) -> int:
    """How much of a file half a download has."""
    partial = partial_of(repo, file)
    return partial.stat().st_size if partial.is_file() else 0


def _is_right(repo: Repo, file: RemoteFile, path: Path) -> bool:
    if path.stat().st_size != file.size_bytes:
        return False
    mark = _mark_file(repo, file)
    if _text_of(mark) == _stamp(path):
        return True
    if checksum_of(path, file).value != file.hash:
        return False
    with contextlib.suppress(OSError):  # a cache that is shared and read-only
        mark_right(repo, file, path)
    return True


def _take_away(repo: Repo, file: RemoteFile, path: Path) -> None:
    """Delete a wrong file; offline it is all there is, so it stays and is an error."""
    if repo.hub.is_offline:
        raise WrongBytesError(
            f"{path} is not what {repo.page} has at {repo.commit[:12]}: length or hash differ",
            next_step="unset HF_HUB_OFFLINE and run the same command again",
        )
    with disk_errors(path):
        path.unlink()


def _mark_file(repo: Repo, file: RemoteFile) -> Path:
    return folder_of(repo.hub, repo.id, repo.kind) / ".manako" / file.hash


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
