"""Whole files into the cache: resumed where half of one is there, checked by length and hash."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from manako.core.errors import (
    HubUnreachableError,
    NotInThisVersion,
    NotOnHubError,
    RefusedFileError,
    WrongBytesError,
)
from manako.core.files import sync_file
from manako.hub import cache
from manako.hub.client import Answer, asked, try_often, web_page
from manako.hub.kinds import check_content, check_kind, check_path, why_refused
from manako.hub.patience import Transient, paced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manako.hub.repo import RemoteFile, Repo

CHECKPOINT = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken")
"""Patterns of what opening a checkpoint may read, all in the repository's own folder."""
MAX_HTTP_BYTES = 50_000_000_000
"""Larger files are not served over plain HTTP (`huggingface_hub` 2.4, MAX_HTTP_DOWNLOAD_SIZE)."""
Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all)."""


def fetch(
    repo: Repo, wanted: Sequence[str] = CHECKPOINT, *, progress: Progress | None = None
) -> Path:
    """The snapshot folder, in which the wanted files then lie, whole and checked.

    wanted: names, which must exist, and patterns, in which `*` stays within a folder. Raises
    `RefusedFileError` for a kind that is never taken, `WrongBytesError` when what came differs
    from what the repository announces, and the other kinds of `HubError`.
    """
    files = [repo.files[path] for path in select(repo, wanted)]
    missing = [file for file in files if cache.cached_file(repo, file) is None]
    if missing and repo.hub.is_offline:
        names = ", ".join(file.path for file in missing[:3])
        raise HubUnreachableError(
            f"{repo.page}: {len(missing)} of {len(files)} files are not in the cache "
            f"({repo.hub.cache}), such as {names}, and offline mode is on: nothing was asked",
            next_step="unset HF_HUB_OFFLINE for one call",
        )
    if missing:
        cache.check_room(repo, missing)
    total = sum(file.size_bytes for file in files)
    done = total - sum(file.size_bytes for file in missing)
    for file in missing:
        _fetch_one(repo, file, _shifted(progress, done, total))
        cache.remember(repo)
        done += file.size_bytes
    if files and not repo.hub.is_offline:
        cache.remember(repo)
    _check_all(repo, files)
    return cache.snapshot_of(repo)


def _check_all(repo: Repo, files: Sequence[RemoteFile]) -> None:
    """Each file is still there when all are: names that differ in capitals alone are one file on
    some disks."""
    for file in files:
        if not cache.is_in_place(repo, file):
            raise WrongBytesError(
                f"{cache.place_of(repo, file)} did not stay as it came: another program, or another "
                "file of the same name in other capitals, took its place",
                next_step="use a cache on a disk that tells capitals apart (HF_HUB_CACHE)",
            )


def select(repo: Repo, wanted: Sequence[str]) -> list[str]:
    """The paths that names and patterns mean, in the repository's order."""
    names = [word for word in wanted if not _is_pattern(word)]
    for word in wanted:
        if _is_pattern(word) and "." in word and not word.endswith("*"):
            check_kind(word)
    for name in names:
        check_path(name)
        repo.file(name)
        check_kind(name)
    matching = [
        path for path in repo.files if path in names or any(_matches(path, w) for w in wanted)
    ]
    found = [path for path in matching if not why_refused(path)]
    for path in found:
        check_path(path)
    if found or not wanted:
        return found
    if matching:
        raise RefusedFileError(
            f"{repo.page}: nothing to take; {matching[0]} is refused: {why_refused(matching[0])}"
        )
    raise NotOnHubError(
        f"{repo.page} has no file like {', '.join(wanted)} at {repo.commit[:12]}",
        next_step=f"see {repo.hub.endpoint}/{repo.page}/tree/{repo.commit}",
    )


def _is_pattern(word: str) -> bool:
    return any(mark in word for mark in "*?[")


def _matches(path: str, pattern: str) -> bool:
    """Folder by folder; `**/` before a pattern stands for any number of folders."""
    parts, wanted = path.split("/"), pattern.split("/")
    if wanted[0] == "**":
        parts, wanted = parts[-len(wanted) + 1 :], wanted[1:]
    pairs = zip(parts, wanted, strict=False)
    return len(parts) == len(wanted) and all(fnmatchcase(part, want) for part, want in pairs)


