"""A Hub on this machine that speaks the Hub's HTTP API, and misbehaves when told to.

Two servers: the Hub itself, and the storage that it sends to for large files, as the real one does.
A rule says what happens to the next requests whose address holds some text; without one, all is well.
"""

from __future__ import annotations

import hashlib
import json
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ID = "owner/tiny-vlm"
OLD_COMMIT, COMMIT = "a" * 40, "b" * 40
LFS_SUFFIXES = (".safetensors", ".parquet", ".bin")
TOKEN = "hf_secretsecretsecret"

Action = Callable[["Handler", Callable[[], None]], None]


def safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], pad: int = 0) -> bytes:
    """A file of zeros with these tensors: name → (dtype, shape, bytes)."""
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(head).encode() + b" " * pad
    return (
        struct.pack("<Q", len(text)) + text + bytes(range(256)) * (end // 256) + b"\1" * (end % 256)
    )


FILES: Mapping[str, bytes] = {
    "config.json": b'{"model_type": "qwen2_vl", "hidden_size": 8}\n',
    "README.md": b"# tiny\n",
    "model.safetensors": safetensors(
        {
            "model.embed_tokens.weight": ("BF16", (64, 32), 4096),
            "visual.patch.weight": ("F32", (16, 4, 4), 1024),
            "position_ids": ("I64", (4,), 32),
        }
    ),
    "pytorch_model.bin": b"PK\x03\x04 pickled",
    "modeling_tiny.py": b"import os\n",
    "sub/notes.txt": "日本語\n".encode(),
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def hash_of(path: str, data: bytes) -> str:
    return sha256(data) if path.endswith(LFS_SUFFIXES) else blob_id(data)


@dataclass
class Rule:
    """What happens to requests whose address holds `text`, `times` of them after the first `skip`."""

    text: str
    action: Action
    times: int = 1_000
    skip: int = 0


@dataclass
class World:
    """What the Hub holds, what it does wrong, and what it was asked."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    facts: dict[str, Any] = field(default_factory=lambda: {"gated": False, "cardData": {}})
    rules: list[Rule] = field(default_factory=list)
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    page_entries: int = 4
    id: str = ID
    endpoint: str = ""
    storage: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def when(self, text: str, action: Action, *, times: int = 1_000, skip: int = 0) -> None:
        self.rules.append(Rule(text, action, times, skip))

    def action_for(self, address: str) -> Action | None:
        with self.lock:
            for rule in self.rules:
                if rule.text in address and rule.times > 0:
                    if rule.skip:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    return rule.action
        return None

    def paths(self, text: str) -> list[str]:
        return [path for _, path, _ in self.asked if text in path]


class Handler(BaseHTTPRequestHandler):
    """One request to either server."""

    world: World
    is_storage = False

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = "storage" if self.is_storage else "hub"
        self.world.asked.append((name, self.path, {k.lower(): v for k, v in self.headers.items()}))
        action = self.world.action_for(f"{name}:{unquote(self.path)}")
        with suppress(BrokenPipeError, ConnectionResetError):
            if action is None:
                self.well()
            else:
                action(self, self.well)

    def do_HEAD(self) -> None:
        """As `hf_hub_download` asks first; nothing goes wrong here."""
        self.wfile = _Writer(self.wfile, after=0)  # type: ignore[assignment]
        self.well()

    def well(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if self.is_storage:
            self.send_part(self._by_hash(parts[-1]), {"content-type": "application/octet-stream"})
        elif parts[0] == "api":
            self._api(parts)
        elif "resolve" in parts:
            place = parts.index("resolve")
            self._resolve(parts[place + 1], "/".join(parts[place + 2 :]))
        else:
            self.say(404, b"{}", {"x-error-code": "RepoNotFound"})

    def _by_hash(self, digest: str) -> bytes:
        every = (data for files in self.world.commits.values() for data in files.values())
        return next(data for data in every if sha256(data) == digest)

    def _api(self, parts: list[str]) -> None:
        if parts[1] != "models" or "/".join(parts[2:4]) != self.world.id:
            self.say(401, b"{}", {"x-error-code": "RepoNotFound"})
        elif parts[4] == "revision":
            self._facts("/".join(parts[5:]))
        else:
            self._tree(parts[5])

    def _facts(self, revision: str) -> None:
        commit = self.world.refs.get(revision, revision)
        if commit not in self.world.commits:
            self.say(404, b"{}", {"x-error-code": "RevisionNotFound"})
            return
        siblings = [{"rfilename": path} for path in self.world.commits[commit]]
        self.say_json(
            {"id": self.world.id, "sha": commit, "siblings": siblings, **self.world.facts}
        )

    def _tree(self, commit: str) -> None:
        entries = [tree_entry(path, data) for path, data in self.world.commits[commit].items()]
        entries.append({"type": "directory", "path": "sub", "oid": "0" * 40, "size": 0})
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        stop = start + self.world.page_entries
        headers = {}
        if stop < len(entries):
            address = (
                f"{self.world.endpoint}{urlsplit(self.path).path}?recursive=true&cursor={stop}"
            )
            headers["link"] = f'<{address}>; rel="next"'
        self.say_json(entries[start:stop], headers)

    def _resolve(self, revision: str, path: str) -> None:
        commit = self.world.refs.get(revision, revision)
        data = self.world.commits.get(commit, {}).get(path)
        about = {"x-repo-commit": commit}
        if data is None:
            self.say(404, b"", {**about, "x-error-code": "EntryNotFound"})
        elif path.endswith(LFS_SUFFIXES):
            linked = {"x-linked-size": str(len(data)), "x-linked-etag": f'"{sha256(data)}"'}
            to = {"location": f"{self.world.storage}/blob/{sha256(data)}?signature=x"}
            self.say(302, b"moved", {**about, **linked, **to})
        else:
            self.send_part(data, {**about, "etag": f'"{blob_id(data)}"'})

    def send_part(self, data: bytes, headers: Mapping[str, str]) -> None:
        wanted = self.headers.get("range")
        if wanted is None:
            self.say(200, data, headers)
            return
        start, stop = self.range_of(len(data))
        place = {"content-range": f"bytes {start}-{stop - 1}/{len(data)}"}
        self.say(206, data[start:stop], {**headers, **place})

    def range_of(self, size: int) -> tuple[int, int]:
        first, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1 if last else size

    def say_json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self.say(
            200, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})}
        )

    def say(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """A response. length: what is said of the body's, where that is not the truth; -1: nothing."""
        self.send_response(status)
        said = len(body) if length is None else length
        if said >= 0:
            self.send_header("content-length", str(said))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def tree_entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    if path.endswith(LFS_SUFFIXES):
        entry["oid"] = blob_id(b"pointer")
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
    return entry


class Servers:
    """Both servers, running."""

    def __init__(self) -> None:
        older = {**FILES, "config.json": b'{"model_type": "qwen2_vl", "hidden_size": 4}\n'}
        self.world = World(
            commits={COMMIT: dict(FILES), OLD_COMMIT: older},
            refs={"main": COMMIT, "v1": OLD_COMMIT},
        )
        self._servers = [self._started(is_storage) for is_storage in (False, True)]
        ports = [server.server_address[1] for server in self._servers]
        self.world.endpoint = f"http://127.0.0.1:{ports[0]}"
        self.world.storage = f"http://localhost:{ports[1]}"

    def _started(self, is_storage: bool) -> ThreadingHTTPServer:
        kind = type("Bound", (Handler,), {"world": self.world, "is_storage": is_storage})
        server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


# What can go wrong, as actions.


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> Action:
    return lambda handler, well: handler.say(code, body, headers)


def redirect(to: Callable[[World], str]) -> Action:
    return lambda handler, well: handler.say(
        307, b"", {"location": to(handler.world), "x-repo-commit": COMMIT}
    )


def page(handler: Handler, well: Callable[[], None]) -> None:
    """A sign-in page of a network, with status 200."""
    handler.say(200, b"<html>please sign in</html>", {"content-type": "text/html; charset=utf-8"})


def garbage(handler: Handler, well: Callable[[], None]) -> None:
    handler.say(200, b'{"id": "owner/tiny', {"content-type": "application/json"})


def cut(after: int) -> Action:
    """Send so many bytes of the body, then close the connection."""

    def action(handler: Handler, well: Callable[[], None]) -> None:
        handler.wfile = _Writer(handler.wfile, after=after)  # type: ignore[assignment]
        well()

    return action


def slow(bytes_at_once: int, seconds: float) -> Action:
    """Send the body a few bytes at a time."""

    def action(handler: Handler, well: Callable[[], None]) -> None:
        handler.wfile = _Writer(handler.wfile, at_once=bytes_at_once, seconds=seconds)  # type: ignore[assignment]
        well()

    return action


def changed(change: Callable[[bytes], bytes], *, says: bool = True) -> Action:
    """Send another body. says: content-length is that of what is sent."""

    def action(handler: Handler, well: Callable[[], None]) -> None:
        handler.wfile = _Writer(handler.wfile, change=change, says=says)  # type: ignore[assignment]
        well()

    return action


def headed(**headers: str | None) -> Action:
    """Send other headers (None: leave one out); `_` stands for `-`."""

    def action(handler: Handler, well: Callable[[], None]) -> None:
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        send = handler.send_header

        def send_header(name: str, value: str) -> None:
            value_or_none = wanted.get(name.lower(), value)
            if value_or_none is not None:
                send(name, value_or_none)

        handler.send_header = send_header  # type: ignore[assignment, method-assign]
        well()

    return action


class _Writer:
    """Stands in for a connection's stream and does something to the body."""

    def __init__(
        self,
        stream: Any,
        *,
        after: int | None = None,
        at_once: int = 1 << 20,
        seconds: float = 0.0,
        change: Callable[[bytes], bytes] | None = None,
        says: bool = True,
    ) -> None:
        self._stream, self._after, self._at_once = stream, after, at_once
        self._seconds, self._change, self._says = seconds, change, says
        self._head = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        if not self._head:
            self._head = data
            if self._change is None:
                self._stream.write(data)
            return
        body = self._change(data) if self._change else data
        if self._change:
            self._stream.write(self._new_head(len(body)))
        body = body[: self._after] if self._after is not None else body
        for start in range(0, len(body), self._at_once):
            self._stream.write(body[start : start + self._at_once])
            self._stream.flush()
            if self._seconds:
                time.sleep(self._seconds)

    def _new_head(self, length: int) -> bytes:
        if not self._says:
            return self._head
        lines = self._head.split(b"\r\n")
        kept = [
            b"content-length: %d" % length if b"content-length" in line else line for line in lines
        ]
        return b"\r\n".join(kept)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()
