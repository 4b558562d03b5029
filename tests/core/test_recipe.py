"""The recipe: checked when it is made, the same after YAML, and honest about what is not built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.core.errors import MissingFileError, NotInThisVersion, RecipeError
from manako.core.recipe import Evaluation, PartSetting, Recipe, Source, Stage

BASE: dict[str, Any] = {"model": "m", "data": [{"path": "d/forms"}], "output_dir": "runs/a"}


def recipe(**changes: Any) -> Recipe:
    return Recipe.from_dict({**BASE, **changes})


def test_a_source_is_named_after_its_folder() -> None:
    assert recipe().data == (Source(path="d/forms", name="forms"),)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rat": 1}, "unknown field 'learning_rat'"),
        ({"pack_token": 1}, "did you mean 'pack_tokens'"),
        ({"data": []}, "names no source"),
        ({"data": [{"path": "a/x"}, {"path": "b/x"}]}, "share a name"),
        ({"data": [{"path": "a", "weight": 0}]}, "data.weight must be above 0"),
        ({"data": [{"path": "a", "weight": "nan"}]}, "finite number"),
        ({"data": [{"path": "a"}, {"path": "b", "weight_in": "answer_tokens"}]}, "weighs one"),
        ({"stages": [{"share": 1, "weights": {"ghost": 1}}]}, "ghost; the sources are forms"),
        ({"stages": [{"share": 1, "weights": {"forms": 0}}]}, "all 0"),
        ({"stages": [{"share": 0, "weights": {"forms": 1}}]}, "share must be above 0"),
        ({"pack_tokens": 0}, "pack_tokens must be above 0"),
        ({"num_train_epochs": 0}, "num_train_epochs"),
        ({"lr_decay_ratio": 1.5}, "lr_decay_ratio"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "would hold no rate"),
        ({"lr_decay_type": "linear"}, "says nothing under lr_scheduler_type: cosine"),
        ({"train": {"vison": "frozen"}}, "vison; the parts are vision, projector, language"),
        ({"train": {"language": "fast"}}, "train.language is 'fast'"),
        ({"train": {"language": "-1e-4"}}, "train.language is '-1e-4'"),
        ({"train": {"vision": "frozen"}}, "freezes every part"),
        ({"method": "lora", "train": {"language": "full 1e-4"}}, "no part a `lora` rate"),
        ({"eval": {"data": "x", "every_steps": 0}}, "eval.every_steps"),
        ({"gradient_checkpointing": "projector"}, "expected false | true | vision | language"),
        ({"optim": "adamw_bnb_8bit", "optim_state_dtype": "bfloat16"}, "which keeps 8 bits"),
        ({"gradient_checkpointing": "vision"}, "train freezes the vision part"),
    ],
)
def test_a_wrong_recipe_never_starts(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        recipe(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "qlora"},
        {"data": [{"path": "hf://datasets/a/b"}]},
        {"data": [{"path": "a", "config": "ai2d"}]},
        {"report_to": ["wandb"]},
    ],
)
def test_what_is_not_built_is_said_to_be_not_in_this_version(changes: dict[str, Any]) -> None:
    with pytest.raises(NotInThisVersion, match="not in this version"):
        recipe(**changes)


def test_a_bare_rate_means_the_method_for_the_language_part_only() -> None:
    rates = {"language": 1e-4, "projector": "full 1e-5", "vision": "lora 1e-6"}
    assert recipe(method="lora", train=rates).part_settings() == {
        "language": PartSetting(how="lora", learning_rate=1e-4),
        "projector": PartSetting(how="full", learning_rate=1e-5),
        "vision": PartSetting(how="lora", learning_rate=1e-6),
    }
    assert recipe(train={"language": "1e-4"}).part_settings()["vision"].how == "frozen"


@pytest.mark.parametrize(
    ("asked", "vision", "parts"),
    [
        (False, "1e-5", ()),
        (True, "1e-5", ("vision", "language")),
        (True, "frozen", ("language",)),
        ("vision", "lora 1e-5", ("vision",)),
        ("language", "1e-5", ("language",)),
    ],
)
def test_frozen_vision_keeps_nothing_that_could_be_computed_again(
    asked: Any, vision: str, parts: tuple[str, ...]
) -> None:
    rates = {"language": "1e-5", "vision": vision}
    assert recipe(gradient_checkpointing=asked, train=rates).recomputed_parts() == parts


def test_yaml_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: 模型\ndata:\n- {path: d/forms}\noutput_dir: runs/a\n"
        "train: {language: 1e-4, vision: frozen}\n",
        encoding="utf-8",
    )
    found = Recipe.load(path, ("pack_tokens=1024", "data.0.weight=2", "train.vision=1e-6"))
    assert (found.model, found.pack_tokens, found.data[0].weight) == ("模型", 1024, 2.0)
    assert found.part_settings()["vision"].learning_rate == 1e-6


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"model: [", RecipeError, "is no YAML"),
        (b"- a", RecipeError, "holds no fields"),
        (b"", RecipeError, "holds no fields"),
        (b"model: \x83\x82", RecipeError, "no UTF-8"),
        (b"model: !!python/object/apply:os.system ['true']", RecipeError, "no YAML"),
        (None, MissingFileError, "no recipe at"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(
    tmp_path: Path, content: bytes | None, error: type[Exception], says: str
) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=says):
        Recipe.load(path)


POSITIVE = st.floats(1e-9, 1e9, allow_nan=False)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
RATES = st.floats(1e-8, 1.0).map(repr)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    sources = tuple(Source(path=f"d/{n}", name=n, weight=draw(POSITIVE)) for n in names)
    stages = tuple(
        Stage(share=draw(POSITIVE), weights={n: draw(POSITIVE) for n in names})
        for _ in range(draw(st.integers(0, 2)))
    )
    return Recipe(
        model=draw(NAMES),
        data=sources,
        stages=stages,
        output_dir=draw(NAMES),
        train={"language": draw(RATES), "vision": draw(st.sampled_from(["frozen", "lora 1e-4"]))},
        warmup_steps=draw(st.floats(0, 100)),
        lr_decay_ratio=draw(st.floats(0.01, 1)),
        bf16=draw(st.booleans()),
        max_pixels=draw(st.none() | st.integers(1, 10**7)),
        eval=draw(st.none() | st.builds(Evaluation, data=NAMES, every_steps=st.integers(1, 99))),
        report_to=draw(st.sampled_from([(), ("tensorboard",)])),
    )


@settings(max_examples=40, deadline=None)
@given(recipes())
def test_a_recipe_is_the_same_after_yaml(tmp_path_factory: Any, made: Recipe) -> None:
    path = tmp_path_factory.mktemp("r") / "recipe.yaml"
    path.write_text(made.to_yaml(), encoding="utf-8", newline="")
    assert Recipe.load(path) == made
    assert Recipe.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    "rare", ["\x85", "\u2028", "\u2029", "a\u2028\u3000b", "\ufeff", "帳票 \x85"]
)
def test_names_with_what_yaml_takes_for_a_line_end_survive(rare: str, tmp_path: Path) -> None:
    source = Source(path=f"d/{rare}", name=rare)
    stage = Stage(share=1.0, weights={rare: 1.0})
    made = Recipe(model="帳票/模型", data=(source,), stages=(stage,), output_dir="o")
    (tmp_path / "r.yaml").write_text(made.to_yaml(), encoding="utf-8", newline="")
    assert Recipe.load(tmp_path / "r.yaml") == made
    assert "帳票/模型" in made.to_yaml()