def _shifted(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    return (lambda here: progress(done + here, total)) if progress else (lambda here: None)


def _fetch_one(repo: Repo, file: RemoteFile, tell: Callable[[int], None]) -> None:
    what = f"{repo.page} {file.path}"
    if file.size_bytes > MAX_HTTP_BYTES:
        raise NotInThisVersion(
            f"{what} has {file.size_bytes:,} bytes; more than 50 GB are not served over HTTP",
            next_step=f"`hf download {repo.id} {file.path} --revision {repo.commit}` puts it into "
            "the same cache, from where it is taken",
        )
    with cache.locked(repo, file):
        if cache.cached_file(repo, file) is not None:  # another process was faster
            return
        _take_whole(_Transfer(repo, file, what, tell))
        with cache.disk_errors(cache.blob_of(repo, file)):
            os.replace(cache.partial_of(repo, file), cache.blob_of(repo, file))
        cache.mark_right(repo, file, cache.blob_of(repo, file))
        cache.link(repo, file)


def _take_whole(transfer: _Transfer) -> None:
    """The whole file, right, as its partial file. What went wrong after half a file was continued
    may be that half's fault: then once more, from the start."""
    try:
        transfer.run()
    except WrongBytesError:
        if not transfer.is_resumed:
            raise
        transfer.is_resumed = False
        transfer.run()


@dataclass
class _Transfer:
    """One file on its way. is_resumed: something of it is older than the last request."""

    repo: Repo
    file: RemoteFile
    what: str
    tell: Callable[[int], None]
    is_resumed: bool = False

    def run(self) -> None:
        """Bring the partial file to its full length. What is wrong is deleted, then raised."""
        partial = cache.partial_of(self.repo, self.file)
        with cache.disk_errors(partial):
            partial.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._fill(partial)
            except (WrongBytesError, RefusedFileError):
                partial.unlink(missing_ok=True)
                raise

    def _fill(self, partial: Path) -> None:
        if cache.partial_bytes(self.repo, self.file) > self.file.size_bytes:
            partial.unlink()
        with partial.open("ab") as opened:
            found = cache.checksum_of(partial, self.file)
            self.is_resumed = self.is_resumed or found.bytes > 0
            try_often(self.repo.hub, self.what, lambda: self._append(opened, found))
        sync_file(partial)
        if found.value != self.file.hash:
            raise self._wrong_hash(found)
        with partial.open("rb") as opened:
            check_content(self.file.path, opened.read(8), self.file.size_bytes)

    def _append(self, opened: BinaryIO, found: cache.Checksum) -> None:
        """One attempt at what is missing. The address names a commit and the partial file its own
        hash, so what is appended belongs to the same content without a condition on an ETag (which
        storage hosts make up for themselves); the hash decides in the end."""
        start = found.bytes
        if start == self.file.size_bytes:
            return
        self.is_resumed = self.is_resumed or start > 0
        headers = {"range": f"bytes={start}-"} if start else {}
        try:
            with asked(
                self.repo.hub, address_of(self.repo, self.file), self.what, headers
            ) as answer:
                self._check(answer, start)
                for chunk in paced(answer.response.iter_bytes(), self.repo.hub.patience):
                    self._keep(chunk, opened, found)
        except Transient as failed:
            failed.arrived_bytes = found.bytes - start
            raise
        finally:
            opened.flush()
        if found.bytes < self.file.size_bytes:
            raise Transient(
                f"the stream ended after {found.bytes:,} of {self.file.size_bytes:,} bytes",
                arrived_bytes=found.bytes - start,
            )

    def _keep(self, chunk: bytes, opened: BinaryIO, found: cache.Checksum) -> None:
        if found.bytes + len(chunk) > self.file.size_bytes:
            raise WrongBytesError(
                f"{self.what}: more bytes come than the {self.file.size_bytes:,} announced"
            )
        opened.write(chunk)
        found.update(chunk)
        self.tell(found.bytes)

    def _check(self, answer: Answer, start: int) -> None:
        """Raise `WrongBytesError` unless the body is the rest of the file, from `start` on."""
        check_announced(self.repo, self.file, self.what, answer)
        size = self.file.size_bytes
        if start:
            check_range(self.what, answer, start, size, size)
            return
        if answer.status != 200:
            raise WrongBytesError(f"{self.what}: status {answer.status}, expected 200")
        is_plain = answer.headers.get("content-encoding", "identity").lower() == "identity"
        length = answer.headers.get("content-length", str(size))
        if is_plain and length != str(size):
            raise WrongBytesError(f"{self.what}: content-length is {length[:40]}, expected {size}")

    def _wrong_hash(self, found: cache.Checksum) -> WrongBytesError:
        kind = "sha256" if self.file.is_lfs else "git blob id"
        return WrongBytesError(
            f"{self.what}: {found.bytes:,} bytes came, as announced, but their {kind} is "
            f"{found.value}, expected {self.file.hash}; they were thrown away",
            next_step="run the same command again; if it stays, the server or something between "
            "changes the file",
        )


def address_of(repo: Repo, file: RemoteFile) -> str:
    """Where a file of the pinned commit is served."""
    return f"{repo.hub.endpoint}/{repo.page}/resolve/{repo.commit}/{quote(file.path)}"


def check_announced(repo: Repo, file: RemoteFile, what: str, answer: Answer) -> None:
    """Raise `WrongBytesError` unless the endpoint announces this very file of this very commit."""
    if answer.is_page and not file.path.endswith((".html", ".htm")):
        raise web_page(what)
    wanted: Mapping[str, str] = {"x-repo-commit": repo.commit}
    if file.is_lfs:
        wanted = {**wanted, "x-linked-size": str(file.size_bytes), "x-linked-etag": file.hash}
    for header, value in wanted.items():
        found = answer.announced.get(header, "").removeprefix("W/").strip('"')
        if found != value and (found or header == "x-repo-commit"):
            raise WrongBytesError(
                f"{what}: {header} is {found[:80] or 'missing'}, expected {value}",
                next_step="check that HF_ENDPOINT serves the Hub's files, not those of a copy of "
                "another day",
            )


def check_range(what: str, answer: Answer, start: int, stop: int, size_bytes: int) -> None:
    """Raise `WrongBytesError` unless the answer is bytes [start, stop) of a file of this length."""
    wanted = f"bytes {start}-{stop - 1}/{size_bytes}"
    if answer.status == 200:
        raise WrongBytesError(
            f"{what}: the server ignored the range {wanted!r} and sent the whole file",
            next_step="fetch the file whole",
        )
    found = answer.headers.get("content-range", "")
    if " ".join(found.split()).lower() != wanted:
        raise WrongBytesError(
            f"{what}: content-range is {found[:80]!r}, expected {wanted!r}",
            next_step="fetch the file whole",
        )
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise WrongBytesError(f"{what}: a range came compressed, so its place is not known")
    length = answer.headers.get("content-length")
    if length is not None and length != str(stop - start):
        raise WrongBytesError(f"{what}: content-length is {length[:40]}, expected {stop - start}")
