"""The cards: every file keeps to the schema, and what breaks it is named with file, key and value."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from manako.catalogue.cards import MODELS, Card, cards, find_card, read_cards
from manako.catalogue.check import Lists, problems_of
from manako.catalogue.facts import Figure, commercial_use, licences, sources, without_recalled
from manako.catalogue.scores import score_tables
from manako.core.errors import InputError
from manako.families._shared.sizes import RULES, check_settings, image_tokens

LISTS = Lists(sources=sources(), licences=licences(), tables=score_tables(), rules=frozenset(RULES))
POPULAR = {
    "Heron-NVILA-Lite": 4,
    "Qwen2-VL": 3,
    "Gemma 3": 5,
    "DeepSeek-VL2": 3,
    "Phi-4-multimodal": 1,
    "Pixtral": 1,
    "LLaVA-OneVision": 3,
    "Sarashina Vision": 1,
}
"""The models of the survey's first table: series, and how many sizes of it count."""
WATCHED = {
    "tokyotech-llm/Llama-3.1-Swallow-8B-Instruct-v0.2",
    "google/gemma-2-2b-jpn-it",
    "ollama:7shi/ezo-gemma-2-jpn:2b-instruct-q8_0",
}
QWEN = (MODELS / "qwen2_vl.toml").read_text(encoding="utf-8")
SCORED = 'scores = [{{ table = "{}", values = {{ {} = 1.0 }} }}]\n'
SMALLEST = "qwen2_vl.toml Qwen/Qwen2-VL-2B-Instruct"


def problems(file: Path) -> Iterator[str]:
    for card in read_cards(file):
        yield from problems_of(f"{file.name} {card.id}", card, LISTS)


@pytest.mark.parametrize("file", sorted(MODELS.glob("*.toml")), ids=lambda file: file.name)
def test_every_card_keeps_to_the_schema(file: Path) -> None:
    assert list(problems(file)) == []


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.id)
def test_figures_of_a_card_can_be_true(card: Card) -> None:
    assert re.fullmatch(r"\d{4}(-\d\d){0,2}", card.released.value if card.released else "2026")
    if card.image_rule:
        check_settings(card.image_rule.rule, card.image_rule.settings)
        assert image_tokens(card.image_rule.rule, 1240, 1754, card.image_rule.settings) > 0
    found = card.parameters
    if found and found.active:
        assert found.active < found.total
    if found and card.weight_bytes:
        assert 1 < card.weight_bytes.value / found.total < 2.7, "bytes of one parameter"


def test_what_the_survey_names_is_marked_and_nothing_else() -> None:
    popular = Counter(card.series for card in cards() if card.survey == "popular")
    assert popular == POPULAR
    assert {card.id for card in cards() if card.survey == "watch"} == WATCHED


def test_ids_are_unique_and_no_alias_is_another_models_name() -> None:
    names = Counter(name.lower() for card in cards() for name in (card.id, *card.aliases))
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-2B-Instruct"),
        (" qwen2-vl-2b-instruct ", "Qwen/Qwen2-VL-2B-Instruct"),
        ("mistralai/Pixtral-12B-2409", "mistral-community/pixtral-12b"),
        ("heron-nvila-lite-15b-hf", "turing-motors/Heron-NVILA-Lite-15B"),
        (
            "mradermacher/Llama-3.1-Swallow-8B-Instruct-v0.2-i1-GGUF",
            "tokyotech-llm/Llama-3.1-Swallow-8B-Instruct-v0.2",
        ),
        (
            "7shi/ezo-gemma-2-jpn:2b-instruct-q8_0",
            "ollama:7shi/ezo-gemma-2-jpn:2b-instruct-q8_0",
        ),
    ],
)
def test_a_card_is_found_by_id_alias_or_name_without_owner(name: str, wanted: str) -> None:
    assert find_card(name).id == wanted


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.id)
def test_every_id_and_alias_finds_its_own_card(card: Card) -> None:
    assert {find_card(name).id for name in (card.id, *card.aliases)} == {card.id}


