"""How long a server is waited for, and which kinds of files pass."""

from __future__ import annotations

import dataclasses
import struct
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from manako.core.errors import HubError, RefusedFileError
from manako.hub.client import Hub, _next_url, is_of_the_hub
from manako.hub.kinds import check_content, check_path, why_refused
from manako.hub.patience import Patience, Transient, asked_wait, paced


def test_waits_double_up_to_a_ceiling() -> None:
    patience = Patience(first_wait_seconds=1, longest_wait_seconds=5)
    assert [patience.wait_seconds(n, None) for n in (1, 2, 3, 4, 99)] == [1, 2, 4, 5, 5]
    assert patience.wait_seconds(1, 77.0) == 77.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": " 12 "}, 12.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({}, None),
        ({"ratelimit": '"api";r=0;t=55', "retry-after": "3"}, 55.0),
        ({"ratelimit": '"api";r=9;t=55', "retry-after": "3"}, 3.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


def test_a_date_to_come_back_at() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    found = asked_wait({"retry-after": when})
    assert found is not None
    assert 95 < found <= 100


def test_a_stream_that_is_fast_enough_passes() -> None:
    patience = dataclasses.replace(Patience(), slow_seconds=0.0, slow_bytes=10)
    assert list(paced([b"x" * 10] * 3, patience)) == [b"x" * 10] * 3
    with pytest.raises(Transient, match="the stream stalled: 9 bytes"):
        list(paced([b"x" * 10, b"x" * 9], patience))


def test_who_is_believed_when_a_file_is_announced() -> None:
    hub = Hub(endpoint="https://mirror.example", cache=Path())
    for url, is_believed in {
        "https://mirror.example/x": True,
        "https://huggingface.co/x": True,
        "https://mirror.example:8443/x": False,
        "http://huggingface.co/x": False,
        "https://huggingface.co.evil.example/x": False,
        "https://user@evil.example/huggingface.co": False,
    }.items():
        assert is_of_the_hub(hub, url) == is_believed, url


def test_a_redirect_never_goes_from_https_to_http() -> None:
    assert _next_url("https://a/x", "/y?z=1", "f") == "https://a/y?z=1"
    assert _next_url("http://a/x", "https://b/y", "f") == "https://b/y"
    for target in ("http://a/x", "file:///etc/passwd", "ftp://a/x"):
        with pytest.raises(HubError, match="is not followed"):
            _next_url("https://a/x", target, "f")


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "config.json",
        "tokenizer.model",
        "chat_template.jinja",
        "merges.txt",
        "README.md",
        "LICENSE",
        "data/train-00000-of-00002.parquet",
        "a/b.PNG",
        "qwen.tiktoken",
    ],
)
def test_kinds_that_are_taken(name: str) -> None:
    assert why_refused(name) == ""
    check_path(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pytorch_model.bin", "pickled"),
        ("a/optimizer.PT", "pickled"),
        ("modeling.py", "code"),
        ("media.tar", "archive"),
        ("model.gguf", "no kind that Manako reads"),
        ("Makefile", "no kind that Manako reads"),
        ("model.safetensors.py", "code"),
    ],
)
def test_kinds_that_are_refused(name: str, reason: str) -> None:
    assert reason in why_refused(name)


@pytest.mark.parametrize(
    "name", ["", "/a", "a//b", "a/../b", "..", ".", "a\\b", "C:x", "a\nb", "a\0b", "x" * 2000]
)
def test_paths_that_leave_their_folder(name: str) -> None:
    with pytest.raises(RefusedFileError, match="no plain path"):
        check_path(name)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("tokenizer.model", b"\x80\x04\x95abcd"),
        ("tokenizer.model", b"PK\x03\x04abcd"),
        ("x.json", b"PK\x03\x04abcd"),
        ("x.safetensors", b"PK\x03\x04abcd"),
        ("x.safetensors", struct.pack("<Q", 0)),
        ("x.safetensors", b"{}"),
    ],
)
def test_a_pickle_under_another_name(name: str, first: bytes) -> None:
    with pytest.raises(RefusedFileError, match="by its first bytes"):
        check_content(name, first, 100)


def test_content_that_passes() -> None:
    check_content("tokenizer.model", b"\n\x0e\n\x05<unk", 100)
    check_content("x.safetensors", struct.pack("<Q", 0x280), 10_000)  # begins like a pickle
    check_content("empty.txt", b"", 0)
