"""Discovery: what lies in the folder is there; a broken file is named and stops no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from manako.core.discovery import discover
from manako.core.family import families


def test_members_shared_files_and_broken_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "manako_discovered"
    (package / "folder").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "good": "THING = 'good'",
        "other": "THING = 'other'",
        "_shared": "raise RuntimeError('never imported')",
        "folder/__init__": "raise RuntimeError('never imported')",
        "typo": "THING = = 1",
        "lacking": "OTHER = 1",
        "needy": "import no_such_package_anywhere",
    }.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    found = discover("manako_discovered", "THING")
    assert found.items == {"good": "good", "other": "other"}
    assert set(found.broken) == {"typo", "lacking", "needy"}
    assert "SyntaxError" in found.broken["typo"]
    assert "no_such_package_anywhere" in found.broken["needy"]


def test_every_file_of_ours_is_whole() -> None:
    assert families().broken == {}
    assert discover("manako.formats", "FORMAT").broken == {}
