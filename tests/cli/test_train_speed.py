"""The last words of a run: how fast it was, and of operations only what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manako.cli.screen import Screen
from manako.cli.watching import say_speed
from manako.verbs.runs import Run


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, ""),
        ({"tokens_per_second": 12345.6}, "Speed: 12,346 tokens/s\n"),
        (
            {"tokens_per_second": 900.0, "tflops": 0.01234},
            "Speed: 900 tokens/s, 0.0123 TFLOP/s per device\n",
        ),
        (
            {"tokens_per_second": 9000.0, "tflops": 395.6, "mfu": 0.4},
            "Speed: 9,000 tokens/s, 396 TFLOP/s per device (40.0% of its peak)\n",
        ),
    ],
)
def test_the_speed_of_a_run_in_words(
    capsys: pytest.CaptureFixture[str], known: dict[str, Any], words: str
) -> None:
    say_speed(Screen(lang="en"), Run(folder=Path("run"), state="finished", **known))
    assert capsys.readouterr().out == words
