"""The drawings of `manako init`: right answers, nothing of the held-out set in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manako.samples.shapes import COLOURS, HELD_OUT, QUESTIONS, SHAPES, TRAINING, write_shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    assert write_shapes(folder) == (84, 18)
    return folder


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def pictures(row: dict[str, Any]) -> list[str]:
    return [row["image"]] if isinstance(row["image"], str) else row["image"]


def test_no_held_out_picture_is_trained_on(folder: Path) -> None:
    trained = {file for row in rows(folder, TRAINING) for file in pictures(row)}
    held_out = {file for row in rows(folder, HELD_OUT) for file in pictures(row)}
    assert not trained & held_out
    assert len(trained | held_out) == len(list((folder / "pictures").iterdir()))


def test_every_part_of_a_held_out_picture_was_seen_in_training(folder: Path) -> None:
    trained = [
        Path(file).stem.split("-") for row in rows(folder, TRAINING) for file in pictures(row)
    ]
    for place, names in enumerate((COLOURS, SHAPES, ("1", "2", "3"))):
        assert {parts[place] for parts in trained} == set(names)


def test_answers_are_what_the_pictures_name_says(folder: Path) -> None:
    for row in rows(folder, HELD_OUT):
        colour, shape, count = Path(row["image"]).stem.split("-")
        said = {turn["value"] for turn in row["conversations"]}
        expected = (
            {colour, shape} if row["id"].endswith("-en") else {COLOURS[colour][1], SHAPES[shape]}
        )
        assert {count, *expected} <= said


def test_each_question_opens_some_conversations(folder: Path) -> None:
    first = {
        row["conversations"][0]["value"].removeprefix("<image>\n") for row in rows(folder, TRAINING)
    }
    assert {question for questions in QUESTIONS.values() for question in questions} <= first


def test_pairs_place_both_pictures_and_both_answers_occur(folder: Path) -> None:
    pairs = [row for row in rows(folder, TRAINING) if len(pictures(row)) == 2]
    assert all(row["conversations"][0]["value"].count("<image>") == 2 for row in pairs)
    assert {row["conversations"][1]["value"] for row in pairs} == {
        "first",
        "second",
        "一枚目",
        "二枚目",
    }


def test_the_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        assert (tmp_path / file.relative_to(folder)).read_bytes() == file.read_bytes()
