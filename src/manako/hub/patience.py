"""How long to wait for a server, how often to ask again, and when to give up."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from manako.core.errors import HubError, HubUnreachableError

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""Statuses after which the same request may succeed (those above 511 are Cloudflare's)."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Limits of every exchange with the Hub.

    attempts: in a row, of which none brought `enough_bytes`; so their number is bounded.
    asked_wait_seconds: the longest wait that a server may ask for; one that asks for more is
    taken at its word and not asked again. slow_bytes: less in `slow_seconds` is a stalled stream,
    which a server that drips could otherwise keep open for ever.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    attempts: int = 5
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0
    asked_wait_seconds: float = 120.0
    slow_seconds: float = 60.0
    slow_bytes: int = 60_000
    enough_bytes: int = 16_000_000

    def wait_seconds(self, attempt: int, asked_seconds: float | None) -> float:
        """Seconds before the next attempt: doubled each time, or what the server asked for."""
        if asked_seconds is not None:
            return asked_seconds
        return min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** (attempt - 1))


class Transient(Exception):
    """An attempt failed in a way that another may not.

    asked_seconds: how long the server asks to wait. arrived_bytes: what the attempt brought.
    final: the error that this becomes when no attempt is left.
    """

    def __init__(
        self,
        reason: str,
        *,
        asked_seconds: float | None = None,
        arrived_bytes: int = 0,
        final: type[HubError] = HubUnreachableError,
    ) -> None:
        super().__init__(reason)
        self.reason, self.asked_seconds = reason, asked_seconds
        self.arrived_bytes, self.final = arrived_bytes, final


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, from Retry-After (seconds or a date) or RateLimit."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def paced(chunks: Iterable[bytes], patience: Patience) -> Iterator[bytes]:
    """The chunks as they come. Raises `Transient` when they come too slowly."""
    began, in_window = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        in_window += len(chunk)
        seconds = time.monotonic() - began
        if seconds >= patience.slow_seconds:
            if in_window < patience.slow_bytes:
                raise Transient(f"the stream stalled: {in_window:,} bytes in {seconds:.1f} s")
            began, in_window = time.monotonic(), 0
