"""Which models are recommended: each rule on made-up cards, and what must hold of the real ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from manako.catalogue.ability import ability_of, can_train
from manako.catalogue.cards import Card, Config, Figure, Parameters, Runtime, Scores, cards
from manako.catalogue.tasks import Task, tasks
from manako.core.errors import InputError
from manako.core.family import families
from manako.plan.conditions import Ask
from manako.plan.job import Job, Method
from manako.plan.ladder import ENOUGH_SHARE
from manako.plan.machines import Budget, cpu_budget, gpu_budget, mac_budget
from manako.plan.needs import needs
from manako.plan.recommend import Answer, recommend

SURE, RECALLED = "transformers-5.23", "recalled"
FIRST, OTHER = "llm-jp-eval-mm.jdocqa", "sarashina-card.jdocqa"
READ = tasks()["read"]
GPU = gpu_budget("24GB")
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 2000,
}


def card(name: str, *, score: float | None = None, other: float | None = None, **more: Any) -> Card:
    """A card that fits everywhere, with a score in the first column, in another table's, or both."""
    scores = [("llm-jp-eval-mm", score), ("sarashina-card", other)]
    values: dict[str, Any] = {
        "id": f"someone/{name}",
        "series": "Made up",
        "family": "made_up",
        "takes": Figure(value=("text", "image", "images"), by=SURE),
        "parameters": Parameters(total=10_000_000, by=SURE),
        "licences": Figure(value=("apache-2.0",), by=SURE),
        "released": Figure(value="2026-01-01", by=SURE),
        "runtimes": {"transformers": Runtime(state="yes", by=SURE)},
        "config": Config(by=SURE, fields=SIZES),
        "scores": tuple(
            Scores(table=table, values={"jdocqa": value})
            for table, value in scores
            if value is not None
        ),
    }
    return Card(**{**values, **more})


def ask(task: Task = READ, **changes: Any) -> Ask:
    values: dict[str, Any] = {
        "task": task,
        "language": "ja",
        "budget": GPU,
        "job": Job(method="run"),
    }
    return Ask(**{**values, **changes})


def order(found: Answer) -> list[str]:
    return [place.card.name for place in found.ranked]


def reasons(found: Answer) -> dict[str, str]:
    return {one.card.name: one.reason for one in found.excluded}


def test_scores_of_the_first_column_rank() -> None:
    found = recommend(
        [card("low", score=2.0), card("high", score=4.0), card("mid", score=3)], ask()
    )
    assert order(found) == ["high", "mid", "low"]
    assert [place.rank for place in found.ranked] == [1, 2, 3]


def test_who_beats_a_ranked_model_elsewhere_stands_directly_above_it() -> None:
    cards = [
        card("high", score=4.0),
        card("mid", score=3.0, other=0.5),
        card("low", score=2.0, other=0.4),
        card("new", other=0.9),
    ]
    found = recommend(cards, ask())
    assert order(found) == ["high", "new", "mid", "low"]
    evidence = found.ranked[1].evidence
    assert (evidence.kind, evidence.column, evidence.score) == ("above", OTHER, 0.9)
    assert evidence.other is not None
    assert (evidence.other.name, evidence.other_score, evidence.anchor_score) == ("mid", 0.5, 3.0)


def test_a_model_that_does_not_fit_still_serves_as_a_measure() -> None:
    huge = card("huge", score=3.0, other=0.5, parameters=Parameters(total=10**12, by=SURE))
    found = recommend([huge, card("new", other=0.9), card("low", score=2.9)], ask())
    assert reasons(found) == {"huge": "unfit"}
    assert order(found) == ["new", "low"]


def test_who_beats_nobody_clearly_stands_below_all() -> None:
    cards = [card("a", score=3.0, other=0.5), card("b", score=2.0), card("new", other=0.505)]
    found = recommend(cards, ask())
    assert order(found) == ["a", "b", "new"]
    assert found.ranked[-1].evidence.kind == "below"


def test_a_score_on_another_scale_alone_ranks_nothing() -> None:
    found = recommend([card("a", score=3.0), card("new", other=99.0)], ask())
    assert order(found) == ["a"]
    assert [place.card.name for place in found.others] == ["new"]


