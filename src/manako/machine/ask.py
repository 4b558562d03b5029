"""One HTTP question with a limit on the whole of it, for the probes of servers (standard library)."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 4_000_000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unanswered(Exception):
    """No answer that can be used: `args[0]` says why in one line."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status, kind of content, and what came."""

    status: int
    kind: str
    body: bytes

    @property
    def is_page(self) -> bool:
        """Whether a web page came, as sign-in pages of networks do."""
        return self.kind == "text/html"

    def json(self) -> dict[str, Any]:
        """The answer as a JSON object. Raises `Unanswered` for all that is none."""
        if self.status != 200:
            raise Unanswered(f"HTTP {self.status}")
        if self.is_page:
            raise Unanswered("a web page came")
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unanswered("what came is no JSON") from None
        if not isinstance(found, dict):
            raise Unanswered(f"a JSON object was expected, a {type(found).__name__} came")
        return found


def ask(url: str, seconds: float, *, method: str = "GET", body: Any = None) -> Answer:
    """The answer, also one that refuses. Raises `Unanswered` where none came in time.

    A server on this machine is asked directly, whatever the environment says about proxies.
    """
    data = None if body is None else json.dumps(body).encode()
    ends = time.monotonic() + seconds
    try:
        request = urllib.request.Request(url, data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        with _opener(url).open(request, timeout=seconds) as response:
            return _read(response, ends)
    except urllib.error.HTTPError as refused:
        with refused:
            return _read(refused, ends)
    except TimeoutError:
        raise Unanswered(f"no answer in {seconds:g} s") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise Unanswered(f"no answer in {seconds:g} s") from None
        raise Unanswered(_reason(error.reason)) from None
    # http.client raises kinds of its own for nonsense; ValueError is an address that is none.
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unanswered(_reason(error)) from None


def shown(url: str) -> str:
    """An address without what it may hold of names and passwords."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _opener(url: str) -> urllib.request.OpenerDirector:
    is_here = urllib.parse.urlsplit(url).hostname in LOOPBACK
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_here else []))


def _read(response: Any, ends: float) -> Answer:
    """What comes until `ends`: each piece may be late, and many late pieces are late too."""
    pieces, size = [], 0
    while size <= MAX_BYTES:
        if time.monotonic() > ends:
            raise TimeoutError
        piece = response.read1(1 << 16)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    kind = response.headers.get_content_type() if response.headers.get("content-type") else ""
    return Answer(status=response.status, kind=kind, body=b"".join(pieces))


def _reason(error: object) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{type(error).__name__}: {words}" if isinstance(error, Exception) else str(words)
