"""`manako models tokens`: what a picture costs, and why there is no count where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cli_makers import Call, png

from manako.catalogue.cards import cards, find_card
from manako.catalogue.facts import RECALLED_MARK

QWEN, SMALL_GEMMA, TEXT_ONLY = "qwen2-vl-2b-instruct", "gemma-3-4b-it", "gemma-3-270m-it"


def costs(call: Call, *args: str) -> list[dict[str, Any]]:
    result = call("models", "tokens", *args, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_page_in_two_models(call: Call) -> None:
    found = costs(call, QWEN, SMALL_GEMMA, "--image", "1240x1754", "--image", "512×512")
    counts = [[picture["tokens"] for picture in model["pictures"]] for model in found]
    assert counts == [[2772, 324], [256, 256]]
    share = found[0]["pictures"][0]["context_share"]
    assert share == pytest.approx(2772 / 32_768)


def test_without_a_size_it_is_a_page(call: Call) -> None:
    assert costs(call, QWEN)[0]["pictures"][0]["picture"] == "1240×1754"


def test_a_file_is_read_by_its_header(call: Call, tmp_path: Any) -> None:
    (tmp_path / "page.png").write_bytes(png(64, 48))
    (picture,) = costs(call, SMALL_GEMMA, "--image", "@page.png")[0]["pictures"]
    assert (picture["width"], picture["height"]) == (64, 48)
    assert picture["picture"] == "page.png"


@pytest.fixture
def recalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen2-VL as if nobody had looked its settings up."""
    card = find_card(QWEN)
    assert card.image_rule is not None
    doubtful = replace(card, image_rule=replace(card.image_rule, by="recalled"))
    monkeypatch.setattr("manako.verbs.tokens.find_card", lambda name: doubtful)


def test_settings_are_replaced(call: Call) -> None:
    (found,) = costs(call, QWEN, "--set", "max_pixels=1,003,520")
    assert found["pictures"][0]["tokens"] == 1260
    assert found["settings"]["factor"] == 28
    shown = call("models", "tokens", QWEN, "--set", "max_pixels=1003520").stdout
    assert "max_pixels 1,003,520" in shown


@pytest.mark.usefixtures("recalled")
def test_recalled_settings_carry_their_mark_and_strict_leaves_them_out(call: Call) -> None:
    shown = call("models", "tokens", QWEN).stdout
    assert f"2,772{RECALLED_MARK}" in shown
    assert "written down from memory" in shown
    strict = call("models", "tokens", QWEN, "--strict").stdout
    assert "2,772" not in strict
    assert "not known: Qwen/Qwen2-VL-2B-Instruct" in strict


@pytest.mark.usefixtures("recalled")
def test_settings_that_the_caller_gave_are_nobodys_memory(call: Call) -> None:
    one = ["--set", "max_pixels=1003520"]
    assert f"1,260{RECALLED_MARK}" in call("models", "tokens", QWEN, *one).stdout
    every = ["--set", "factor=28", "--set", "min_pixels=3136", *one]
    assert f"1,260{RECALLED_MARK}" not in call("models", "tokens", QWEN, *every).stdout


def test_every_card_is_answered_for(call: Call) -> None:
    found = costs(call, "--all", "--image", "1920x1080", "--set", "max_pixels=1003520")
    assert [model["id"] for model in found] == [card.id for card in cards()]
    for model in found:
        assert bool(model["pictures"]) == bool(model["rule"])
    shown = call("models", "tokens", "--all").stdout
    assert "take no pictures" in shown


def test_a_text_only_model_says_so(call: Call) -> None:
    result = call("models", "tokens", TEXT_ONLY)
    assert result.exit_code == 0
    assert "no pictures, only text: google/gemma-3-270m-it" in result.stdout


def test_a_refused_size_says_why(call: Call) -> None:
    result = call("models", "tokens", QWEN, "--image", "1x4000")
    assert result.exit_code == 0
    assert "refused" in result.stdout
    assert "1 × 4000 pixels has an aspect ratio above 200" in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "no model is given"),
        ((QWEN, "--all"), "both models and --all"),
        (("no-such-model",), "no model 'no-such-model' in the catalogue"),
        ((QWEN, "--image", "large"), "'large' is no size"),
        ((QWEN, "--image", "0x10"), "at least one pixel"),
        ((QWEN, "--image", "@missing.png"), "there is no picture missing.png"),
        ((QWEN, "--set", "max_pixel=1"), "rule qwen has no setting 'max_pixel'"),
        ((QWEN, "--set", "max_pixels=0"), "max_pixels of rule qwen is 0"),
        ((QWEN, "--set", "max_pixels=many"), "expected name=number"),
        (("--all", "--set", "beauty=1"), "no image-token rule has a setting 'beauty'"),
    ],
)
def test_a_users_mistake_is_named(call: Call, args: tuple[str, ...], words: str) -> None:
    result = call("models", "tokens", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_picture_whose_at_was_forgotten_is_told(call: Call, tmp_path: Any) -> None:
    (tmp_path / "page.png").write_bytes(png(8, 8))
    result = call("models", "tokens", QWEN, "--image", "page.png")
    assert "@page.png" in result.stderr
