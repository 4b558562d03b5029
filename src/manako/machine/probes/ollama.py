"""Ollama: whether it answers, its version, its models, and which of them take pictures."""

from __future__ import annotations

import os
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from manako.core.words import Words
from manako.machine.ask import Unanswered, ask, shown
from manako.machine.finding import Finding, Probe, does_not, not_installed, works

PORT = 11434
WAIT_SECONDS = 2.0
ASK_SECONDS = 8.0
"""All models together are asked about their abilities for so long."""
DOWNLOAD = "https://ollama.com/download"
SHOWN = 6


def look() -> Finding:
    """Nothing that answers and no program is no error; something else on its port is told."""
    try:
        url = address(os.environ.get("OLLAMA_HOST", ""))
    except ValueError:
        return does_not(
            "OLLAMA_HOST がアドレスではない",
            "OLLAMA_HOST is no address",
            mends="export OLLAMA_HOST=127.0.0.1:11434",
        )
    where = shown(url)
    try:
        version = ask(f"{url}/api/version", WAIT_SECONDS).json().get("version")
        models = _models(ask(f"{url}/api/tags", WAIT_SECONDS).json())
    except Unanswered as failed:
        return _silent(where, failed.args[0])
    if not isinstance(version, str):
        return _silent(where, "its version is no text")
    seeing = list(_seeing(url, [model["name"] for model in models]))
    names = ", ".join(seeing[:SHOWN]) + (", …" if len(seeing) > SHOWN else "") or "-"
    return works(
        f"{version}、{len(models)} モデル、画像を扱うもの: {names}",
        f"{version}, {len(models)} models; with vision: {names}",
        url=where,
        version=version,
        models=models,
        vision=seeing,
    )


def address(text: str) -> str:
    """The server's URL from OLLAMA_HOST, by Ollama's rules: scheme and port may be missing, and
    0.0.0.0 (listen everywhere) is asked on this machine. Raises `ValueError` for what is none."""
    scheme, found, rest = text.strip().partition("://")
    if not found:
        scheme, rest = "http", text.strip()
    parts = urllib.parse.urlsplit(f"//{rest}")
    default = {"http": 80, "https": 443}.get(scheme, PORT) if found else PORT
    try:
        port = parts.port or default
    except ValueError:
        port = default
    host = parts.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    host = f"[{host}]" if ":" in host else host
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"{scheme}://{user}{host}:{port}{parts.path.rstrip('/')}"


def _silent(where: str, reason: str) -> Finding:
    has_program = shutil.which("ollama") is not None
    if not has_program and not os.environ.get("OLLAMA_HOST") and "refused" in reason.lower():
        return not_installed(
            f"{where} に何もない", f"nothing answers at {where}", mends=DOWNLOAD, url=where
        )
    return does_not(
        f"{where}: Ollama として答えない（{reason}）",
        f"{where} does not answer as Ollama does ({reason})",
        mends="ollama serve" if has_program else "",
        url=where,
    )


def _models(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Name and bytes of each model. Raises `Unanswered` for a list that is none."""
    found = answer.get("models")
    if not isinstance(found, list):
        raise Unanswered("it has no list of models")
    return [
        {"name": str(one["name"]), "bytes": one.get("size")}
        for one in found
        if isinstance(one, dict) and "name" in one
    ]


def _seeing(url: str, names: list[str]) -> Iterator[str]:
    """Those that say they have vision; one that does not answer is not among them."""
    ends = time.monotonic() + ASK_SECONDS
    for name in names:
        if time.monotonic() > ends:
            return
        try:
            able = ask(f"{url}/api/show", WAIT_SECONDS, method="POST", body={"model": name}).json()
        except Unanswered:
            continue
        capabilities = able.get("capabilities")
        if isinstance(capabilities, list) and "vision" in capabilities:
            yield name


PROBE = Probe(
    group="programs",
    title=Words(ja="Ollama", en="Ollama"),
    look=look,
    place=20,
)
