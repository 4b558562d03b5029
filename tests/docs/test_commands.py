"""Every command and every Python block of the documents is run, in order, as it stands.

They run in a folder that really has what they name: pictures, `my-forms-heldout.json`, the recipes
of `examples/`, and a tiny random checkpoint in the place of the published one. What differs from
what a reader types stands here: `IN_THE_PROJECT`, `ADDED`, and the commands that are not run.
"""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from doc_blocks import DOCUMENTS, ROOT, Block, blocks_of, commands_of, read

from manako.cli.root import ROOT as MANAKO
from manako.core.family import families
from manako.core.record import read_record, write_record

MODEL = "models/Qwen2-VL-2B-Instruct"
NAME = "Qwen/Qwen2-VL-2B-Instruct"
"""A name on the Hub; a folder of that name comes first, so that nothing is asked for."""
IN_THE_PROJECT = {"dataloader_num_workers: 4": "dataloader_num_workers: 0"}
"""What is written otherwise in the copies of `examples/`: starting workers takes seconds."""
ADDED = {"train": ("--foreground",)}
"""Options that are added to a command: a process of its own would import torch once more."""
TRAIN_MODULE = ("-m", "manako", "train", "recipe.yaml")
ACCELERATE = ("accelerate", "launch", "--multi_gpu", "--num_processes", "2")
SHARDED = ("accelerate", "launch", "--use_fsdp", "--fsdp_version", "2", "--num_processes", "2")
NOT_RUN = (
    ("git", "clone", "REPOSITORY_URL", "manako"),
    ("cd", "manako"),
    ("make", "quickstart"),
    ("make", "test"),
    ("manako", "models", "refresh", "Qwen/Qwen2-VL-2B-Instruct"),
    ("pip", "install", "--no-deps", "--target", "build/torchvision", "torchvision==0.28.0"),
    ("python", "-m", "benchmarks.cpu.input_path", "--torchvision", "build/torchvision"),
    ("pip", "wheel", "--no-deps", "--wheel-dir", "wheels", "."),
    ("pip", "download", "--no-deps", "--dest", "wheels", "--requirement", "requirements.lock"),
    ("pip", "download", "--dest", "wheels", "torch==2.13.0"),
    (
        "pip",
        "install",
        "--no-index",
        "--find-links",
        "wheels",
        "manako",
        "torch",
        "scikit-learn",
        "trl",
        "datasets",
    ),
    ("python", "-m", "benchmarks.gpu.train", "--out", "results"),
    ("manako", "doctor"),
    ("manako", "doctor", "--model", "Qwen2-VL-2B-Instruct", "--method", "lora"),
    ("torchrun", "--standalone", "--nproc-per-node", "2", *TRAIN_MODULE),
    (*ACCELERATE, "--main_process_port", "0", *TRAIN_MODULE),
    (*SHARDED, "--main_process_port", "0", *TRAIN_MODULE),
)
"""Commands that need a network or minutes, or try the whole machine: `tests/hub/` and
`tests/machine/` run those, `tests/train/test_launchers.py` what starts several processes; that the
targets of `make` exist is tested elsewhere."""
RUN = ("README.md", *(name for name in DOCUMENTS if name.startswith("docs/")))
"""README.ja.md has the same blocks (tests/docs/test_documents.py)."""


@pytest.fixture
def project(tmp_path: Path, tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANAKO_LANG", "en")
    for name in (MODEL, NAME):
        shutil.copytree(tiny_qwen, tmp_path / name)
    for name in ("forms/0001.jpg", "forms/0002.jpg", "photo.jpg", "japan.jpg", "austria.jpg"):
        draw(tmp_path / name)
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "docs" / "images", tmp_path / "docs" / "images")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for path in (tmp_path / "examples").iterdir():
        text = path.read_text(encoding="utf-8")
        for written, instead in IN_THE_PROJECT.items():
            text = text.replace(written, instead)
        path.write_text(text, encoding="utf-8")
    held_out = [
        {
            "id": "0003",
            "image": "forms/0002.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\n金額はいくらですか。"},
                {"from": "gpt", "value": "990円です。"},
            ],
        }
    ]
    (tmp_path / "my-forms-heldout.json").write_text(json.dumps(held_out), encoding="utf-8")
    return tmp_path


def draw(path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(path.name.encode()) % 200
    Image.new("RGB", (112, 84), (shade, 200 - shade, 90)).save(path)


def write_files(document: str) -> None:
    """Blocks whose fence names a file are that file; recipes lie there already."""
    for block in blocks_of(document):
        if block.name and not block.name.startswith("examples/"):
            Path(block.name).write_text(block.text, encoding="utf-8")


def run_command(words: list[str], block: Block) -> None:
    if tuple(words) in NOT_RUN:
        return
    where = f"{block.document}:{block.line}: {' '.join(words)}"
    assert words[0] == "manako", f"{where}: neither run nor on the list of those that are not"
    arguments = [*words[1:], *ADDED.get(words[1], ())]
    result = CliRunner().invoke(MANAKO, arguments, prog_name="manako")
    assert result.exit_code == 0, f"{where}\n{result.output}\n{result.exception!r}"


def run_document(document: str) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(document):
        if block.language == "sh":
            for words in commands_of(block):
                run_command(words, block)
        elif block.language == "python":
            file = Path(f"block-{block.line}.py")
            file.write_text(block.text, encoding="utf-8")
            names = runpy.run_path(str(file), init_globals=names)


def prepare(document: str) -> None:
    """What a page takes for granted: the README's data, or a run."""
    write_files("README.md")
    if document == "docs/training.md":
        for name in ("my-forms", "my-forms-heldout"):
            call = ["manako", "data", "convert", f"{name}.json", "--out", f"data/{name}"]
            run_command(call, Block(document, 0, "sh", "", ""))
    if document == "docs/native.md":
        families().items["nvila_lite"].make_tiny(Path("models/Heron-NVILA-Lite-1B"))
    if document == "docs/map.md":
        steps = [{"kind": "step", "step": step, "loss": 1.0 / step} for step in (1, 2)]
        write_record(Path("runs/my-forms/record.jsonl"), "train", steps)


@pytest.mark.parametrize("document", RUN)
def test_document_runs_as_written(
    document: str, project: Path, request: pytest.FixtureRequest
) -> None:
    if document == "docs/hub.md":
        request.getfixturevalue("published")
    prepare(document)
    write_files(document)
    run_document(document)
    if document == "README.md":
        check_run_folder(project / "runs" / "my-forms")


def check_run_folder(folder: Path) -> None:
    """The run that the README made holds what docs/map.md says of a run's folder."""
    page = read("docs/map.md")
    table = page.split("| in the folder |", maxsplit=1)[1].split("\n\n", maxsplit=1)[0]
    named = {
        word for row in table.splitlines() for word in re.findall(r"`([^`]+)`", row.split("|")[1])
    }
    found = {path.name for path in folder.iterdir()}
    assert found <= {name.split("/")[0] for name in named}
    kinds = page.split("| kind |", maxsplit=1)[1].split("\n\n", maxsplit=1)[0]
    fields = {row.split("|")[1].strip(" `"): row.split("|")[2] for row in kinds.splitlines()[2:]}
    record = read_record(folder / "record.jsonl")
    for event in (record.header, *record.events):
        words = re.findall(r"`([a-z_]+)`", fields[event["kind"]])
        assert set(words) <= set(event), event["kind"]


def test_pages_that_nothing_runs_have_no_commands() -> None:
    for document in set(DOCUMENTS) - set(RUN) - {"README.ja.md"}:
        assert not [block for block in blocks_of(document) if block.language in ("sh", "python")]
