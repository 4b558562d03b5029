"""Questions to the Hub: one attempt, many attempts, and what the answers mean."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import manako
from manako.core.errors import HubAccessError, HubError, HubUnreachableError, WrongBytesError
from manako.hub.failures import error_of, said
from manako.hub.patience import RETRIED, Patience, Transient, asked_wait, paced

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
MAX_REDIRECTS = 5
MAX_JSON_BYTES = 64_000_000
HUBS = ("https://huggingface.co", "https://hf.co")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Which Hub is asked, as whom, with how much patience, and where its files are kept.

    cache: a folder of `huggingface_hub`'s layout. sleep: waits between attempts.
    """

    endpoint: str
    cache: Path
    token: str | None = field(default=None, repr=False)
    is_offline: bool = False
    patience: Patience = field(default_factory=Patience)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    @property
    def is_safe_for_tokens(self) -> bool:
        """Whether a token may go there: over https, or not off this machine."""
        parts = urlsplit(self.endpoint)
        return parts.scheme == "https" or parts.hostname in LOOPBACK


@dataclass(frozen=True)
class Answer:
    """A response whose body is still to come. announced: headers of the Hub's own responses, which
    tell commit, hash and size before they send on to a storage host."""

    response: httpx2.Response
    announced: Mapping[str, str]

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers

    @property
    def is_page(self) -> bool:
        """Whether a web page came, as sign-in pages of networks and proxies do."""
        return self.headers.get("content-type", "").lower().startswith("text/html")


