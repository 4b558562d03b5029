"""What can go wrong between the Hub and this machine, and what must come of it.

`tests/hub/test_faults.py` tries each; `python tests/hub/faults.py` writes the table of docs/hub.md.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

from hub_server import (
    COMMIT,
    FILES,
    ID,
    OLD_COMMIT,
    Action,
    Handler,
    World,
    blob_id,
    changed,
    cut,
    garbage,
    headed,
    page,
    redirect,
    safetensors,
    sha256,
    slow,
    status,
)

from manako.core.errors import (
    CheckpointError,
    HubAccessError,
    HubError,
    HubUnreachableError,
    ManakoError,
    NotOnHubError,
    RefusedFileError,
    WrongBytesError,
)

SMALL, WEIGHTS = "config.json", "model.safetensors"
ASK, STORE = f"resolve/{COMMIT}/", "storage:/blob/"
FACTS, LIST = "/revision/", "/tree/"
ENGLISH = {
    "resolve": "facts and the list of files",
    SMALL: "a small file",
    WEIGHTS: "weights from storage",
    "headers": "a range: headers of weights",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. work: `resolve`, `headers`, or a file to fetch. error: None where the right bytes
    must come all the same. says: stands in the error. requests: how often the place in trouble is
    asked."""

    what: str
    work: str
    begin: Callable[[World], Any]
    error: type[ManakoError] | None = None
    says: str = ""
    how: str = ""
    place: str = ""
    requests: int | None = None

    @property
    def outcome(self) -> str:
        """As the table says it."""
        kind = f"`{self.error.__name__}`" if self.error else "the right bytes"
        return f"{kind}: {self.how}" if self.how else kind


def at(text: str, action: Action, **limits: int) -> Callable[[World], None]:
    return lambda world: world.when(text, action, **limits)


def both(*steps: Callable[[World], Any]) -> Callable[[World], None]:
    def begin(world: World) -> None:
        for step in steps:
            step(world)

    return begin


def files(**changes: bytes | None) -> Callable[[World], None]:
    """Change what the repository really holds; `__` stands for a dot."""
    return lambda world: world.commits[COMMIT].update(
        {name.replace("__", "."): data for name, data in changes.items() if data is not None}
    )


def listed(change: Callable[[list[dict[str, Any]]], Any]) -> Action:
    """Another list of files than the true one."""

    def new(body: bytes) -> bytes:
        entries = json.loads(body)
        return json.dumps(change(entries) or entries).encode()

    return changed(new)


