"""Memory from a card alone: against the plan's own arithmetic, against sums done by hand, and how it
moves with the job."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.catalogue.cards import Card, Config, Download, Parameters, cards, find_card
from manako.core.errors import InputError
from manako.core.files import write_json
from manako.core.recipe import Recipe
from manako.plan.activations import read_shapes
from manako.plan.dims import dims_of
from manako.plan.job import RUNTIME_BYTES, Job, Needs
from manako.plan.needs import needs
from manako.plan.plan import count_memory
from manako.plan.training import PACKS_PER_STEP, full_pack, training_recipe

QWEN = (
    "Qwen/Qwen2-VL-2B-Instruct",
    "Qwen/Qwen2-VL-7B-Instruct",
    "Qwen/Qwen2.5-VL-3B-Instruct",
)
SOME = "recalled"
A4 = (1240, 1754)


def by_name(found: Needs) -> dict[str, int]:
    return {term.name: term.bytes for term in found.terms}


def small(**changes: object) -> Card:
    """A card with sizes that can be multiplied by hand."""
    fields = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    }
    card = Card(
        id="someone/small",
        series="Small",
        family="small",
        takes=None,
        parameters=Parameters(total=200_000, vision=20_000, projector=10_000, by=SOME),
        config=Config(by=SOME, fields=fields),
    )
    return dataclasses.replace(card, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", QWEN)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_needs_what_the_plan_says(model: str, method: str, tmp_path: Path) -> None:
    from manako.core.family import families
    from manako.verbs.plan import take_inventory

    card = find_card(model)
    assert card.config is not None
    config = {"model_type": card.family, "torch_dtype": "bfloat16", **card.config.fields}
    write_json(tmp_path / "config.json", config)
    inventory = take_inventory(tmp_path, families().items[card.family])
    job = Job(method=method, pictures=(A4,), lora_r=8)  # type: ignore[arg-type]
    found = needs(card, job)
    dims = dims_of(card)
    assert dims is not None
    assert dims.shapes == read_shapes(config)
    recipe = training_recipe(job)
    pack = full_pack(dims, found.tokens, found.picture_tokens)
    plan = count_memory(recipe, inventory, dims.shapes, pack)
    assert found.basis == "checked"
    assert found.total_bytes == plan.total + RUNTIME_BYTES["gpu"]
    assert by_name(found)["weights"] == plan.weights
    assert by_name(found).get("adapters", 0) == plan.adapters


def test_the_recipe_is_the_one_that_docs_promise_write() -> None:
    recipe = training_recipe(Job(method="lora", lora_r=4))
    assert isinstance(recipe, Recipe)
    how = {part: setting.how for part, setting in recipe.part_settings().items()}
    assert how == {"vision": "frozen", "projector": "full", "language": "lora"}
    assert (recipe.lora_r, recipe.global_batch_packs, recipe.bf16) == (4, PACKS_PER_STEP, True)


def test_running_is_weights_cache_and_buffers() -> None:
    found = by_name(needs(small(), Job(method="run", context_tokens=100)))
    assert found == {
        "weights": 200_000 * 2,
        "kv_cache": 2 * 3 * 2 * 16 * 100 * 2,
        "compute": 3 * 100 * 128 * 2 + 512 * 1000 * 4,
        "runtime": RUNTIME_BYTES["gpu"],
    }


def test_quantised_weights_keep_what_sees_at_16_bits() -> None:
    found = by_name(needs(small(), Job(method="run", bits=8)))
    assert found["weights"] == 170_000 * 34 / 32
    assert found["mmproj"] == 30_000 * 2


def test_a_published_file_counts_before_arithmetic() -> None:
    file = Download(name="small-Q4_K_M.gguf", form="GGUF", bytes=123_456, by=SOME)
    card = small(downloads=(file,))
    assert by_name(needs(card, Job(method="run", bits=4)))["weights"] == 123_456
    assert by_name(needs(card, Job(method="run", bits=8)))["weights"] != 123_456


def test_layers_that_look_back_over_a_window_keep_only_that() -> None:
    config = small().config
    assert config is not None
    kinds = ["sliding_attention", "full_attention", "linear_attention"]
    fields = {**config.fields, "layer_types": kinds, "sliding_window": 10}
    card = small(config=Config(by=SOME, fields=fields))
    found = by_name(needs(card, Job(method="run", context_tokens=100)))
    assert found["kv_cache"] == 2 * 2 * 16 * (100 + 10) * 2


def test_without_sizes_only_the_weights_are_known() -> None:
    card = small(config=None)
    for method in ("full", "lora", "qlora", "run"):
        found = needs(card, Job(method=method))  # type: ignore[arg-type]
        assert (found.is_lower_bound, found.basis) == (True, "weights")
        assert set(by_name(found)) == {"weights", "runtime"}
    with pytest.raises(InputError, match="knows neither parameters nor bytes"):
        needs(small(config=None, parameters=None), Job(method="run"))


def test_a_tuned_model_has_the_sizes_of_its_base() -> None:
    base = find_card(QWEN[0])
    tuned = dataclasses.replace(base, id="someone/tuned", base=base.id, config=None)
    assert dims_of(tuned) == dims_of(base)
    assert dims_of(dataclasses.replace(tuned, family="other")) is None


def test_pictures_make_room_for_themselves() -> None:
    card = find_card(QWEN[0])
    one = needs(card, Job(method="run", context_tokens=64, pictures=(A4,)))
    assert one.picture_tokens == 2772
    assert one.tokens == 2772 + 512


def test_a_process_on_a_cpu_needs_more_than_its_tensors() -> None:
    card = find_card(QWEN[0])
    gpu, cpu = (needs(card, Job(method="lora", device=d)) for d in ("gpu", "cpu"))  # type: ignore[arg-type]
    process = next(term for term in cpu.terms if term.name == "process")
    assert process.how == "measured"
    assert cpu.total_bytes > 1.4 * (gpu.total_bytes - RUNTIME_BYTES["gpu"])


def test_four_bits_train_in_less_and_several_gpus_share_the_weights() -> None:
    card = find_card(QWEN[1])
    lora, qlora = (needs(card, Job(method=m)) for m in ("lora", "qlora"))  # type: ignore[arg-type]
    assert qlora.total_bytes < lora.total_bytes - 8e9
    shared = needs(card, Job(method="lora", gpus=4))
    assert by_name(shared)["weights"] < by_name(lora)["weights"] / 3.9
    assert by_name(shared)["activations_language"] == by_name(lora)["activations_language"]


def test_checkpoints_keep_the_inputs_of_the_layers_and_one_layer() -> None:
    card = find_card(QWEN[1])
    kept, again = (
        needs(card, Job(method="lora", is_checkpointed=twice)) for twice in (False, True)
    )
    layers, width, ffn, tokens = 28, 3584, 18944, 2048
    ends = tokens * 4 * (width + 2 * 128)  # the last norm and the rotary angles
    one_layer = (by_name(kept)["activations_language"] - ends) // layers
    inputs = tokens * width * layers * 2 + ends  # the embeddings are bfloat16
    moment = 3 * tokens * ffn * 2  # of the layer whose gradients are made
    logits = by_name(kept)["logits"]
    found = by_name(again)
    assert found["activations_language"] + found["logits"] == inputs + max(
        logits, one_layer + moment
    )
    for name in set(found) - {"activations_language", "logits"}:
        assert found[name] == by_name(kept)[name]


def test_a_job_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="context_tokens must be at least 1, found 0"):
        Job(method="run", context_tokens=0)


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "run"])
def test_every_card_with_parameters_has_needs_that_add_up(method: str) -> None:
    for card in cards():
        if card.parameters is None and card.weight_bytes is None:
            continue
        found = needs(card, Job(method=method))  # type: ignore[arg-type]
        assert found.total_bytes == sum(term.bytes for term in found.terms)
        assert all(term.bytes > 0 for term in found.terms)
        assert found.total_bytes > 0.4 * (card.size_bytes or 0) / 2, card.id


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(1, 20_000),
    more=st.integers(0, 20_000),
    rank=st.integers(1, 64),
    count=st.integers(0, 4),
    method=st.sampled_from(["lora", "qlora", "full", "run"]),
)
def test_more_of_anything_never_needs_less(
    tokens: int, more: int, rank: int, count: int, method: str
) -> None:
    card = find_card(QWEN[0])

    def total(tokens: int, rank: int, count: int) -> int:
        job = Job(
            method=method,  # type: ignore[arg-type]
            pack_tokens=tokens,
            context_tokens=tokens,
            lora_r=rank,
            pictures=((640, 480),) * count,
        )
        return needs(card, job).total_bytes

    least = total(tokens, rank, count)
    assert total(tokens + more, rank, count) >= least
    assert total(tokens, rank + more % 64, count) >= least
    assert total(tokens, rank, count + 1) >= least
