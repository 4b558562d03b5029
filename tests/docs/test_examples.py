"""The recipes in `examples/` are valid, and take the memory that their words promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_blocks import READMES, ROOT, read

from manako.catalogue.cards import cards
from manako.core.example import Lengths
from manako.core.family import families
from manako.core.files import write_json
from manako.core.recipe import Recipe
from manako.core.units import show_bytes
from manako.plan.activations import read_shapes
from manako.plan.plan import Data, make_plan

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
TRAINED_SHARE = 4
"""A quarter of a full pack is trained, as `examples/` say; half of it are pictures."""
PATCHES_PER_TOKEN = 4
LARGEST_GB = {"24gb": 24, "48gb": 48}


def memory_gb(recipe: Recipe, folder: Path) -> str:
    """Tensors of a full pack, by the plan's arithmetic, for the published sizes."""
    from manako.verbs.plan import take_inventory

    name = Path(recipe.model).name
    card = next(card for card in cards() if card.id.endswith(name))
    assert card.config is not None
    config = {"model_type": card.family, "torch_dtype": "bfloat16", **card.config.fields}
    write_json(folder / "config.json", config)
    inventory = take_inventory(folder, families().items[card.family])
    half = recipe.pack_tokens // 2
    row = Lengths(
        text_tokens=half,
        image_tokens=half,
        trained_tokens=recipe.pack_tokens // TRAINED_SHARE,
        vision_patches=half * PATCHES_PER_TOKEN,
    )
    data = Data(rows=1, sample=[row], looked_at=1)
    plan = make_plan(recipe, inventory, read_shapes(config), data)
    return show_bytes(plan.memory.total)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_valid_and_needs_what_it_says(path: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(path)
    found = memory_gb(recipe, tmp_path)
    size = re.search(r"(\d+gb)\.yaml$", path.name)
    assert size is not None
    assert float(found.split()[0]) < 0.8 * LARGEST_GB[size[1]], "room for what is not a tensor"
    assert f"about {found}" in " ".join(path.read_text("utf-8").replace("\n# ", " ").split())
    assert f"| `examples/{path.name}` | {found} |" in read("docs/training.md")


def test_readmes_say_how_7b_fits_into_24_gb(tmp_path: Path) -> None:
    path = ROOT / "examples" / "qwen2-vl-7b-lora-48gb.yaml"
    recipe = Recipe.load(path)
    smallest = memory_gb(recipe.replace(pack_tokens=1024), tmp_path)
    assert float(smallest.split()[0]) > LARGEST_GB["24gb"]
    again = memory_gb(recipe.replace(gradient_checkpointing=True), tmp_path)
    assert float(again.split()[0]) < LARGEST_GB["24gb"]
    assert all(figure in read(name) for name in READMES for figure in (smallest, again))
    assert f"`gradient_checkpointing: true` about {again}" in path.read_text("utf-8")
