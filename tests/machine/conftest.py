"""Fake probes and fake servers."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FAKES = Path(__file__).parent / "fakes"
Handler = type[http.server.BaseHTTPRequestHandler]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> str:
    """The package of misbehaving probes, visible here and in their processes."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    return "fake_probes"


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], str]]:
    """`serve(handler)`: the address of a server on this machine that answers as the handler does."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(handler: Handler) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No probe asks the real Hub, or a real Ollama, and no token of the person at work is read."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
