"""`manako init`: a project folder in which every command works at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manako.core.errors import InputError
from manako.core.files import atomic_folder
from manako.samples import shapes
from manako.verbs.llms import TEXTS, CommandHelp, llms_text

Lang = Literal["ja", "en"]
RECIPE, README, LLMS = "recipe.yaml", "README.md", "llms.txt"
RUN = "runs/first"
ASKED = "pictures/red-circle-1.png"
"""A picture of the held-out set."""
FILES = {
    RECIPE: "a commented training recipe that runs as it is",
    README: "the steps from data to an answer",
    shapes.TRAINING: "training data in LLaVA's layout",
    shapes.HELD_OUT: "held-out data in the same layout",
}


@dataclass(frozen=True, kw_only=True)
class Project:
    """What was made. rows, held_out_rows: of the two data files. steps: commands to try next, in
    the folder, in this order."""

    folder: Path
    rows: int
    held_out_rows: int
    steps: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "folder": str(self.folder),
            "files": sorted(path.name for path in self.folder.iterdir()),
            "rows": self.rows,
            "held_out_rows": self.held_out_rows,
            "next": list(self.steps),
        }


def make_project(folder: Path, *, lang: Lang, commands: Sequence[CommandHelp]) -> Project:
    """Make a project folder, whole or not at all; `lang` is that of its comments and README.

    commands: what `llms.txt` tells of the command line. Raises `InputError` where something is
    there already, `WriteError` when the disk refuses.
    """
    _check_free(folder)
    steps = _steps(lang)
    with atomic_folder(folder.resolve()) as partial:
        rows, held_out = shapes.write_shapes(partial)
        _write(partial / RECIPE, _text(f"recipe.{lang}.yaml"))
        _write(partial / README, _text(f"README.{lang}.md").replace("{steps}", "\n".join(steps)))
        _write(partial / LLMS, llms_text(commands, FILES))
    return Project(folder=folder, rows=rows, held_out_rows=held_out, steps=steps)


def _check_free(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder} is not empty, and nothing in it is overwritten",
            next_step="name a folder that does not exist yet",
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", next_step="name a folder that does not exist yet")
    if folder.resolve() == Path.cwd():
        raise InputError(
            "the folder that the command is called in cannot be made anew",
            next_step=f"call it from the folder above: manako init {Path.cwd().name}",
        )


def _steps(lang: Lang) -> tuple[str, ...]:
    question = shapes.QUESTIONS[lang][0]
    return (
        f"manako data convert {shapes.TRAINING} --out data/train",
        f"manako data convert {shapes.HELD_OUT} --out data/heldout",
        "manako data census data/train --model mini",
        f"manako plan {RECIPE}",
        f"manako train {RECIPE} --foreground",
        f'manako generate {RUN} @{ASKED} "{question}"',
        f"manako view {RUN}",
    )


def _text(name: str) -> str:
    return (TEXTS / name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
