"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell, which ignores Ctrl-C; programs that tests start would
    # inherit that, and tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2-VL checkpoint with the published file layout; read only."""
    from manako.families.qwen2_vl import FAMILY

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-qwen2-vl"
    FAMILY.make_tiny(folder, seed=0)
    return folder
