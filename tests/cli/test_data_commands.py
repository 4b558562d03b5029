"""convert, census, view: from a folder of pictures to a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_makers import Call


@pytest.fixture
def data(call: Call, source: Path, tmp_path: Path) -> Path:
    out = tmp_path / "data"
    assert call("data", "convert", source, "--out", out).exit_code == 0
    return out


def test_convert_says_what_became_of_every_row(call: Call, source: Path) -> None:
    result = call("data", "convert", source, "--out", "data")
    assert result.exit_code == 0
    assert "5 rows with 5 pictures" in result.stdout
    assert "image_missing 1" in result.stdout
    assert "manako view data" in result.stdout


def test_convert_as_json_is_json_alone(call: Call, source: Path) -> None:
    found = json.loads(call("data", "convert", source, "--out", "data", "--json").stdout)
    assert (found["rows"], found["dropped"]) == (5, 1)


def test_nothing_is_overwritten(call: Call, source: Path, data: Path) -> None:
    result = call("data", "convert", source, "--out", data)
    assert result.exit_code == 2
    assert "exists" in result.stderr


def test_an_unknown_format_names_the_known_ones(call: Call, source: Path) -> None:
    result = call("data", "convert", source, "--out", "data", "--format", "sharegpt")
    assert result.exit_code == 2
    assert "llava_json" in result.stderr


def test_census_counts_in_both_forms(call: Call, data: Path) -> None:
    found = json.loads(call("data", "census", data, "--json").stdout)
    assert (found["rows"], found["images"], found["dropped"]) == (5, 5, {"image_missing": 1})
    assert "5" in call("data", "census", data).stdout


def test_census_with_a_model_counts_tokens(call: Call, data: Path, tiny_qwen: Path) -> None:
    found = json.loads(call("data", "census", data, "--json", "--model", tiny_qwen).stdout)
    # 56 × 28 lies below the smallest picture of the model and grows to 84 × 56.
    assert found["tokens"]["image_tokens"] == 3 * (3 * 2) + 2 * (2 * 2)


def test_view_writes_a_page_that_stands_alone(call: Call, data: Path) -> None:
    result = call("view", data, "--samples", 2, "--lang", "ja")
    assert result.exit_code == 0
    page = Path("data-view.html").read_text(encoding="utf-8")
    assert "これは何番ですか" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_view_with_a_model_shows_tokens(call: Call, data: Path, tiny_qwen: Path) -> None:
    result = call("view", data, "--model", tiny_qwen, "--out", "p.html", "--json")
    assert json.loads(result.stdout) == {"page": "p.html"}
    assert "<|im_end|>" in Path("p.html").read_text(encoding="utf-8").replace("&lt;", "<").replace(
        "&gt;", ">"
    )


def test_one_row_in_the_terminal_marks_what_is_trained(
    call: Call, data: Path, tiny_qwen: Path
) -> None:
    result = call("view", data, "--row", 3, "--model", tiny_qwen)
    assert "[[3番です。<|im_end|>]]" in result.stdout


def test_one_row_as_json_is_its_event(call: Call, data: Path) -> None:
    event = json.loads(call("view", data, "--row", 0, "--json").stdout)
    assert event["id"] == "0"
    assert event["images"][0]["width"] == 56


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--row", "99"], "row 99"),
        (["--row", "1", "--out", "x.html"], "--out"),
        (["--model", "nothing"], "nothing"),
    ],
)
def test_what_view_cannot_do_is_said(call: Call, data: Path, args: list[str], words: str) -> None:
    result = call("view", data, *args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_folder_that_is_neither_data_nor_run_is_refused(call: Call, source: Path) -> None:
    result = call("view", source)
    assert result.exit_code == 2
    assert "neither a data set" in result.stderr


def test_a_run_takes_no_settings_of_data(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("model: m\n", encoding="utf-8")
    assert "--model" in call("view", run, "--model", "m").stderr
    assert "--row" in call("view", run, "--row", 1).stderr
    assert call("view", run).exit_code == 0
    assert (run / "report.html").is_file()
