"""Whether the Hub can be reached; without it everything that lies on this machine still works."""

from __future__ import annotations

import os
import time

from manako.core.words import Words
from manako.machine.ask import Unanswered, ask, shown
from manako.machine.finding import Finding, Probe, does_not, not_tried, works

ENDPOINT = "https://huggingface.co"
PATH = "/api/models?limit=1"
"""Of the interface for programs, which never answers with a web page."""
WAIT_SECONDS = 5.0
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
TRUE = ("1", "ON", "YES", "TRUE")


def look() -> Finding:
    """One HEAD request; nothing is downloaded, and no token is sent."""
    for name in OFFLINE:
        if os.environ.get(name, "").upper() in TRUE:
            return not_tried(
                f"{name} で止められている", f"{name} forbids it", mends=f"unset {name}"
            )
    url = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    where, started = shown(url), time.monotonic()
    try:
        answer = ask(f"{url}{PATH}", WAIT_SECONDS, method="HEAD")
    except Unanswered as failed:
        return _unreached(where, failed.args[0])
    if answer.is_page:
        return _unreached(where, "a web page came: the sign-in of a network or proxy?")
    if answer.status >= 400:
        return _unreached(where, f"HTTP {answer.status}")
    milliseconds = round(1000 * (time.monotonic() - started))
    return works(
        f"{where}、{milliseconds} ms", f"{where}, {milliseconds} ms", url=where, ms=milliseconds
    )


def _unreached(where: str, reason: str) -> Finding:
    return does_not(
        f"{where} に届かない（{reason}）。手元のファイルは使える。届くはずなら、"
        "ネットワーク、HTTPS_PROXY、HF_ENDPOINT を確かめる",
        f"{where} is not reached ({reason}); files on this machine still work. If it should be: "
        "look at the network, HTTPS_PROXY and HF_ENDPOINT",
        url=where,
    )


PROBE = Probe(
    group="hub",
    title=Words(ja="接続", en="reachable"),
    look=look,
    place=20,
)
