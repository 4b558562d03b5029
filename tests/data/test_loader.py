"""The loader: the same steps for any number of workers, from any place, whatever fails."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loader_fakes import (
    SOURCES,
    FakeProcessor,
    FakeSource,
    NeverMeasures,
    make_loader,
    settings,
)

from manako.core.errors import InputError, RecipeError, ResumeError, RowError, TooLongError
from manako.core.recipe import Recipe, Stage
from manako.data.loader import Loader
from manako.data.settings import LoaderSettings
from manako.data.step import Share, Step, batch_hash

STAGES = (Stage(share=1, weights={"a": 1}), Stage(share=2, weights={"a": 1, "b": 2}))
RUNS: dict[str, dict[str, Any]] = {
    "rows": {},
    "answer tokens": {"weight_in": "answer_tokens"},
    "stages": {"stages": STAGES},
    "stages, answer tokens": {"stages": STAGES, "weight_in": "answer_tokens"},
    "epochs": {"max_steps": 0, "num_train_epochs": 1.5},
    "epochs, stages": {"max_steps": 0, "num_train_epochs": 1.0, "stages": STAGES},
    "one pack a step": {"global_batch_packs": 1, "pack_window_rows": 5},
    "window below a pack": {"pack_tokens": 256, "pack_window_rows": 3, "max_steps": 4},
}
FAULTY = {
    "a": FakeSource("a", 50, faults={3: "measure", 20: "encode", 31: "unreadable", 44: "longer"}),
    "b": FakeSource("b", 23, least=10, most=64, faults={5: "untrained", 7: "encode"}),
}


def hashes(steps: Loader | list[Step]) -> list[str]:
    return [batch_hash(step) for step in steps]


def ids_of(step: Step) -> list[tuple[str, ...]]:
    return [tuple(example.id for example in pack.examples) for pack in step.packs]


@pytest.mark.parametrize(
    ("run", "workers"),
    [
        *((run, 0) for run in RUNS),
        *((run, 1) for run in ("stages, answer tokens", "epochs", "one pack a step")),
        *((run, 2) for run in ("answer tokens", "stages", "window below a pack")),
    ],
)
def test_restored_at_every_step_a_run_goes_on_as_if_it_had_not_stopped(
    run: str, workers: int
) -> None:
    """What is lost otherwise is silent: rows skipped or seen twice after each restart."""
    with make_loader(RUNS[run], sources=FAULTY) as alone:
        states, expected, failed = [alone.state()], [], []
        for step in alone:
            expected.append(batch_hash(step))
            failed.append(step.failed)
            states.append(json.loads(json.dumps(alone.state())))
        assert len(expected) == alone.total_steps > 3
    with make_loader(RUNS[run], sources=FAULTY, workers=workers) as loader:
        for number, state in enumerate(states[:-1]):
            loader.restore(state)
            rest = list(loader if workers == 0 else itertools.islice(loader, 2))
            assert [step.number for step in rest] == list(range(number + 1, number + 1 + len(rest)))
            assert hashes(rest) == expected[number : number + len(rest)]
            assert [step.failed for step in rest] == failed[number : number + len(rest)]
        with pytest.raises(ResumeError, match="nothing remains"):
            loader.restore(states[-1])


@pytest.mark.parametrize("run", ["rows", "epochs", "one pack a step", "stages, answer tokens"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_of_the_steps_make_up_the_whole(run: str, ranks: int) -> None:
    """Each rank encodes its own packs alone, and all of them stand at the same place."""
    with make_loader(RUNS[run], sources=FAULTY) as alone:
        whole = [(step, json.dumps(alone.state())) for step in alone]
    shares = [Share(rank=rank, ranks=ranks) for rank in range(ranks)]
    loaders = [make_loader(RUNS[run], sources=FAULTY, share=share) for share in shares]
    for (step, state), *parts in zip(whole, *loaders, strict=True):
        for place, pack in enumerate(step.packs):
            for rank, part in enumerate(parts):
                is_ours = place % ranks == rank
                expected = [example.id for example in pack.examples] if is_ours else []
                assert [example.id for example in part.packs[place].examples] == expected
        assert [json.dumps(loader.state()) for loader in loaders] == [state] * ranks
        assert sum(part.trained_tokens for part in parts) == step.trained_tokens
        assert sorted(each for part in parts for each in part.failed) == sorted(step.failed)


@pytest.mark.parametrize("prefetch_packs", [1, 50])
def test_neither_workers_nor_prefetch_change_a_bit(prefetch_packs: int) -> None:
    with make_loader() as alone:
        expected = hashes(alone)
    with make_loader(workers=2, prefetch_packs=prefetch_packs) as loader:
        assert hashes(loader) == expected


def test_steps_and_packs_are_numbered_and_steps_have_all_their_packs() -> None:
    with make_loader() as loader:
        steps = list(loader)
    assert [step.number for step in steps] == list(range(1, 13))
    assert [len(step.packs) for step in steps] == [3] * 12
    assert [pack.number for step in steps for pack in step.packs] == list(range(36))
    assert all(pack.tokens <= 64 for step in steps for pack in step.packs)
    assert steps[0].tokens == sum(pack.tokens for pack in steps[0].packs)
    assert steps[0].fill == steps[0].tokens / (3 * 64)


def test_an_epoch_delivers_every_row_once_and_fills_the_last_step_up_with_empty_packs() -> None:
    changes = {"weights": {"a": 1.0}, "max_steps": 0, "global_batch_packs": 7}
    with make_loader(changes) as loader:
        steps = list(loader)
        assert loader.epoch == 1.0
    seen = Counter(example.id for step in steps for pack in step.packs for example in pack.examples)
    assert seen == {f"a-{row}": 1 for row in range(50)}
    assert {len(step.packs) for step in steps} == {7}
    assert steps[-1].packs[-1].tokens == 0
    assert steps[-1].packs[-1].segments.tolist() == [0]


def test_a_row_that_fails_leaves_its_place_empty_and_moves_no_other() -> None:
    with make_loader({"max_steps": 30}) as whole:
        expected = [ids_of(step) for step in whole]
    broken = {"a": FakeSource("a", 50, faults={20: "encode", 44: "longer"}), "b": SOURCES["b"]}
    with make_loader({"max_steps": 30}, sources=broken) as loader:
        steps = list(loader)
    gone = {"a-20", "a-44"}
    assert [ids_of(step) for step in steps] == [
        [tuple(each for each in pack if each not in gone) for pack in packs] for packs in expected
    ]
    failed = Counter(each for step in steps for each in step.failed)
    assert failed[("a-20", "image: row a-20: cut short")] == sum(
        pack.count("a-20") for packs in expected for pack in packs
    )
    assert any(reason.startswith("length_differs") for _, reason in failed)


def test_a_pack_whose_every_row_failed_is_delivered_empty() -> None:
    faults = dict.fromkeys(range(50), "encode")
    with make_loader(
        {"weights": {"a": 1.0}}, sources={"a": FakeSource("a", 50, faults=faults)}
    ) as loader:
        steps = list(loader)
    assert len(steps) == 12
    assert all(pack.tokens == 0 and pack.failed for step in steps for pack in step.packs)


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_that_measure_refuses_are_recorded_each_time_they_are_drawn(workers: int) -> None:
    faults = {3: "measure", 31: "unreadable", 9: "untrained"}
    sources = {"a": FakeSource("a", 50, faults=faults)}
    changes = {"weights": {"a": 1.0}, "max_steps": 0, "num_train_epochs": 2.0}
    with make_loader(changes, sources=sources, workers=workers) as loader:
        failed = Counter(each for step in loader for each in step.failed)
    assert failed == {
        ("a-3", "image: row a-3: no picture"): 2,
        ("a#31", "image_count: row a-31 contradicts itself"): 2,
        ("a-9", failed_reason(failed, "a-9")): 2,
    }
    assert failed_reason(failed, "a-9").startswith("nothing_trained: row a-9: none of its")


def failed_reason(failed: Counter[tuple[str, str]], row_id: str) -> str:
    return next(reason for found, reason in failed if found == row_id)


def test_the_first_batch_needs_one_window_and_not_the_whole_set() -> None:
    read: list[int] = []

    class Counting(FakeSource):
        def conversation(self, index: int) -> Any:
            read.append(index)
            return super().conversation(index)

    with make_loader({"weights": {"a": 1.0}}, sources={"a": Counting("a", 10_000)}) as loader:
        next(loader)
    assert len(read) < 60


# Before the first step


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["untrained", "longer"])
def test_a_row_that_would_spoil_the_run_stops_it_before_the_first_step(
    fault: str, workers: int
) -> None:
    sources = {"a": FakeSource("a", 10, faults={4: fault})}
    changes = {"weights": {"a": 1.0}, "pack_window_rows": 10, "global_batch_packs": 4}
    with (
        make_loader(changes, sources=sources, workers=workers) as loader,
        pytest.raises(RowError, match="row a-4"),
    ):
        loader.check_first()


def test_with_epochs_every_row_is_checked_and_the_others_counted() -> None:
    sources = {"a": FakeSource("a", 400, faults={7: "untrained", 390: "untrained"})}
    changes = {"weights": {"a": 1.0}, "max_steps": 0}
    with (
        make_loader(changes, sources=sources) as loader,
        pytest.raises(RowError, match=r"row a-7.*\(1 more such rows\)"),
    ):
        loader.check_first()


@pytest.mark.parametrize("max_steps", [0, 5])
def test_a_set_whose_every_row_is_refused_is_said_at_once(max_steps: int) -> None:
    """And not after the lengths of a million rows."""
    sources = {"a": FakeSource("a", 500, faults=dict.fromkeys(range(500), "measure"))}
    with (
        make_loader({"weights": {"a": 1.0}, "max_steps": max_steps}, sources=sources) as loader,
        pytest.raises(RowError, match=r"no picture") as found,
    ):
        loader.check_first()
    assert ("16 rows looked at" if max_steps else "all of its 500 rows") in str(found.value)


def test_a_check_that_passes_changes_nothing() -> None:
    with make_loader() as alone:
        expected = hashes(alone)
    with make_loader(workers=1) as loader:
        loader.check_first()
        assert loader.step == 0
        assert hashes(loader) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_too_long_stops_the_run_where_it_is_drawn_and_not_before(workers: int) -> None:
    sources = {"a": FakeSource("a", 400, faults={7: "too_long"}), "b": SOURCES["b"]}
    with make_loader({"max_steps": 200}, sources=sources) as alone:
        expected = []
        with pytest.raises(TooLongError, match="a-7"):
            expected.extend(batch_hash(step) for step in alone)
        state = alone.state()
    with make_loader({"max_steps": 200}, sources=sources, workers=workers) as loader:
        assert [batch_hash(next(loader)) for _ in range(state["step"])] == expected
        with pytest.raises(TooLongError, match="row a-7: it is endless"):
            next(loader)
        assert loader.state() == state
        assert len(expected) > 3


def test_a_row_longer_than_the_pack_is_an_error_even_if_measure_lets_it_pass() -> None:
    changes = {"weights": {"b": 1.0}, "pack_tokens": 32}
    with make_loader(changes) as loader, pytest.raises(TooLongError, match="above pack_tokens 32"):
        list(loader)


# Position


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 1}, "seed: the state has 0, this run 1"),
        ({"pack_tokens": 65}, "packing.pack_tokens: the state has 64, this run 65"),
        ({"too_long": "drop"}, "packing.too_long"),
        ({"weights": {"a": 1.0, "b": 2.0}}, "weights.b"),
        ({"stages": STAGES}, "stages: the state has nothing"),
        ({"weight_in": "answer_tokens"}, "weight_in"),
    ],
)
def test_other_settings_refuse_to_resume_and_name_the_field(
    changes: dict[str, Any], field: str
) -> None:
    with make_loader() as loader:
        next(loader)
        state = loader.state()
    with make_loader(changes) as other, pytest.raises(ResumeError) as found:
        other.restore(state)
    assert field in str(found.value)


def test_another_data_set_or_processor_refuses_to_resume() -> None:
    with make_loader() as loader:
        next(loader)
        state = loader.state()
    found = r"sources\.a: the state has manifest of a, 50 rows, this run manifest of a, 51 rows"
    other_data = {**SOURCES, "a": FakeSource("a", 51)}
    with make_loader(sources=other_data) as other, pytest.raises(ResumeError, match=found):
        other.restore(state)
    state["fingerprint"]["processor"]["template"] = "another"
    with make_loader() as other, pytest.raises(ResumeError, match=r"processor\.template"):
        other.restore(state)


@pytest.mark.parametrize("broken", [{}, {"fingerprint": {}, "version": 1, "place": 3}])
def test_what_is_no_state_is_refused(broken: dict[str, Any]) -> None:
    with make_loader() as loader, pytest.raises(ResumeError, match="no loader state"):
        loader.restore(broken)


def test_a_state_of_another_version_is_refused() -> None:
    with make_loader() as loader:
        state = {**loader.state(), "version": 99}
        with pytest.raises(ResumeError, match="version 99, expected 1"):
            loader.restore(state)


def test_a_run_without_stages_may_be_made_longer() -> None:
    with make_loader({"max_steps": 20}) as loader:
        expected = hashes(loader)
    with make_loader({"max_steps": 9}) as loader:
        first = hashes(loader)
        state = loader.state()
    with make_loader({"max_steps": 20}) as longer:
        longer.restore(state)
        assert first + hashes(longer) == expected


def test_epochs_decide_where_the_order_ends_so_they_cannot_be_changed() -> None:
    with make_loader({"max_steps": 0}) as loader:
        next(loader)
        state = loader.state()
    longer = make_loader({"max_steps": 0, "num_train_epochs": 2.0})
    with longer, pytest.raises(ResumeError, match=r"num_train_epochs: the state has 1\.0"):
        longer.restore(state)


def test_the_order_of_sources_in_a_recipe_changes_nothing() -> None:
    with make_loader() as loader:
        expected = hashes(loader)
    with make_loader({"weights": {"b": 1.0, "a": 1.0}}) as other:
        assert hashes(other) == expected


def test_the_state_is_small() -> None:
    """A few integers, and the rows that wait: fewer than a window and a pack hold."""
    with make_loader({"stages": STAGES, "max_steps": 60, "pack_window_rows": 64}) as loader:
        largest = 0
        for _ in loader:
            state = {**loader.state(), "fingerprint": None}
            largest = max(largest, len(json.dumps(state)))
    assert largest < 2000


def test_progress_in_epochs_and_positions() -> None:
    with make_loader({"weights": {"a": 1.0}, "max_steps": 30}) as loader:
        assert (loader.epoch, loader.positions) == (0.0, {"a": (0, 0, 50)})
        for _ in loader:
            pass
        epoch, position, rows = loader.positions["a"]
        assert rows == 50
        assert loader.epoch > 2
        assert abs(epoch + position / 50 - loader.epoch) < 1


# Lengths of all rows


def test_lengths_are_measured_once_and_kept(tmp_path: Path) -> None:
    changes = {"max_steps": 0}
    told: list[tuple[int, int]] = []
    with make_loader(
        changes,
        sources=FAULTY,
        lengths_folder=tmp_path,
        progress=lambda done, total: told.append((done, total)),
    ) as loader:
        steps = loader.total_steps
        expected = hashes(loader)
    assert told[-1] == (73, 73)
    assert len(list(tmp_path.iterdir())) == 2
    trusting = NeverMeasures()
    quiet = {name: FakeSource(s.name, s.rows, s.least, s.most) for name, s in FAULTY.items()}
    with make_loader(changes, sources=quiet, processor=trusting, lengths_folder=tmp_path) as again:
        assert again.total_steps == steps
    with make_loader(changes, sources=FAULTY, lengths_folder=tmp_path, workers=1) as again:
        assert hashes(again) == expected


def test_lengths_of_other_settings_are_not_taken(tmp_path: Path) -> None:
    with make_loader({"max_steps": 0}, lengths_folder=tmp_path) as loader:
        assert loader.total_steps > 0
    with (
        make_loader(
            {"max_steps": 0, "too_long": "drop"}, lengths_folder=tmp_path, processor=NeverMeasures()
        ) as other,
        pytest.raises(RuntimeError, match="nothing was to be measured"),
    ):
        _ = other.total_steps


def test_a_spoilt_file_of_lengths_is_measured_again(tmp_path: Path) -> None:
    with make_loader({"max_steps": 0}, lengths_folder=tmp_path) as loader:
        steps = loader.total_steps
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with make_loader({"max_steps": 0}, lengths_folder=tmp_path) as again:
        assert again.total_steps == steps


# What is handed in


def test_settings_come_from_a_recipe() -> None:
    recipe = Recipe.from_dict(
        {
            "model": "m",
            "data": [{"path": "x/a", "weight": 2.0}, {"path": "x/b"}],
            "output_dir": "o",
            "seed": 5,
            "max_steps": 3,
            "too_long": "drop",
        }
    )
    found = LoaderSettings.of(recipe)
    assert found.weights == {"a": 2.0, "b": 1.0}
    assert (found.seed, found.max_steps, found.too_long) == (5, 3, "drop")
    assert found.pack_tokens == recipe.pack_tokens


def test_a_source_that_is_not_handed_in_is_named() -> None:
    with pytest.raises(RecipeError, match="no source named b; it has a"):
        make_loader(sources={"a": SOURCES["a"]})


def test_weights_that_draw_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match="nothing would be drawn"):
        settings(weights={"a": 0.0})


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(InputError, match="source a has no rows"):
        make_loader({"weights": {"a": 1.0}}, sources={"a": FakeSource("a", 0)})


def test_the_hash_sees_every_part_of_a_step() -> None:
    with make_loader() as loader:
        step = next(loader)
    seen = {batch_hash(step)}
    example = step.packs[0].examples[0]
    for array in (example.input_ids, example.trained, example.images[0].pixels):
        before = array.flat[0]
        array.flat[0] = not before if array.dtype == np.bool_ else before + 1
        seen.add(batch_hash(step))
        array.flat[0] = before
    assert len(seen) == 4
    assert batch_hash(step) in seen


def test_the_arrays_of_a_worker_can_be_written_to() -> None:
    """torch warns about arrays that cannot be, and shares memory with those that can."""
    large = FakeProcessor(pixel_bytes=3 * 10**6)
    with make_loader({"global_batch_packs": 1}, processor=large, workers=1) as loader:
        pixels = next(loader).packs[0].images[0].pixels
    assert pixels.flags.writeable
    assert pixels.flags.aligned