def test_neighbours_within_the_noise_are_called_close() -> None:
    found = recommend([card("a", score=3.0), card("b", score=2.95), card("c", score=2.0)], ask())
    assert [place.is_close for place in found.ranked] == [False, True, False]


def test_equals_are_told_apart_by_the_next_column() -> None:
    def both(name: str, reading: float) -> Card:
        values = {"jdocqa": 3.0, "cc_ocr": reading}
        return card(name, scores=(Scores(table="llm-jp-eval-mm", values=values),))

    assert order(recommend([both("a", 50.0), both("b", 60.0)], ask())) == ["b", "a"]


def test_without_scores_newer_then_larger_and_for_training_what_can_be_trained_first() -> None:
    def plain(name: str, date: str, millions: int, **more: Any) -> Card:
        released = Figure(value=date, by=SURE)
        size = Parameters(total=millions * 10**6, by=SURE)
        return card(name, released=released, parameters=size, **more)

    cards = [
        plain("old", "2024-09", 30),
        plain("small", "2026-05", 10),
        plain("large", "2026-02-01", 20),
        plain("ours", "2024-01-01", 10, family="qwen2_vl"),
    ]
    running = [place.card.name for place in recommend(cards, ask()).others]
    assert running == ["large", "small", "old", "ours"]
    training = recommend(cards, ask(job=Job(method="lora")))
    assert [place.card.name for place in training.others] == ["ours", "large", "small", "old"]
    assert training.first_today is not None
    assert training.first_today.card.name == "ours"
    assert training.others[1].fit.planned == ("family",)


def test_a_use_that_wants_small_models_takes_the_smallest_that_is_good_enough() -> None:
    def sized(name: str, score: float, millions: int) -> Card:
        return card(name, score=score, parameters=Parameters(total=millions * 10**6, by=SURE))

    task = dataclasses.replace(READ, small=True)
    cards = [sized("best", 4.0, 40), sized("enough", 4.0 * ENOUGH_SHARE, 10), sized("bad", 1.0, 5)]
    found = recommend(cards, ask(task))
    assert order(found) == ["enough", "best", "bad"]
    assert [place.is_small for place in found.ranked] == [True, True, False]


def test_without_a_gpu_small_models_are_wanted() -> None:
    old = Figure(value="2020-01", by=SURE)
    cards = [
        card("large", score=4.0, parameters=Parameters(total=40 * 10**6, by=SURE)),
        card("small", score=3.5),
        card("tiny", parameters=Parameters(total=10**6, by=SURE)),
        card("ancient", parameters=Parameters(total=10**5, by=SURE), released=old),
    ]
    found = recommend(cards, ask(budget=cpu_budget("16GB")))
    assert order(found) == ["small", "large"]
    assert [place.card.name for place in found.others] == ["tiny", "ancient"]


def test_other_ids_of_one_model_count_once() -> None:
    twin = card("twin", score=3.0, aliases=("someone/one",))
    found = recommend([card("one", score=3.0), twin, card("two", score=2.0)], ask())
    assert order(found) == ["one", "two"]


TEXT = Figure(value=("text",), by=SURE)
ONE = Figure(value=("text", "image"), by=SURE)


