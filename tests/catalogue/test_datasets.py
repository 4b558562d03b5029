"""Data sets: every file keeps to the schema, sums are the published ones, and what leaks is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from manako.catalogue.check import Lists, problems_of
from manako.catalogue.datasets import (
    DATASETS,
    DataSet,
    datasets,
    find_set,
    layouts,
    meetings,
    parts_of,
    pools,
    problems_among,
    read_sets,
    warnings_of,
)
from manako.catalogue.facts import licences, sources, without_recalled
from manako.catalogue.scores import score_tables
from manako.catalogue.survey import survey
from manako.core.discovery import discover
from manako.core.errors import InputError
from manako.formats._shared import Format

LISTS = Lists(sources=sources(), licences=licences(), tables=score_tables())
FORMATS = frozenset(discover("manako.formats", "FORMAT").items)
CAULDRON = "HuggingFaceM4/the_cauldron"
SMALL = """
group = { en = "small", ja = "小" }
[[set]]
id = "me/small"
title = "Small"
kind = "training"
category = "vqa"
"""
LEAK = """
[[set.must_not_meet]]
id = "me/none"
relation = "leak"
by = "recalled"
why = { en = "x", ja = "x" }
"""


def cauldron() -> tuple[DataSet, ...]:
    return parts_of(find_set(CAULDRON))


@pytest.mark.parametrize("found", datasets(), ids=lambda found: found.id)
def test_every_set_keeps_to_the_schema(found: DataSet) -> None:
    assert list(problems_of(found.id, found, LISTS)) == []


@pytest.mark.parametrize("table", [layouts(), pools()], ids=["layouts", "pools"])
def test_layouts_and_pools_name_their_sources_and_both_languages(table: dict[str, object]) -> None:
    for key, record in table.items():
        assert list(problems_of(key, record, LISTS)) == []


def test_records_agree_with_each_other_and_formats_are_manakos() -> None:
    assert list(problems_among(datasets(), FORMATS)) == []
    formats = discover("manako.formats", "FORMAT").items.values()
    assert {one.name for one in formats if isinstance(one, Format)} == FORMATS


def test_every_benchmark_of_a_score_and_every_set_of_the_survey_has_a_record() -> None:
    columns = [column for table in score_tables().values() for column in table.columns.values()]
    known = {found.id: found for found in datasets()}
    for column in columns:
        assert column.benchmark in known
        found = known[column.benchmark]
        assert found.kind in ("benchmark", "both")
        assert found.languages is None or column.language in found.languages.value
    assert {name for line in survey() for name in line.datasets} <= set(known)


def test_the_cauldron_sums_to_its_published_totals() -> None:
    found = cauldron()
    assert len(found) == 50
    assert sum(one.images.value for one in found if one.images) == 3_665_408
    assert sum(one.size("questions") or 0 for one in found) == 30_344_030
    whole = find_set(CAULDRON)
    assert whole.images is not None
    assert whole.images.value == 3_665_408
    assert whole.size("questions") == 30_344_030


def test_shares_of_the_published_mix_sum_to_the_whole() -> None:
    vision = sum(one.shares["idefics2"].value for one in cauldron())
    text = [one for one in datasets() if "idefics2" in one.shares and one.category == "text"]
    chat = [one for one in datasets() if "idefics2" in one.shares and one.category == "chat"]
    assert vision == pytest.approx(73.57)
    assert len(text) + len(chat) == 9
    total = vision + sum(one.shares["idefics2"].value for one in (*text, *chat))
    assert total == pytest.approx(100, abs=0.05)


def test_rows_that_can_be_had_sum_to_what_the_hub_shows() -> None:
    held = sum((one.held_rows or one.rows).value for one in cauldron() if one.rows)  # type: ignore[union-attr]
    whole = find_set(CAULDRON).rows
    assert whole is not None
    assert held == pytest.approx(whole.value, rel=0.003)


def test_answers_have_a_token_at_least() -> None:
    for one in datasets():
        if (tokens := one.size("answer_tokens")) and (questions := one.size("questions")):
            assert tokens >= questions, one.id


@pytest.mark.parametrize(
    ("training", "benchmark"),
    [
        ("github.com/yahoojapan/ja-vg-vqa", "SakanaAI/JA-VG-VQA-500"),
        ("shunk031/STAIR-Captions", "lmms-lab/COCO-Caption2017"),
        ("github.com/yahoojapan/YJCaptions", "lmms-lab/COCO-Caption2017"),
        ("the_cauldron:vqav2", "lmms-lab/COCO-Caption2017"),
        ("turing-motors/LLaVA-Instruct-150K-JA", "lmms-lab/COCO-Caption2017"),
        ("lmms-lab/MMMU", "JMMMU/JMMMU"),
        ("the_cauldron:chartqa", "lmms-lab/ChartQA"),
        ("the_cauldron:ai2d", "lmms-lab/ai2d"),
        ("the_cauldron:docvqa", "lmms-lab/DocVQA:DocVQA"),
        (CAULDRON, "lmms-lab/ChartQA"),
    ],
)
def test_mandatory_leaks_are_known_from_both_sides(training: str, benchmark: str) -> None:
    one, other = find_set(training), find_set(benchmark)
    for met in (meetings(one, other), meetings(other, one)):
        assert "leak" in {found.relation for found in met}
    for mine, theirs in ((one, other), (other, one)):
        named = {name for met in warnings_of(mine) for name in (met.one, met.other)}
        assert theirs.id in named or {part.id for part in parts_of(theirs)} & named


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        ("the_cauldron:clevr", "the_cauldron:clevr_math", "same pictures"),
        ("the_cauldron:textvqa", "the_cauldron:textcaps", "same pictures"),
        ("the_cauldron:vqav2", "shunk031/STAIR-Captions", "same pictures"),
        ("turing-motors/Cauldron-JA", CAULDRON, "same pictures"),
        ("HuggingFaceM4/FineVision", "the_cauldron:dvqa", "contains"),
        (CAULDRON, "the_cauldron:dvqa", "contains"),
    ],
)
def test_training_sets_that_share_what_they_hold(one: str, other: str, relation: str) -> None:
    found = {met.relation for met in meetings(find_set(one), find_set(other))}
    assert relation in found
    assert "leak" not in found


def test_sets_that_have_nothing_in_common_may_meet() -> None:
    assert meetings(find_set("the_cauldron:plotqa"), find_set("JMMMU/JMMMU")) == ()
    assert meetings(find_set("lmms-lab/POPE"), find_set("lmms-lab/VQAv2")) == ()


@pytest.mark.parametrize(
    "name",
    [f"{CAULDRON}:plotqa", "the_cauldron:plotqa", "plotqa", " PlotQA ", "The_Cauldron:PlotQA"],
)
def test_a_set_is_found_by_its_names(name: str) -> None:
    assert find_set(name).id == f"{CAULDRON}:plotqa"


def test_a_name_of_two_and_a_name_of_none_are_told() -> None:
    with pytest.raises(
        InputError, match=r"the name of 2 data sets: .*DocVQA:DocVQA, .*the_cauldron:docvqa"
    ):
        find_set("docvqa")
    with pytest.raises(InputError, match=r"nearest are .*the_cauldron:plotqa"):
        find_set("the_cauldron:plotqas")
    with pytest.raises(InputError, match="no data set ''"):
        find_set("")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colour = 1", "small.toml me/small: unknown field 'colour'"),
        ('reads = "x"', "small.toml me/small: unknown field 'reads'"),
        ("images = 3", "small.toml me/small.images: expected fields, found 3"),
        ("images = { value = 3 }", "small.toml me/small.images: missing by"),
        (
            'images = { value = "3", by = "recalled" }',
            "small.toml me/small.images.value is '3' (str); expected int",
        ),
        (
            'access = { way = "post", by = "recalled" }',
            "small.toml me/small.access.way is 'post' (str); expected hub |",
        ),
    ],
)
def test_a_breach_of_the_schema_names_file_key_and_value(
    line: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL + line, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        list(read_sets(file))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'images = { value = 3, by = "hearsay" }',
            "me/small.images: source 'hearsay' is not in the list of sources",
        ),
        (
            'licences = { value = ["beer"], by = "recalled" }',
            "me/small.licences: licence 'beer' is not in the list of licences",
        ),
        ('about = { en = "Small.", ja = "", by = "recalled" }', "me/small.about.ja: the text is"),
        ('layout = "round"', "me/small.layout: 'round' is not in layouts.toml"),
        ('part_of = "me/large"', "me/small.part_of: no data set 'me/large'"),
        ('pictures = { value = ["moon"], by = "recalled" }', "me/small.pictures: 'moon' is not"),
        (
            LEAK,
            "me/small.must_not_meet: no other data set 'me/none'",
        ),
        (
            'test = { split = "test", by = "recalled", metric = { en = "x", ja = "x" } }',
            "me/small.test: the set is for training alone",
        ),
        ('aliases = ["me/SMALL"]', "me/small: the name 'me/SMALL' stands twice"),
    ],
)
def test_what_only_the_whole_catalogue_can_show_is_told(
    line: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL + line, encoding="utf-8")
    assert any(found.startswith(message) for found in all_problems(file))


def all_problems(file: Path) -> Iterator[str]:
    found = tuple(read_sets(file))
    for one in found:
        yield from problems_of(one.id, one, LISTS)
    yield from problems_among(found, FORMATS)


def test_a_file_without_group_is_told(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text("[[set]]\nid = 'me/small'\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"small\.toml: missing group"):
        list(read_sets(file))


def test_strict_keeps_the_published_and_drops_the_recalled() -> None:
    found = without_recalled(find_set("the_cauldron:dvqa"))
    assert found.licences is None
    assert found.commercial == "unknown"
    assert found.size("questions") == 2_325_316


def test_every_file_is_read() -> None:
    groups = {found.group.en for found in datasets()}
    assert len(groups) == len(list(DATASETS.glob("*.toml")))
