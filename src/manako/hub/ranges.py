"""A piece of a file, for its header alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manako.core.errors import InputError, WrongBytesError
from manako.hub import cache
from manako.hub.client import asked, try_often
from manako.hub.files import address_of, check_announced, check_range
from manako.hub.kinds import check_kind, check_path
from manako.hub.patience import Transient, paced

if TYPE_CHECKING:
    from manako.hub.repo import RemoteFile, Repo


def read_range(repo: Repo, path: str, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of a file, from the cache where it is there.

    Place and length are checked against what the server says of them; the content cannot be,
    since the hash is that of the whole file: a reader must check what it reads. Raises
    `WrongBytesError` for another range than asked for, or a server that knows none.
    """
    file = repo.file(path)
    check_path(path)
    check_kind(path)
    if not 0 <= start < stop <= file.size_bytes:
        raise InputError(f"{path} has bytes 0 to {file.size_bytes}, not {start} to {stop}")
    if (cached := cache.cached_file(repo, file)) is not None:
        with cached.open("rb") as opened:
            opened.seek(start)
            return opened.read(stop - start)
    what = f"{repo.page} {path} (bytes {start} to {stop})"
    return try_often(repo.hub, what, lambda: _attempt(repo, file, what, start, stop))


def _attempt(repo: Repo, file: RemoteFile, what: str, start: int, stop: int) -> bytes:
    body = bytearray()
    headers = {"range": f"bytes={start}-{stop - 1}"}
    with asked(repo.hub, address_of(repo, file), what, headers) as answer:
        check_announced(repo, file, what, answer)
        check_range(what, answer, start, stop, file.size_bytes)
        for chunk in paced(answer.response.iter_bytes(), repo.hub.patience):
            body += chunk
            if len(body) > stop - start:
                break
    if len(body) != stop - start:
        raise Transient(
            f"{len(body):,} bytes came, expected {stop - start:,}", final=WrongBytesError
        )
    return bytes(body)
