"""Ollama and the Hub, asked at servers that answer well, badly, late, or not at all."""

from __future__ import annotations

import http.server
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.machine.ask import Unanswered, ask, shown
from manako.machine.finding import Finding
from manako.machine.probes import hub_reach, hub_token, ollama

Handler = type[http.server.BaseHTTPRequestHandler]
Serve = Callable[[Handler], str]
GOOD: dict[str, Any] = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {
        "models": [{"name": "gemma3:4b", "size": 3}, {"name": "qwen3:8b"}, {"name": "x"}]
    },
    "/api/show gemma3:4b": {"capabilities": ["completion", "vision"]},
    "/api/show qwen3:8b": {"capabilities": ["completion"]},
    "/api/show x": {"capabilities": None},
}


def handler(
    answers: Mapping[str, Any], *, status: int = 200, kind: str = "application/json"
) -> Handler:
    """Answers by path (POST: path and model), a `bytes` as it is, anything else as JSON."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(self.path)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.answer(f"{self.path} {asked['model']}")

        def answer(self, key: str) -> None:
            found = answers.get(key, answers.get("*"))
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status if found is not None else 404)
            self.send_header("content-type", kind)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    return Answers


def slow(seconds_per_byte: float) -> Handler:
    class Drips(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                self.send_response(200)
                self.end_headers()
                for _ in range(1000):
                    self.wfile.write(b" ")
                    time.sleep(seconds_per_byte)
            except OSError:
                return

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None: ...

    return Drips


def look_at_ollama(monkeypatch: pytest.MonkeyPatch, address: str) -> Finding:
    monkeypatch.setenv("OLLAMA_HOST", address)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # never used for this machine
    return ollama.look()


def test_ollamas_models_with_vision_are_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(handler(GOOD)).removeprefix("http://")
    found = look_at_ollama(monkeypatch, address)
    assert found.state == "works"
    assert found.facts["version"] == "0.33.0"
    assert [model["name"] for model in found.facts["models"]] == ["gemma3:4b", "qwen3:8b", "x"]
    assert found.facts["vision"] == ["gemma3:4b"]
    assert "gemma3:4b" in found.why.ja


@pytest.mark.parametrize(
    ("answers", "settings", "words"),
    [
        ({"*": b"<html>router</html>"}, {"kind": "text/html"}, "a web page came"),
        ({"*": b"{cut"}, {}, "what came is no JSON"),
        ({"*": [1]}, {}, "a JSON object was expected, a list came"),
        ({"*": b"[" * 100_000}, {}, "what came is no JSON"),
        ({"*": {"version": "1"}}, {}, "it has no list of models"),
        ({"*": {"version": 1, "models": []}}, {}, "its version is no text"),
        ({"*": {}}, {"status": 500}, "HTTP 500"),
        ({}, {}, "HTTP 404"),
    ],
)
def test_what_is_no_ollama_is_told(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, Any],
    settings: dict[str, Any],
    words: str,
) -> None:
    found = look_at_ollama(monkeypatch, serve(handler(answers, **settings)))
    assert found.state == "does not"
    assert words in found.why.en


def test_a_slow_ollama_costs_its_limit_and_no_more(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama, "WAIT_SECONDS", 0.3)
    started = time.monotonic()
    found = look_at_ollama(monkeypatch, serve(slow(0.02)))
    assert time.monotonic() - started < 1.5
    assert "no answer in 0.3 s" in found.why.en


def test_where_nothing_is_ollama_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_HOST")
    monkeypatch.setattr(ollama, "PORT", 9)
    monkeypatch.setattr(ollama.shutil, "which", lambda _: None)
    found = ollama.look()
    assert found.state == "not installed"
    monkeypatch.setattr(ollama.shutil, "which", lambda _: "/usr/bin/ollama")
    assert ollama.look().mends == "ollama serve"
    monkeypatch.setattr(ollama.shutil, "which", lambda _: None)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert ollama.look().state == "does not"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":12000", "http://127.0.0.1:12000"),
        ("box", "http://box:11434"),
        ("http://box", "http://box:80"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("[::]:5000", "http://[::1]:5000"),
        ("box:nonsense", "http://box:11434"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(text: str, url: str) -> None:
    assert ollama.address(text) == url


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_any_address_is_read_or_refused(text: str) -> None:
    try:
        assert "://" in ollama.address(text)
    except ValueError as refused:
        assert str(refused)  # noqa: PT017 - both ends are allowed
    with pytest.raises(Unanswered):
        ask(f"http://127.0.0.1:9/{text}", 0.1)


def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look_at_ollama(monkeypatch, "[::1")
    assert found.state == "does not"
    assert "OLLAMA_HOST" in found.why.en


def test_passwords_in_addresses_are_not_shown() -> None:
    assert shown("https://me:secret@box:1/a?token=b") == "https://box:1/a"


def look_at_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> Finding:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(hub_reach, "WAIT_SECONDS", 0.5)
    return hub_reach.look()


def test_a_hub_that_answers_is_reached(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look_at_hub(monkeypatch, serve(handler({"*": []})))
    assert found.state == "works"
    assert found.facts["ms"] >= 0


@pytest.mark.parametrize(
    ("answers", "settings", "words"),
    [
        ({"*": b"<html>sign in</html>"}, {"kind": "text/html"}, "a web page came"),
        ({"*": {}}, {"status": 407}, "HTTP 407"),
        ({"*": {}}, {"status": 503}, "HTTP 503"),
    ],
)
def test_a_hub_that_is_none_is_told(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, Any],
    settings: dict[str, Any],
    words: str,
) -> None:
    found = look_at_hub(monkeypatch, serve(handler(answers, **settings)))
    assert found.state == "does not"
    assert words in found.why.en
    assert "files on this machine still work" in found.why.en


def test_without_a_network_the_hub_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look_at_hub(monkeypatch, "http://127.0.0.1:9")
    assert found.state == "does not"
    assert "refused" in found.why.en


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_reach, "ask", None)
    found = hub_reach.look()
    assert (found.state, found.mends) == ("not tried", "unset HF_HUB_OFFLINE")


def test_a_token_is_found_and_never_shown(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert hub_token.look().state == "not installed"
    (tmp_path / "token").write_text("hf_secret\n", encoding="utf-8")
    assert hub_token.look().facts == {"source": "file"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = hub_token.look()
    assert found.facts == {"source": "HF_TOKEN"}
    assert "secret" not in repr(found)
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    assert hub_token.look().mends == "hf auth login"
