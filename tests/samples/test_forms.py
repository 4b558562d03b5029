"""The files that the quickstart is made of: form, split, balance, sameness, failure."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manako.core.errors import InputError, WriteError
from manako.samples import forms
from manako.samples.forms import DEFAULT_ROWS, STAGES, FormsReport, example_form, write_forms
from manako.samples.plans import Form, plan_tests, plan_training
from manako.samples.questions import KINDS, LANGUAGES
from manako.samples.scans import Glyphs, load_scans, plain_glyphs, split_scans, varied_glyphs

ROWS = {"one": 60, "short": 120, "long": 200}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> FormsReport:
    return write_forms(tmp_path_factory.mktemp("forms"), rows=ROWS, test_questions_per_kind=20)


@pytest.fixture(scope="module")
def glyphs() -> tuple[Glyphs, Glyphs]:
    training, held_out = split_scans(load_scans())
    rng = np.random.default_rng(0)
    return varied_glyphs(training, variants=2, rng=rng), plain_glyphs(held_out)


@pytest.fixture(scope="module")
def tests(glyphs: tuple[Glyphs, Glyphs]) -> list[Form]:
    return list(plan_tests(glyphs[1], questions_per_kind=160, seed=0))


def read(report: FormsReport, name: str) -> list[Row]:
    rows: list[Row] = pq.read_table(report.out / name / "part-00000.parquet").to_pylist()
    return rows


def share_of_commonest(answers: list[str]) -> float:
    return Counter(answers).most_common(1)[0][1] / len(answers)


def test_rows_have_the_form_of_the_cauldron(written: FormsReport) -> None:
    for name, count in {**ROWS, "test": 20 * len(KINDS)}.items():
        schema = pq.read_schema(written.out / name / "part-00000.parquet")
        assert [field.name for field in schema] == ["images", "texts"]
        rows = read(written, name)
        assert len(rows) == written.rows[name] == count
        for row in rows:
            assert 1 <= len(row["images"]) <= 2
            marks = [text["user"].count("<image>") for text in row["texts"]]
            assert marks[0] == (2 if len(row["images"]) == 2 else 0)
            assert not any(marks[1:])
            for text in row["texts"]:
                prefix, kind, language = text["source"].split("/")
                assert (prefix, kind in KINDS, language in LANGUAGES) == ("forms", True, True)


def test_text_stands_between_two_pictures(written: FormsReport) -> None:
    for row in read(written, "long"):
        if len(row["images"]) == 2:
            before, between, after = row["texts"][0]["user"].split("<image>")
            assert before == ""
            assert between
            assert after


def test_pictures_are_rows_of_two_or_four_cells_and_paths_name_them(written: FormsReport) -> None:
    bytes_of_path: dict[str, bytes] = {}
    for name in ("long", "test"):
        for image in (image for row in read(written, name) for image in row["images"]):
            assert bytes_of_path.setdefault(image["path"], image["bytes"]) == image["bytes"]
            with Image.open(io.BytesIO(image["bytes"])) as picture:
                assert picture.size in ((56, 28), (112, 28))
    assert len(set(bytes_of_path.values())) == len(bytes_of_path)


def test_each_kind_has_its_test_questions_half_in_each_language(written: FormsReport) -> None:
    sources = Counter(row["texts"][0]["source"] for row in read(written, "test"))
    assert sources == {f"forms/{kind}/{language}": 10 for kind in KINDS for language in LANGUAGES}
    assert all(len(row["texts"]) == 1 for row in read(written, "test"))


def test_training_asks_every_kind_in_both_languages_and_within_its_turns(
    written: FormsReport,
) -> None:
    for stage in STAGES:
        rows = read(written, stage.name)
        turns = [text for row in rows for text in row["texts"]]
        assert {text["source"].split("/")[1] for text in turns} <= set(stage.kinds)
        assert max(len(row["texts"]) for row in rows) == stage.turns[1]
        languages = Counter(row["texts"][0]["source"].rsplit("/")[-1] for row in rows)
        assert languages["ja"] == languages["en"]
        assert sum(written.turns[stage.name].values()) == len(turns)
    assert set(written.turns["long"]) == set(KINDS)


def test_no_question_is_asked_twice_in_a_conversation(written: FormsReport) -> None:
    for row in read(written, "long"):
        users = [text["user"] for text in row["texts"]]
        assert len(set(users)) == len(users)


def test_training_deals_every_training_scan(glyphs: tuple[Glyphs, Glyphs]) -> None:
    varied = glyphs[0]
    plan = plan_training(STAGES[2], varied, rows=1500, seed=0)
    dealt = Counter(
        glyph // varied.variants for form in plan for s in form.sheets for glyph in s.glyphs
    )
    assert len(dealt) == varied.scans
    assert max(dealt.values()) - min(dealt.values()) <= 1


def test_commonest_answers_are_not_common(tests: list[Form]) -> None:
    limits = dict.fromkeys(KINDS, 0.16) | {"count": 0.31, "colour": 0.30, "read_all": 0.06}
    limits |= {"read_pair": 0.06}
    turns = [turn for form in tests for (turn,) in form.conversations]
    for kind, limit in limits.items():
        for language in LANGUAGES:
            answers = [t.answer for t in turns if (t.kind, t.language) == (kind, language)]
            assert len(answers) == 80
            # The bound is for both languages together; half as many answers scatter more.
            assert share_of_commonest(answers) <= limit + 0.06
        assert (
            kind == "colour"
            or share_of_commonest([t.answer for t in turns if t.kind == kind]) <= limit
        )


def test_a_pictures_size_does_not_help_to_guess_the_count(tests: list[Form]) -> None:
    counted = [
        (form.sheets[0].cells, turn.answer)
        for form in tests
        for (turn,) in form.conversations
        if turn.kind == "count"
    ]
    right_by_size = sum(
        Counter(answer for cells, answer in counted if cells == size).most_common(1)[0][1]
        for size in (2, 4)
    )
    assert right_by_size / len(counted) <= share_of_commonest([a for _, a in counted]) + 0.01


def test_every_test_form_asked_about_a_mark_has_marks(tests: list[Form]) -> None:
    marks = Counter(
        len(form.sheets[0].marks)
        for form in tests
        for (turn,) in form.conversations
        if turn.kind == "at_mark"
    )
    assert set(marks) == {1, 2}
    assert min(marks.values()) > 40


def test_the_same_seed_gives_the_same_bytes(written: FormsReport, tmp_path: Path) -> None:
    again = write_forms(tmp_path / "again", rows=ROWS, test_questions_per_kind=20)
    other = write_forms(tmp_path / "other", rows=ROWS, test_questions_per_kind=20, seed=1)
    for name in (*ROWS, "test"):
        parts = [r.out / name / "part-00000.parquet" for r in (written, again, other)]
        assert parts[0].read_bytes() == parts[1].read_bytes() != parts[2].read_bytes()


def test_progress_counts_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "VARIANTS_PER_SCAN", 1)
    seen: list[tuple[int, int]] = []
    write_forms(
        tmp_path,
        rows={"one": 10},
        test_questions_per_kind=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(10, 28), (28, 28)]


def test_every_stage_has_default_rows_in_its_order() -> None:
    assert list(DEFAULT_ROWS) == [stage.name for stage in STAGES]


def test_the_example_is_one_picture_for_a_seed() -> None:
    assert example_form(3) == example_form(3) != example_form(4)
    with Image.open(io.BytesIO(example_form(3))) as picture:
        assert picture.size == (112, 28)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": {"first": 5}}, "no training set 'first'"),
        ({"rows": {"one": -1}}, "one is -1"),
        ({"test_questions_per_kind": 0}, "test_questions_per_kind is 0"),
    ],
)
def test_wrong_numbers_are_refused_by_name(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_forms(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "VARIANTS_PER_SCAN", 1)
    arguments: dict[str, Any] = {"rows": {"one": 4}, "test_questions_per_kind": 1}
    write_forms(tmp_path, **arguments)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(forms, "_table", refuse)
    with pytest.raises(WriteError, match="No space left"):
        write_forms(tmp_path, **arguments, seed=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