def test_an_unknown_model_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(InputError, match=r"'Qwen2-VL-3B-Instruct'.*nearest.*Qwen2-VL-2B") as caught:
        find_card("Qwen2-VL-3B-Instruct")
    assert "manako models list" in str(caught.value.next_step)
    with pytest.raises(InputError, match=r"no model 'zzzzzz' in the catalogue\n"):
        find_card("zzzzzz")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('survey = "popular"', 'surveyed = "popular"', "unknown field 'surveyed'"),
        ('survey = "popular"', 'survey = "favourite"', "survey is 'favourite'"),
        ('value = 32768, by = "transformers-5.23"', "value = 32768", r"context: missing by"),
        ("value = 32768", 'value = "32k"', r"context\.value is '32k'"),
        ("total = 2_208_985_600, ", "", r"parameters: missing total"),
        ('id = "Qwen/Qwen2-VL-2B-Instruct"', "", r"\?: missing id"),
        ('state = "community"', 'state = "perhaps"', r"runtimes\.ollama\.state is 'perhaps'"),
        ("min_pixels = 3136", 'min_pixels = "few"', r"settings\.min_pixels is 'few'"),
        ("[shared.runtimes]", "[shared", r"is no TOML"),
        ("[shared]", "[common]", r"unknown common"),
    ],
)
def test_a_file_that_breaks_the_schema_is_not_read(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    """The message names file, key and value."""
    with pytest.raises(InputError, match=rf"qwen2_vl\.toml.*{said}"):
        list(problems(_changed(tmp_path, old, new)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'by = "mlx-vlm"',
            'by = "hearsay"',
            ".runtimes.mlx: source 'hearsay' is not in the list of sources",
        ),
        (
            'value = ["apache-2.0"]',
            'value = ["apache-3.0"]',
            ".licences: licence 'apache-3.0' is not in the list of licences",
        ),
        (
            'survey = "popular"',
            'about = { en = "A model.", ja = " ", by = "recalled" }',
            ".about.ja: the text is missing",
        ),
        (
            'survey = "popular"',
            'pitfalls = [{ en = "", ja = "罠。", by = "recalled" }]',
            ".pitfalls[0].en: the text is missing",
        ),
        (
            "parameters = { total = 2_208_985_600",
            f"{SCORED.format('llm-jp-eval-mm', 'beauty')}parameters = {{ total = 2_208_985_600",
            ".scores: llm-jp-eval-mm has no column 'beauty'",
        ),
        (
            "parameters = { total = 2_208_985_600",
            f"{SCORED.format('mine', 'jmmmu')}parameters = {{ total = 2_208_985_600",
            ".scores: unknown table 'mine'",
        ),
        (
            "total = 2_208_985_600",
            "total = 2_208_985_601",
            ".parameters: the parts sum up to 2,208,985,600, total is 2,208,985,601",
        ),
        ('rule = "qwen"', 'rule = "quen"', ".image_rule: unknown rule 'quen'"),
        (
            'value = ["text", "image", "images", "video"]',
            'value = ["text"]',
            ".image_rule: the model takes no pictures",
        ),
    ],
)
def test_what_only_the_whole_catalogue_can_show_is_named(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert f"{SMALLEST}{said}" in list(problems(_changed(tmp_path, old, new)))


def test_a_models_own_pitfalls_stand_behind_the_shared_ones(tmp_path: Path) -> None:
    shared = '[shared]\npitfalls = [{ en = "all", ja = "全部", by = "recalled" }]\n'
    own = 'pitfalls = [{ en = "one", ja = "これ", by = "recalled" }]\nreleased = {'
    text = QWEN.replace("[shared]\n", shared).replace("released = {", own, 1)
    first, second, _ = read_cards(_written(tmp_path, text))
    assert [note.en for note in first.pitfalls] == ["all", "one"]
    assert [note.en for note in second.pitfalls] == ["all"]


def test_the_strictest_of_several_licences_decides() -> None:
    assert commercial_use(("apache-2.0",)) == "yes"
    assert commercial_use(("apache-2.0", "openai-terms")) == "conditions"
    assert commercial_use(()) == "unknown"
    assert find_card("Heron-NVILA-Lite-1B").commercial == "conditions"
    assert find_card("Llama-3.1-Swallow-8B-Instruct-v0.2").commercial == "conditions"


def test_what_is_recalled_can_be_left_out() -> None:
    strict = without_recalled(find_card("google/gemma-3-4b-it"))
    assert strict.released is None
    assert strict.parameters is not None
    assert all(runtime.by != "recalled" for runtime in strict.runtimes.values())
    assert find_card("google/gemma-3-4b-it").gated == Figure(value=True, by="recalled")
    assert strict.gated is None


def _changed(folder: Path, old: str, new: str) -> Path:
    assert QWEN.count(old) >= 1, old
    return _written(folder, QWEN.replace(old, new, 1))


def _written(folder: Path, text: str) -> Path:
    file = folder / "qwen2_vl.toml"
    file.write_text(text, encoding="utf-8")
    return file
