"""The figures of both READMEs come from a quickstart's files, in the form that it writes them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doc_blocks import read

import readme_figures
from blocks import read_block, replace_block
from manako.core.conversation import Conversation, Image, Message
from manako.core.files import write_json
from manako.core.record import write_record
from manako.evaluate.runner import evaluate
from manako.formats._shared import tiny_png


class Knows:
    """Answers with the height of the last picture."""

    def generate_batch(self, contents: Any, **settings: Any) -> list[Any]:
        return [
            SimpleNamespace(text=str(prompt.images[-1].height), finish_reason="stop")
            for prompt in contents
        ]


def rows() -> list[Conversation]:
    return [
        Conversation(
            (
                Message("user", (Image(tiny_png(4, height)), "?")),
                Message("assistant", (str(height),)),
            ),
            id=f"{kind}-{height}",
            source=f"forms/{kind}/ja",
        )
        for kind in ("read_one", "count")
        for height in range(5, 9)
    ]


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    result = evaluate(Knows(), rows()).as_dict()
    result |= {
        "seconds": 251.4,
        "seconds_by_step": {"train": 190.2},
        "peak_memory_bytes": 9 * 10**8,
    }
    write_json(tmp_path / "result.json", result)
    write_record(tmp_path / "record.jsonl", "train", [])
    return tmp_path / "result.json"


def test_both_readmes_get_the_same_figures(
    quickstart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readme_figures, "ROOT", tmp_path)
    for name in readme_figures.READMES:
        (tmp_path / name).write_text(read(name), encoding="utf-8")
    readme_figures.main(quickstart)
    for name, row in (
        ("README.md", "| how many digits | 4 | 100.0 |"),
        ("README.ja.md", "| 数字はいくつ | 4 | 100.0 |"),
    ):
        text = (tmp_path / name).read_text(encoding="utf-8")
        block = read_block(text, readme_figures.BLOCK)
        assert row in block
        assert "| 8 | 100.0 |" in block  # all questions
        assert "4 min 11 s" in block
        assert "3 min 10 s" in block
        assert "900 MB" in block
        assert replace_block(text, readme_figures.BLOCK, "") == replace_block(
            read(name), readme_figures.BLOCK, ""
        )


def test_every_kind_of_question_has_words_in_both_languages() -> None:
    from manako.samples.questions import KINDS

    for words in readme_figures.READMES.values():
        assert sorted(words.kinds) == sorted(KINDS)


def test_a_text_without_the_block_is_refused() -> None:
    with pytest.raises(SystemExit, match="figures:quickstart"):
        replace_block("no block here", "figures:quickstart", "x")