def open_hub(
    *,
    endpoint: str | None = None,
    cache: Path | None = None,
    token: str | bool | None = None,
    offline: bool | None = None,
    patience: Patience | None = None,
) -> Hub:
    """The Hub that the environment names: HF_ENDPOINT, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE.

    token: None takes HF_TOKEN or the stored one, False sends none.
    """
    from huggingface_hub import constants

    environment = os.environ.get
    is_offline = constants.is_offline_mode() if offline is None else offline
    if offline is None and (wish := environment("HF_HUB_OFFLINE")) is not None:
        is_offline = wish.upper() in constants.ENV_VARS_TRUE_VALUES
    where = cache or Path(environment("HF_HUB_CACHE") or constants.HF_HUB_CACHE)
    return Hub(
        endpoint=(endpoint or environment("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/"),
        cache=where.expanduser(),
        token=_token(token, is_offline),
        is_offline=is_offline,
        patience=patience or Patience(),
    )


def _token(wish: str | bool | None, is_offline: bool) -> str | None:
    from huggingface_hub import constants, errors, get_token

    if isinstance(wish, str):
        return wish
    if wish is False or is_offline or (wish is None and constants.HF_HUB_DISABLE_IMPLICIT_TOKEN):
        return None
    try:
        return get_token()
    except (OSError, errors.OIDCError, errors.DeviceCodeError) as error:
        raise HubAccessError(
            f"the stored token could not be read or renewed: {type(error).__name__}",
            next_step="log in again with `hf auth login`, or set HF_TOKEN",
        ) from error


def try_often(hub: Hub, what: str, work: Callable[[], T], *, advice: str = "") -> T:
    """The result of `work`, tried as often as the patience allows.

    `work` raises `Transient` for what another attempt may mend. Raises its `final` error, with
    what was asked, where, how often and what came last, when no attempt is left.
    """
    if hub.is_offline:
        raise HubUnreachableError(
            f"{what} is not in the cache ({hub.cache}), and offline mode is on: nothing was asked",
            next_step="unset HF_HUB_OFFLINE, or copy the files into the cache",
        )
    attempt = 0
    while True:
        try:
            return work()
        except Transient as failed:
            if failed.arrived_bytes >= hub.patience.enough_bytes:
                attempt = 0
            attempt += 1
            wait = hub.patience.wait_seconds(attempt, failed.asked_seconds)
            if attempt >= hub.patience.attempts or wait > hub.patience.asked_wait_seconds:
                raise _given_up(hub, what, attempt, failed, advice) from failed
        hub.sleep(wait)


def _given_up(hub: Hub, what: str, attempts: int, failed: Transient, advice: str) -> HubError:
    asked = failed.asked_seconds
    wait = f"; it asks to wait {asked:.0f} s" if asked is not None else ""
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    step = "check network, proxy and HF_ENDPOINT, then run the same command again"
    if asked is not None and asked > hub.patience.asked_wait_seconds:
        step = f"run the same command again in {asked:.0f} s"
    return failed.final(
        f"{what} did not come from {hub.endpoint}: {times}, the last: {failed.reason}{wait}",
        next_step=f"{step}{f'; {advice}' if advice else ''}",
    )


@contextlib.contextmanager
def asked(
    hub: Hub, url: str, what: str, headers: Mapping[str, str] | None = None
) -> Iterator[Answer]:
    """One attempt: the answer with a good status, redirects followed.

    The token goes to the endpoint alone: not to another host, and not back from one. Raises
    `Transient` for what may pass, else the `HubError` that says what the status means.
    """
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        with contextlib.ExitStack() as stack:
            yield _followed(hub, url, what, headers or {}, stack)
    except OfflineModeIsEnabled as error:
        raise HubUnreachableError(
            f"{what} was not asked for: HF_HUB_OFFLINE was set when the program started",
            next_step="unset HF_HUB_OFFLINE",
        ) from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise HubError(
            f"{what}: no address to ask: {error}", next_step="correct HF_ENDPOINT"
        ) from error
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        reason = said(str(error), hub.token) or "nothing came in time"
        raise Transient(f"{type(error).__name__}: {reason}") from error


def _followed(
    hub: Hub, url: str, what: str, headers: Mapping[str, str], stack: contextlib.ExitStack
) -> Answer:
    announced: dict[str, str] = {}
    has_left = False
    for _ in range(MAX_REDIRECTS + 1):
        has_left = has_left or _origin(url) != _origin(hub.endpoint)
        response = stack.enter_context(_sent(hub, url, headers, with_token=not has_left))
        is_hub = is_of_the_hub(hub, url)
        if is_hub:
            announced |= response.headers
        if not response.has_redirect_location:
            _check_status(hub, what, response, is_storage=not is_hub)
            return Answer(response, announced)
        url = _next_url(url, response.headers["location"], what)
    raise HubError(f"{what}: more than {MAX_REDIRECTS} redirects")


def is_of_the_hub(hub: Hub, url: str) -> bool:
    """Whether an address is believed when it announces a file: the endpoint, or the Hub itself, to
    which a mirror may send on. The token goes to the endpoint alone."""
    return _origin(url) in {_origin(hub.endpoint), *map(_origin, HUBS)}


def _sent(hub: Hub, url: str, headers: Mapping[str, str], *, with_token: bool) -> Any:
    import httpx2
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    whole = {"user-agent": f"manako/{manako.__version__}", "accept-encoding": "identity", **headers}
    if with_token and hub.token and hub.is_safe_for_tokens:
        whole["authorization"] = f"Bearer {hub.token}"
    limits = hub.patience
    timeout = httpx2.Timeout(limits.read_seconds, connect=limits.connect_seconds)
    return get_session().stream("GET", url, headers=whole, timeout=timeout, follow_redirects=False)


def _next_url(url: str, location: str, what: str) -> str:
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https") or (urlsplit(url).scheme == "https" and scheme == "http"):
        raise HubError(
            f"{what}: a redirect from https to {scheme} is not followed",
            next_step="check the network: something stands between this machine and the Hub",
        )
    return target


def _origin(url: str) -> tuple[str, str, int]:
    parts: SplitResult = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return (parts.scheme, (parts.hostname or "").lower(), port)


def _check_status(hub: Hub, what: str, response: httpx2.Response, *, is_storage: bool) -> None:
    status, headers = response.status_code, response.headers
    if status in (200, 206):
        return
    if is_storage and status != 416:
        # Storage knows no permissions, only addresses that expire; the Hub hands out a new one.
        raise Transient(f"storage answers with status {status}", asked_seconds=asked_wait(headers))
    words = said(headers.get("x-error-message", ""), hub.token)
    if status in RETRIED:
        reason = f"status {status}{f' ({words})' if words else ''}"
        raise Transient(reason, asked_seconds=asked_wait(headers))
    has_sent = bool(hub.token) and hub.is_safe_for_tokens
    raise error_of(
        status,
        headers.get("x-error-code", ""),
        words,
        what=what,
        hub=hub.endpoint,
        has_sent=has_sent,
    )


def get_json(hub: Hub, url: str, what: str, *, advice: str = "") -> tuple[Any, Mapping[str, str]]:
    """A JSON value and the headers it came with, tried as often as the patience allows."""

    def work() -> tuple[Any, Mapping[str, str]]:
        with asked(hub, url, what) as answer:
            if answer.is_page:
                raise web_page(what)
            body = _read(answer, hub.patience, what)
            try:
                return json.loads(body), answer.headers
            except ValueError as error:
                begin = said(body[:60].decode("utf-8", "replace"), hub.token)
                raise Transient(f"no JSON, but {begin!r}", final=WrongBytesError) from error

    return try_often(hub, what, work, advice=advice)


def _read(answer: Answer, patience: Patience, what: str) -> bytes:
    body = bytearray()
    for chunk in paced(answer.response.iter_bytes(), patience):
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise WrongBytesError(f"{what}: more than {MAX_JSON_BYTES:,} bytes of JSON")
    return bytes(body)


def web_page(what: str) -> WrongBytesError:
    """The error for a web page where something else was asked for."""
    return WrongBytesError(
        f"{what}: a web page (text/html) came instead",
        next_step="a sign-in page of the network or a proxy answers; open one in a browser, or set "
        "HF_ENDPOINT to an address that speaks the Hub's API",
    )