def entry_of(name: str, **values: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Change what the list says of one file."""

    def change(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            if entry["path"] == name:
                entry.update(values)

    return change


def flipped(body: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in body)


def without_range(handler: Handler, well: Callable[[], None]) -> None:
    """Ignore that only a part was asked for."""
    del handler.headers["range"]
    well()


def misplaced(handler: Handler, well: Callable[[], None]) -> None:
    """Say the right range, and send bytes from elsewhere."""
    data = handler.world.commits[COMMIT][WEIGHTS]
    start, stop = handler.range_of(len(data))
    place = {"content-range": f"bytes {start}-{stop - 1}/{len(data)}"}
    handler.say(206, (data[100:] + data)[: stop - start], place)


def piece(change: Callable[[bytes], bytes]) -> Action:
    """Name the right range, say no length, and send another piece."""

    def action(handler: Handler, well: Callable[[], None]) -> None:
        data = handler.world.commits[COMMIT][WEIGHTS]
        start, stop = handler.range_of(len(data))
        place = {"content-range": f"bytes {start}-{stop - 1}/{len(data)}"}
        handler.say(206, change(data[start:stop]), place, length=-1)

    return action


def squeezed(handler: Handler, well: Callable[[], None]) -> None:
    """A body that was compressed on the way."""
    headers = {"content-encoding": "gzip", "x-repo-commit": COMMIT}
    handler.say(200, gzip.compress(FILES[SMALL]), headers)


def silent(handler: Handler, well: Callable[[], None]) -> None:
    """Take the request and say nothing for longer than the client waits."""
    import time

    time.sleep(0.2)


def half_of(good: bool) -> Callable[[World], None]:
    """Half of the weights lie in the cache already: the true one, or another."""

    def begin(world: World) -> None:
        half = FILES[WEIGHTS][:2_000]
        world.partial = half if good else flipped(half)  # type: ignore[attr-defined]

    return begin


def broken_header(head: bytes) -> bytes:
    return struct.pack("<Q", len(head)) + head


def overlapping() -> bytes:
    data = safetensors({"a": ("F32", (4,), 16), "b": ("F32", (4,), 16)})
    return data.replace(b"[16, 32]", b"[12, 28]")


LONG = safetensors({f"layer.{n}.weight": ("F32", (2, 2), 16) for n in range(3_000)})
"""Weights whose header takes two requests."""
ANOTHER_COMMIT = headed(x_repo_commit=OLD_COMMIT)
FAULTS = (
    # Facts and the list of files
    Fault(
        what="unknown or private repository (401)",
        work="resolve",
        begin=at(FACTS, status(401, {"x-error-code": "RepoNotFound"})),
        error=NotOnHubError,
        says="no such repository, or a private one",
        how="spelling, and how to log in",
        place=FACTS,
        requests=1,
    ),
    Fault(
        what="gated repository (403 `GatedRepo`)",
        work=WEIGHTS,
        begin=at(ASK, status(403, {"x-error-code": "GatedRepo"})),
        error=HubAccessError,
        says=f"/{ID}, then log in with `hf auth login`",
        how="where to ask, how to log in",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="gated repository (401 `GatedRepo`)",
        work="resolve",
        begin=at(FACTS, status(401, {"x-error-code": "GatedRepo"})),
        error=HubAccessError,
        says="is gated",
        how="where to ask, how to log in",
        requests=1,
        place=FACTS,
    ),
    Fault(
        what="invalid token (401)",
        work="resolve",
        begin=at(
            FACTS, status(401, {"x-error-message": "Invalid credentials in Authorization header"})
        ),
        error=HubAccessError,
        says="the token is not valid",
        how="how to log in",
        place=FACTS,
        requests=1,
    ),
    Fault(
        what="access refused (403)",
        work="resolve",
        begin=at(
            FACTS,
            status(
                403,
                {"x-error-message": "blocked\r\n by an\x1b[31m administrator".replace("\r\n", "")},
            ),
        ),
        error=HubAccessError,
        says="blocked by an [31m administrator",
        how="the server's words",
        place=FACTS,
        requests=1,
    ),
    Fault(
        what="no such revision (404)",
        work="resolve",
        begin=at(FACTS, status(404, {"x-error-code": "RevisionNotFound"})),
        error=NotOnHubError,
        says="no such revision",
        place=FACTS,
        requests=1,
    ),
    Fault(
        what="a file of the list is not there (404)",
        work=SMALL,
        begin=at(ASK, status(404, {"x-error-code": "EntryNotFound"})),
        error=NotOnHubError,
        says="no such file",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="429 with `Retry-After: 2`, once",
        work="resolve",
        begin=at(FACTS, status(429, {"retry-after": "2"}), times=1),
        how="after the 2 s that were asked for",
        place=FACTS,
        requests=2,
    ),
    Fault(
        what="429 with `Retry-After: 3600`",
        work="resolve",
        begin=at(FACTS, status(429, {"retry-after": "3600"})),
        error=HubUnreachableError,
        says="it asks to wait 3600 s",
        how="at once: too long to wait, and not asked sooner",
        place=FACTS,
        requests=1,
    ),
    Fault(
        what="429 with `RateLimit: r=0;t=7`, once",
        work=SMALL,
        begin=at(ASK, status(429, {"ratelimit": '"resolvers";r=0;t=7'}), times=1),
        how="after the 7 s until the limit ends",
        place=ASK,
        requests=2,
    ),
    Fault(
        what="503 twice",
        work="resolve",
        begin=at(LIST, status(503), times=2),
        how="at the third attempt",
        place=f"{LIST}{COMMIT}?recursive=true",
    ),
    Fault(
        what="500 for ever",
        work="resolve",
        begin=at(FACTS, status(500, {"x-error-message": "it broke"})),
        error=HubUnreachableError,
        says="3 attempts, the last: status 500 (it broke)",
        how="endpoint, attempts, last answer, whether the cache has it",
        place=FACTS,
        requests=3,
    ),
    Fault(
        what="connection refused",
        work="resolve",
        begin=lambda world: setattr(world, "endpoint", "http://127.0.0.1:9"),
        error=HubUnreachableError,
        says="3 attempts, the last: ConnectError",
        how="endpoint, attempts, last answer, whether the cache has it",
    ),
    Fault(
        what="no answer within the time limit",
        work="resolve",
        begin=at(FACTS, silent),
        error=HubUnreachableError,
        says="the last: ReadTimeout",
        how="after all attempts",
        place=FACTS,
        requests=3,
    ),
    Fault(
        what="a web page with status 200 instead of facts",
        work="resolve",
        begin=at(FACTS, page),
        error=WrongBytesError,
        says=r"a web page \(text/html\) came instead",
        how="a network's sign-in page is named as such",
        place=FACTS,
        requests=1,
    ),
    Fault(
        what="broken JSON, once",
        work="resolve",
        begin=at(FACTS, garbage, times=1),
        how="at the second attempt",
        place=FACTS,
        requests=2,
    ),
    Fault(
        what="broken JSON for ever",
        work="resolve",
        begin=at(FACTS, garbage),
        error=WrongBytesError,
        says='no JSON, but \'{"id": "owner/tiny\'',
        how="shows how it begins",
        place=FACTS,
        requests=3,
    ),
    Fault(
        what="facts without a commit",
        work="resolve",
        begin=lambda world: world.facts.update(sha="main"),
        error=WrongBytesError,
        says="sha is 'main', expected the 40 digits",
    ),
    Fault(
        what="facts of another commit than asked for",
        work="resolve",
        begin=lambda world: world.refs.update({COMMIT: OLD_COMMIT}),
        error=WrongBytesError,
        says=f"asked for commit {COMMIT}, the answer is of {OLD_COMMIT}",
    ),
    Fault(
        what="redirect to the new name of a repository",
        work="resolve",
        begin=at(
            "/api/models/owner/old/",
            redirect(lambda w: f"{w.endpoint}/api/models/{ID}/revision/main"),
        ),
        how="under its new name",
    ),
    Fault(
        what="redirects in a circle",
        work="resolve",
        begin=at(FACTS, redirect(lambda world: f"{world.endpoint}/api/models/{ID}/revision/main")),
        error=HubError,
        says="more than 5 redirects",
        place=FACTS,
        requests=6,
    ),
    Fault(
        what="a list of files that is cut short",
        work="resolve",
        begin=at(LIST, listed(lambda entries: entries[:1])),
        error=WrongBytesError,
        says="its list of files is cut short",
        how="the Hub's two lists are compared",
    ),
    Fault(
        what="a list of files that names one twice",
        work="resolve",
        begin=at(LIST, listed(lambda entries: [*entries, entries[0]])),
        error=WrongBytesError,
        says="names 'config.json' twice",
    ),
    Fault(
        what="a list of files with a hash that is none",
        work="resolve",
        begin=at(LIST, listed(entry_of(SMALL, oid="../../x"))),
        error=WrongBytesError,
        says="path, size or hash is wrong",
    ),
    Fault(
        what="a list of files that goes on at another host",
        work="resolve",
        begin=at(LIST, headed(link='<http://localhost:9/next>; rel="next"')),
        error=WrongBytesError,
        says="goes on at another host, localhost:9",
        how="the token would go along",
    ),
    Fault(
        what="a list of files that leads back to itself",
        work="resolve",
        begin=lambda world: world.when(
            LIST,
            headed(
                link=f'<{world.endpoint}/api/models/{ID}/tree/{COMMIT}?recursive=true>; rel="next"'
            ),
        ),
        error=WrongBytesError,
        says="leads back",
    ),
    # Small files
    Fault(
        what="a web page with status 200 instead of a file",
        work=SMALL,
        begin=at(ASK, page),
        error=WrongBytesError,
        says="a web page",
        how="a network's sign-in page is named as such",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="a file of another commit",
        work=SMALL,
        begin=at(ASK, ANOTHER_COMMIT),
        error=WrongBytesError,
        says=f"x-repo-commit is {OLD_COMMIT}, expected {COMMIT}",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="a file without the name of its commit",
        work=SMALL,
        begin=at(ASK, headed(x_repo_commit=None)),
        error=WrongBytesError,
        says="x-repo-commit is missing",
        how="no server of the Hub's API",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="wrong bytes of the right length, small file",
        work=SMALL,
        begin=at(ASK, changed(flipped)),
        error=WrongBytesError,
        says=f"expected {blob_id(FILES[SMALL])}",
        how="git blob id",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="a list that lies about a small file's hash",
        work=SMALL,
        begin=at(LIST, listed(entry_of(SMALL, oid="c" * 40))),
        error=WrongBytesError,
        says=f"is {blob_id(FILES[SMALL])}, expected {'c' * 40}",
        how="what contradicts itself is not taken",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="content-length that is too small",
        work=SMALL,
        begin=at(ASK, headed(content_length="10")),
        error=WrongBytesError,
        says=f"content-length is 10, expected {len(FILES[SMALL])}",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="no content-length, the right body",
        work=SMALL,
        begin=at(ASK, headed(content_length=None)),
        place=ASK,
        requests=1,
    ),
    Fault(
        what="no content-length, a body that is too long",
        work=SMALL,
        begin=both(
            at(
                ASK,
                lambda handler, well: handler.say(
                    200, FILES[SMALL] + b"{}", {"x-repo-commit": COMMIT}, length=-1
                ),
            )
        ),
        error=WrongBytesError,
        says="more bytes come than the",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="no content-length, a body that is too short, once",
        work=SMALL,
        begin=at(
            ASK,
            lambda handler, well: handler.say(
                200, FILES[SMALL][:9], {"x-repo-commit": COMMIT}, length=-1
            ),
            times=1,
        ),
        how="the rest is asked for",
        place=ASK,
        requests=2,
    ),
    Fault(
        what="a body that was compressed on the way",
        work=SMALL,
        begin=at(ASK, squeezed),
        how="unpacked, then checked",
        place=ASK,
        requests=1,
    ),
    Fault(
        what="a branch that moves between two calls",
        work=SMALL,
        begin=at(
            LIST, lambda handler, well: (handler.world.refs.update(main=OLD_COMMIT), well())[1]
        ),
        how="of the commit that the name meant at first",
    ),
    Fault(
        what="pickled weights under the name of a text",
        work="notes.txt",
        begin=files(notes__txt=b"PK\x03\x04 pickled"),
        error=RefusedFileError,
        says="by its first bytes it is a zip archive or pickled weights",
    ),
    # Weights from storage
    Fault(
        what="wrong bytes of the right length, weights",
        work=WEIGHTS,
        begin=at(STORE, changed(flipped)),
        error=WrongBytesError,
        says=f"expected {sha256(FILES[WEIGHTS])}",
        how="sha256; nothing is kept",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="a list that lies about the weights' hash",
        work=WEIGHTS,
        begin=at(
            LIST, listed(entry_of(WEIGHTS, lfs={"oid": "c" * 64, "size": len(FILES[WEIGHTS])}))
        ),
        error=WrongBytesError,
        says="x-linked-etag is",
        how="before a byte of it is read",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="a list that lies about the weights' length",
        work=WEIGHTS,
        begin=at(
            LIST, listed(entry_of(WEIGHTS, size=9, lfs={"oid": sha256(FILES[WEIGHTS]), "size": 9}))
        ),
        error=WrongBytesError,
        says="x-linked-size is",
        how="before a byte of it is read",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="an address of storage that has expired (403), once",
        work=WEIGHTS,
        begin=at(STORE, status(403), times=1),
        how="the Hub is asked for a new address",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="a stream that is cut, once",
        work=WEIGHTS,
        begin=at(STORE, cut(3_000), times=1),
        how="goes on where it was cut",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="a stream that is cut for ever",
        work=WEIGHTS,
        begin=at(STORE, cut(0)),
        error=HubUnreachableError,
        says="3 attempts, the last: RemoteProtocolError",
        how="what came is kept for the next call",
        place="/blob/",
        requests=3,
    ),
    Fault(
        what="a stream that drips",
        work=WEIGHTS,
        begin=at(STORE, slow(10, 0.03)),
        error=HubUnreachableError,
        says="the stream stalled",
        how="each byte comes in time, all of them never would",
        place="/blob/",
        requests=3,
    ),
    Fault(
        what="half a file of an earlier call",
        work=WEIGHTS,
        begin=half_of(good=True),
        how="the rest alone is transferred",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="half a file that is wrong",
        work=WEIGHTS,
        begin=half_of(good=False),
        how="thrown away, fetched whole once",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="half a file, and a server that ignores ranges",
        work=WEIGHTS,
        begin=both(half_of(good=True), at(STORE, without_range)),
        how="thrown away, fetched whole once",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="half a file, and a wrong `Content-Range`",
        work=WEIGHTS,
        begin=both(half_of(good=True), at(STORE, headed(content_range="bytes 0-5457/5458"))),
        how="thrown away, fetched whole once",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="half a file, and bytes from elsewhere",
        work=WEIGHTS,
        begin=both(half_of(good=True), at(STORE, misplaced, times=1)),
        how="thrown away, fetched whole once",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="half a file, and status 416",
        work=WEIGHTS,
        begin=both(half_of(good=True), at(STORE, status(416), times=1)),
        how="thrown away, fetched whole once",
        place="/blob/",
        requests=2,
    ),
    # Ranges
    Fault(
        what="a server that ignores ranges",
        work="headers",
        begin=at(STORE, without_range),
        error=WrongBytesError,
        says="ignored the range",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="another range than asked for",
        work="headers",
        begin=at(STORE, headed(content_range="bytes 100-5457/5458")),
        error=WrongBytesError,
        says="content-range is 'bytes 100-5457/5458', expected 'bytes 0-5457/5458'",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="a range of a file of another length",
        work="headers",
        begin=at(STORE, headed(content_range="bytes 0-5457/9999")),
        error=WrongBytesError,
        says="content-range is",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="a range without `Content-Range`",
        work="headers",
        begin=at(STORE, headed(content_range=None)),
        error=WrongBytesError,
        says="content-range is ''",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="a range that is cut short, once",
        work="headers",
        begin=at(STORE, cut(20), times=1),
        how="asked for again",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="a range without a length, whose body is too short, once",
        work="headers",
        begin=at(STORE, piece(lambda data: data[:100]), times=1),
        how="asked for again",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="a range without a length, whose body is too long",
        work="headers",
        begin=at(STORE, piece(lambda data: data + b"{}")),
        error=WrongBytesError,
        says="5,460 bytes came, expected 5,458",
        how="after all attempts",
        place="/blob/",
        requests=3,
    ),
    Fault(
        what="the right range by name, bytes from elsewhere",
        work="headers",
        begin=both(files(model__safetensors=LONG), at(STORE, misplaced)),
        error=CheckpointError,
        says="the safetensors header is broken",
        how="a header must describe its file to the byte",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="the same, in the second piece of a long header",
        work="headers",
        begin=both(files(model__safetensors=LONG), at(STORE, misplaced, skip=1)),
        error=CheckpointError,
        says="the safetensors header is broken: it is no JSON",
        how="a header must describe its file to the byte",
        place="/blob/",
        requests=2,
    ),
    Fault(
        what="the same, of a file so small that it came whole",
        work="headers",
        begin=at(STORE, misplaced),
        error=WrongBytesError,
        says="bytes came whose hash is",
        how="sha256",
        place="/blob/",
        requests=1,
    ),
    Fault(
        what="a header that claims an absurd length",
        work="headers",
        begin=files(model__safetensors=struct.pack("<Q", 1 << 40) + b"{}"),
        error=CheckpointError,
        says="it would have 1,099,511,627,776 bytes",
    ),
    Fault(
        what="a header whose tensors overlap",
        work="headers",
        begin=files(model__safetensors=overlapping()),
        error=CheckpointError,
        says="b begins at byte 12, expected 16",
    ),
    Fault(
        what="a header with a name that stands twice",
        work="headers",
        begin=files(model__safetensors=broken_header(b'{"a": {}, "a": {}}')),
        error=CheckpointError,
        says="a name stands in it twice",
    ),
)


def table() -> str:
    """The table of docs/hub.md."""
    rows = [[f"{ENGLISH.get(f.work, ENGLISH[SMALL])}", f.what, f.outcome] for f in FAULTS]
    lines = [["asked for", "fault", "what comes of it"], ["---"] * 3, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2] / "scripts"))
    from blocks import ROOT, write_block

    write_block(ROOT / "docs" / "hub.md", "generated:faults", table())
