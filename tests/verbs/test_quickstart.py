"""The quickstart, small: the whole path runs, is written down, and goes on after a kill."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from manako.core.errors import InputError
from manako.core.files import read_json, write_json
from manako.verbs import quickstart as room
from manako.verbs.quickstart import STEPS, Quickstart, run_quickstart

SMALL = {"one": 40, "short": 40, "long": 40}
KINDS = {
    "read_one", "read_all", "read_pair", "position", "at_mark", "count", "colour",
    "first_sheet", "second_sheet",
}  # fmt: skip


class Notes:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, bool]] = []
        self.told: dict[str, Any] = {}

    def step(self, number: int, name: str, *, is_done: bool) -> None:
        self.steps.append((name, is_done))

    def progress(self, done: float, total: float) -> None:
        assert 0 <= done <= total

    def tell(self, kind: str, value: Any) -> None:
        self.told[kind] = value


def small(folder: Path, watcher: Notes, *assignments: str) -> Quickstart:
    return Quickstart(
        folder=folder,
        watcher=watcher,
        lang="ja",
        assignments=("max_steps=4", "pack_tokens=1024", *assignments),
        rows=SMALL,
        test_questions_per_kind=8,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Notes, dict[str, Any]]:
    """A quickstart that was killed in the middle of training and started again."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    original = room._train

    class Killed(BaseException):
        pass

    def killed(quickstart: Quickstart) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_train", killed)
        with pytest.raises(Killed):
            run_quickstart(small(folder, Notes()))
    assert room._train is original
    with pytest.MonkeyPatch.context() as patch:  # killed once more, when the run had just finished
        patch.setattr(room, "_measure", killed)
        with pytest.raises(Killed):
            run_quickstart(small(folder, Notes()))
    journal = read_json(folder / "quickstart.json")
    journal["seconds"].pop("train")
    write_json(folder / "quickstart.json", journal)
    notes = Notes()
    result = run_quickstart(small(folder, notes))
    return folder, notes, result


def test_what_was_done_is_not_done_again(finished: tuple[Path, Notes, dict[str, Any]]) -> None:
    _, notes, _ = finished
    assert [name for name, _ in notes.steps] == list(STEPS)
    assert [name for name, is_done in notes.steps if is_done] == [
        "forms", "convert", "model", "look", "plan",
    ]  # fmt: skip


def test_result_holds_every_promised_figure(finished: tuple[Path, Notes, dict[str, Any]]) -> None:
    folder, _, result = finished
    assert result == read_json(folder / "result.json")
    assert set(result["by_kind"]) == KINDS
    assert result["test_questions"] == 9 * 8
    assert 0 <= result["accuracy_low"] <= result["accuracy"] <= 1
    assert set(result["controls"]) == {"blank", "shuffled"}
    assert set(result["majority"]["by_kind"]) == KINDS
    assert result["seconds"] == pytest.approx(sum(result["seconds_by_step"].values()), abs=0.5)
    assert result["peak_memory_bytes"] > 10**8


def test_the_report_opens_offline(finished: tuple[Path, Notes, dict[str, Any]]) -> None:
    folder, _, _ = finished
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?https?:""", page)
    assert "data:image/png;base64," in page


def test_a_model_comes_out_that_answers(finished: tuple[Path, Notes, dict[str, Any]]) -> None:
    import manako

    folder, notes, _ = finished
    asked = notes.told["asked"]
    assert isinstance(asked.answer, str)
    assert asked.event["source"].endswith("/ja")
    model = manako.load(str(folder))
    assert model.generate_content(["こんにちは"], max_new_tokens=2).usage.completion_tokens <= 2


def test_other_settings_in_the_same_folder_are_refused(
    finished: tuple[Path, Notes, dict[str, Any]],
) -> None:
    folder, _, _ = finished
    with pytest.raises(InputError, match="other settings"):
        run_quickstart(small(folder, Notes(), "seed=3"))


def test_the_shipped_recipe_names_its_own_folders(tmp_path: Path) -> None:
    recipe = small(tmp_path, Notes()).recipe
    assert recipe.model == str(tmp_path / "start")
    assert [source.path for source in recipe.data] == [
        str(tmp_path / "data" / name) for name in ("one", "short", "long")
    ]
    assert sum(stage.share for stage in recipe.stages) == pytest.approx(1.0)
