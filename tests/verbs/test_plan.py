"""Planning a recipe: what is read, how sources are mixed, and that measuring leaves nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import pytest

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import MissingFileError
from manako.core.example import Lengths
from manako.core.recipe import Recipe, Source, Stage
from manako.core.row import row_of
from manako.verbs.plan import look, row_shares


def write_rows(folder: Path, rows: int, *, answer: str) -> None:
    from PIL import Image as Pillow

    from manako.data.writer import write_store

    buffer = io.BytesIO()
    Pillow.new("RGB", (56, 56), "white").save(buffer, format="PNG")
    picture = Image(buffer.getvalue())
    with write_store(folder, origin={"format": "test"}) as writer:
        for number in range(rows):
            turns = (
                Message("user", (picture, Text(f"何番? {number}"))),
                Message("assistant", (Text(answer),)),
            )
            writer.add(row_of(Conversation(turns, id=str(number))))


def recipe(model: Path, *folders: Path, **changes: Any) -> Recipe:
    settings: dict[str, Any] = {
        "pack_tokens": 256,
        "global_batch_packs": 1,
        "max_steps": 5,
        "dataloader_num_workers": 0,
        "train": {"language": "1e-4"},
        **changes,
    }
    return Recipe(
        model=str(model),
        data=tuple(Source(path=str(folder)) for folder in folders),
        output_dir=str(model.parent / "never"),
        **settings,
    )


def test_the_inventory_is_the_model(tiny_qwen: Path, tmp_path: Path) -> None:
    from manako.families.qwen2_vl import FAMILY
    from manako.nn.checkpoint import count_parameters, load_model

    write_rows(tmp_path / "d", 4, answer="はい")
    found = look(recipe(tiny_qwen, tmp_path / "d")).plan
    expected = count_parameters(load_model(tiny_qwen, FAMILY), FAMILY)
    assert {name: part.parameters for name, part in found.parts.items()} == expected


def test_adapters_are_counted_as_training_makes_them(tiny_qwen: Path, tmp_path: Path) -> None:
    from manako.families.qwen2_vl import FAMILY
    from manako.nn.checkpoint import load_model
    from manako.train.parts import prepare_parts

    write_rows(tmp_path / "d", 4, answer="はい")
    chosen = recipe(
        tiny_qwen,
        tmp_path / "d",
        method="lora",
        lora_r=3,
        train={"language": "1e-4", "vision": "lora 1e-4", "projector": "1e-4"},
    )
    made = prepare_parts(load_model(tiny_qwen, FAMILY), FAMILY, chosen)
    planned = look(chosen).plan.parts
    assert {n: p.trained for n, p in planned.items()} == {n: p.trained for n, p in made.items()}


def test_three_steps_are_measured_and_nothing_is_left(
    tiny_qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "d", 8, answer="はい")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(work))
    chosen = recipe(tiny_qwen, tmp_path / "d")
    told: list[tuple[int, int]] = []
    plan = look(chosen).measured(lambda done, total: told.append((done, total))).plan
    assert plan.measured is not None
    assert len(plan.measured.step_seconds) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert plan.seconds == pytest.approx(5 * plan.measured.seconds)
    assert list(work.iterdir()) == []
    assert not Path(chosen.output_dir).exists()


def test_rows_that_do_not_fit_are_counted(tiny_qwen: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "short", 6, answer="はい")
    write_rows(tmp_path / "long", 3, answer="とても長い答え" * 60)
    folders = (tmp_path / "short", tmp_path / "long")
    for policy in ("error", "drop"):
        plan = look(recipe(tiny_qwen, *folders, too_long=policy)).plan
        found = (plan.looked_at_rows, plan.too_long_rows, plan.refused_rows)
        assert found == (9, 3, 0)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nothing"):
        look(recipe(tmp_path / "nothing", tmp_path))


def lengths(trained: int) -> list[Lengths]:
    return [Lengths(text_tokens=20, image_tokens=0, trained_tokens=trained, vision_patches=0)]


def sources(weight_in: Literal["rows", "answer_tokens"] = "rows", **changes: Any) -> Recipe:
    data = (
        Source(path="a", weight=1.0, weight_in=weight_in),
        Source(path="b", weight=3.0, weight_in=weight_in),
    )
    return Recipe(model="m", data=data, output_dir="o", **changes)


def test_rows_are_shared_out_by_weight() -> None:
    samples = {"a": lengths(2), "b": lengths(6)}
    assert row_shares(sources(), samples) == {"a": 0.25, "b": 0.75}


def test_weights_in_answer_tokens_take_longer_answers_less_often() -> None:
    samples = {"a": lengths(2), "b": lengths(6)}
    assert row_shares(sources("answer_tokens"), samples) == {"a": 0.5, "b": 0.5}


def test_stages_share_the_run() -> None:
    stages = (
        Stage(share=0.25, weights={"a": 1.0}),
        Stage(share=0.75, weights={"a": 1.0, "b": 1.0}),
    )
    shares = row_shares(sources(stages=stages), {"a": lengths(2), "b": lengths(2)})
    assert shares == pytest.approx({"a": 0.625, "b": 0.375})


def test_a_source_without_a_usable_row_gives_none() -> None:
    assert row_shares(sources(), {"a": lengths(2), "b": []}) == {"a": 1.0}