@pytest.mark.parametrize(
    ("changes", "asked", "reason"),
    [
        ({"takes": TEXT}, {}, "no_pictures"),
        ({"takes": None}, {}, "inputs_unknown"),
        ({"takes": ONE}, {"task": tasks()["compare"]}, "no_images"),
        ({}, {"task": tasks()["video"]}, "no_video"),
        ({"only_for": ONE}, {}, "purpose"),
        ({"languages": Figure(value=("en",), by=SURE)}, {}, "language"),
        ({"licences": Figure(value=("cc-by-nc-4.0",), by=SURE)}, {"is_commercial": True}, "not_commercial"),
        ({"licences": None}, {"is_commercial": True}, "licence_unknown"),
        ({"runtimes": {"transformers": Runtime(state="remote code", by=SURE)}}, {}, "remote_code"),
        ({"runtimes": {"gguf": Runtime(state="unfaithful", by=SURE)}}, {}, "no_runtime"),
        ({"runtimes": {"gguf": Runtime(state="text only", by=SURE)}}, {}, "no_runtime"),
        ({"context": Figure(value=1000, by=SURE)}, {}, "context_short"),
        ({"parameters": None, "config": None}, {}, "size_unknown"),
        ({"parameters": Parameters(total=10**12, by=SURE)}, {}, "unfit"),
        (
            {"parameters": Parameters(total=5 * 10**9, by=SURE), "config": None},
            {"job": Job(method="lora")},
            "unproven",
        ),
        ({"takes": Figure(value=("text", "image"), by=RECALLED)}, {"is_strict": True}, "recalled"),
    ],
)  # fmt: skip
def test_each_exclusion_has_its_reason(
    changes: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    takes = Figure(value=("text", "image", "images", "video"), by=SURE)
    good = card("good", score=1.0, takes=takes)
    found = recommend([card("bad", **changes), good], ask(**asked))
    assert reasons(found) == {"bad": reason}
    assert [place.card.name for place in (*found.ranked, *found.others)] == ["good"]
    assert found.counts == {reason: 1}


def test_a_score_in_the_language_outweighs_a_list_without_it() -> None:
    english = Figure(value=("en",), by=SURE)
    assert order(recommend([card("a", score=3.0, languages=english)], ask())) == ["a"]


def test_an_impossible_wish_names_the_condition_that_removed_the_last() -> None:
    text = card("text", takes=TEXT)
    huge = card("huge", parameters=Parameters(total=10**12, by=SURE))
    with pytest.raises(InputError, match=r"--gpu 24 GB with --method run removes the last 1 of 2"):
        recommend([text, huge], ask())


def test_running_takes_fewer_bits_where_more_do_not_fit() -> None:
    runtimes = {name: Runtime(state="yes", by=SURE) for name in ("transformers", "gguf")}
    large = card("large", parameters=Parameters(total=15 * 10**9, by=SURE), runtimes=runtimes)
    found = recommend([large], ask())
    assert found.others[0].fit.needs.job.bits == 8
    assert found.others[0].fit.runtimes == ("gguf",)
    with pytest.raises(InputError, match="--gpu"):
        recommend([dataclasses.replace(large, runtimes={"transformers": runtimes["gguf"]})], ask())


def test_what_one_gpu_cannot_hold_is_planned_on_several() -> None:
    large = card("large", family="qwen2_vl", parameters=Parameters(total=40 * 10**9, by=SURE))
    found = recommend([large], ask(budget=gpu_budget("8x80GB"), job=Job(method="lora")))
    assert found.others[0].fit.needs.job.gpus == 8
    assert found.others[0].fit.planned == ("gpus",)


def test_what_fits_with_checkpoints_alone_is_done_today() -> None:
    wide = {**SIZES, "hidden_size": 2048, "num_hidden_layers": 40, "intermediate_size": 16384}
    heavy = card("heavy", family="qwen2_vl", config=Config(by=SURE, fields=wide))
    size = Parameters(total=6 * 10**9, by=SURE)
    found = recommend([dataclasses.replace(heavy, parameters=size)], ask(job=Job(method="lora")))
    (place,) = found.others
    assert place.fit.needs.job.is_checkpointed
    assert place.fit.planned == ()
    assert found.first_today is place


MACHINES = (
    (mac_budget("16GB"), "run"),
    (gpu_budget("24GB"), "lora"),
    (gpu_budget("24GB"), "run"),
    (gpu_budget("8x80GB"), "lora"),
    (cpu_budget("16GB"), "run"),
)


def real(task: str, budget: Budget, method: Any, **changes: Any) -> Answer:
    found = tasks()[task]
    sizes = [text.split("x") for text in found.pictures]
    job = Job(method=method, pictures=tuple((int(w), int(h)) for w, h in sizes))
    return recommend(cards(), ask(found, budget=budget, job=job, **changes))


@pytest.mark.parametrize("task", ["read", "describe", "mobile"])
@pytest.mark.parametrize(("budget", "method"), MACHINES)
def test_the_real_catalogue_is_ranked_soundly(task: str, budget: Budget, method: str) -> None:
    found = real(task, budget, method)
    places = [*found.ranked, *found.others]
    names = [place.card.id for place in places]
    out = [one.card.id for one in found.excluded]
    assert len(set(names)) == len(names)
    assert not set(names) & set(out)
    assert sorted(names + out) == sorted(card.id for card in cards())
    for place in places:
        assert place.card.takes_pictures
        assert place.fit.needs.total_bytes <= budget.usable_bytes
        form = place.fit.needs.job
        assert needs(place.card, form).total_bytes == place.fit.needs.total_bytes
        # What transformers needs code of the checkpoint for is there by another program, or by a
        # class of our own.
        is_native = can_train(place.card)
        assert (
            place.card.runtime("transformers") != "remote code" or place.fit.runtimes or is_native
        )
    assert all(place.evidence.kind != "none" for place in found.ranked)
    assert all(place.evidence.kind == "none" for place in found.others)
    scores = [p.evidence.score for p in found.ranked if p.evidence.kind == "score"]
    if not found.ask.wants_small:
        assert scores == sorted(scores, key=lambda score: -(score or 0.0))


@pytest.mark.parametrize("task", tasks())
def test_no_text_model_is_recommended_for_pictures(task: str) -> None:
    found = real(task, gpu_budget("80GB"), "run")
    text_only = {"google/gemma-3-270m-it", "google/gemma-3-1b-it"}
    assert text_only <= {one.card.id for one in found.excluded if one.reason == "no_pictures"}


def test_nothing_that_forbids_business_is_recommended_for_one() -> None:
    found = real("read", gpu_budget("80GB"), "run", is_commercial=True)
    assert all(p.card.commercial in ("yes", "conditions") for p in (*found.ranked, *found.others))
    assert "not_commercial" in found.counts


def test_strict_answers_rest_on_no_recalled_figure() -> None:
    from manako.catalogue.facts import without_recalled

    found = real("describe", gpu_budget("24GB"), "run", is_strict=True)
    assert found.ranked
    for place in (*found.ranked, *found.others):
        assert place.card == without_recalled(place.card)


def test_two_scales_are_never_compared() -> None:
    for task in tasks():
        found = real(task, gpu_budget("80GB"), "run")
        for place in found.ranked:
            evidence = place.evidence
            if evidence.other is None:
                assert evidence.column == found.columns[0]
                continue
            table, _, column = evidence.column.partition(".")
            for model, score in (
                (place.card, evidence.score),
                (evidence.other, evidence.other_score),
            ):
                (values,) = [s.values for s in model.scores if s.table == table]
                assert values[column] == score


OLLAMA_TAG = "ollama:7shi/ezo-gemma-2-jpn:2b-instruct-q8_0"


def test_today_is_what_the_laws_say_of_families_and_transformers_of_the_card() -> None:
    """No list beside the family files: each of them with a card whose weights can be read."""
    able = {each.family for each in cards() if can_train(each)}
    assert able == {name for name in families().items if ability_of(name).can_train}
    assert not can_train(next(each for each in cards() if each.id == OLLAMA_TAG))


@pytest.mark.parametrize("task", sorted(tasks()))
@pytest.mark.parametrize("method", ["run", "lora"])
def test_text_models_are_recommended_for_no_picture(task: str, method: Method) -> None:
    asked = ask(tasks()[task], budget=gpu_budget("8x80GB"), job=Job(method=method))
    found = recommend(list(cards()), asked)
    left_out = {one.card.id: one.reason for one in found.excluded}
    blind = [each for each in cards() if each.takes and "image" not in each.inputs]
    assert {"gemma2", "gemma3_text", "llama"} <= {each.family for each in blind}
    assert {left_out[each.id] for each in blind if each.id in left_out} == {"no_pictures"}
    shown = {place.card.id for place in (*found.ranked, *found.others)}
    assert shown.isdisjoint(each.id for each in blind)


def test_a_use_of_videos_is_planned_where_the_family_takes_none() -> None:
    found = recommend(list(cards()), ask(tasks()["video"], budget=gpu_budget("8x80GB")))
    for place in (*found.ranked, *found.others):
        family = families().items.get(place.card.family)
        if family is not None:
            assert ("video" in place.fit.planned) is (not family.takes_videos), place.card.id
