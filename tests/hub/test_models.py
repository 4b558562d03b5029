"""Models by their name on the Hub: opened, asked, trained, and found again without the network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hub_server import COMMIT, ID, OLD_COMMIT, World

import manako
from manako.cli.root import ROOT
from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError, HubUnreachableError, InputError, NotOnHubError
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.hub.models import fetch_model, origin_of
from manako.infer.source import find_model, with_model_folder, with_model_name
from manako.train.loop import run_training
from manako.verify._subject import picture


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def online(world: World, tiny_qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The Hub of the environment, holding the tiny checkpoint in two commits."""
    files = files_of(tiny_qwen)
    extra = {
        "README.md": b"# tiny\n",
        "modeling.py": b"import os\n",
        "pytorch_model.bin": b"PK\3\4",
    }
    world.commits = {COMMIT: {**files, **extra}, OLD_COMMIT: files}
    monkeypatch.setenv("HF_ENDPOINT", world.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return world


@pytest.fixture(scope="session")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Heron-NVILA-Lite, whose parts lie in folders."""
    from manako.families.nvila_lite import FAMILY

    folder = tmp_path_factory.mktemp("parted") / "tiny-heron"
    FAMILY.make_tiny(folder)
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_model_in_folders_is_fetched_with_all_its_parts_and_no_code(
    online: World, parted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = {"modeling_vila.py": b"raise SystemExit", "llm/tokenization.py": b"raise SystemExit"}
    files = files_below(parted)
    online.commits[COMMIT] = {**files, **code, "llm/pytorch_model.bin": b"PK\3\4"}
    asked = picture_and_question()
    expected = manako.load(parted).generate_content(asked, max_new_tokens=4).token_ids
    model = manako.load(ID)
    assert model.generate_content(asked, max_new_tokens=4).token_ids == expected
    assert files_below(model.folder) == files  # every file, and nothing else
    online.asked.clear()
    assert find_model(ID, revision=COMMIT).folder == model.folder
    assert online.asked == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_model(ID).folder == model.folder
    assert online.asked == []


def test_a_pinned_model_in_folders_that_lacks_a_part_here_is_asked_for_again(
    online: World, parted: Path
) -> None:
    online.commits[COMMIT] = files_below(parted)
    for name in ("vision_tower/model.safetensors", "llm/tokenizer.json"):
        folder = find_model(ID, revision=COMMIT).folder
        (folder / name).unlink()
        online.asked.clear()
        assert (find_model(ID, revision=COMMIT).folder / name).is_file()
        assert online.asked


def test_a_part_that_the_hub_does_not_have_is_named(online: World, parted: Path) -> None:
    files = files_below(parted)
    online.commits[COMMIT] = {n: d for n, d in files.items() if not n.startswith("mm_projector/")}
    with pytest.raises(CheckpointError, match="of its parts, mm_projector/ has none"):
        manako.load(ID)


def picture_and_question() -> list[Any]:
    return [picture(56, 56), "何が見えますか。"]


def test_a_name_opens_and_answers_as_its_folder_does(online: World, tiny_qwen: Path) -> None:
    told: list[tuple[int, int]] = []
    model = manako.load(ID, progress=lambda done, total: told.append((done, total)))
    asked = picture_and_question()
    reply = model.generate_content(asked, max_new_tokens=4)
    assert (
        reply.token_ids
        == manako.load(tiny_qwen).generate_content(asked, max_new_tokens=4).token_ids
    )
    assert told[-1][0] == told[-1][1] == (tiny_qwen / "model.safetensors").stat().st_size
    assert model.folder.name == COMMIT
    taken = {path.name for path in model.folder.iterdir()}
    assert not taken & {"modeling.py", "pytorch_model.bin"}


def test_a_revision_is_pinned_and_not_asked_for_again(online: World) -> None:
    assert find_model(ID, revision="v1").folder.name == OLD_COMMIT
    online.asked.clear()
    assert find_model(ID, revision=OLD_COMMIT).folder.name == OLD_COMMIT
    assert online.asked == []  # a commit whose files all lie in the cache cannot have changed
    online.refs["main"] = OLD_COMMIT
    assert find_model(ID).folder.name == OLD_COMMIT


def test_a_commit_that_lacks_its_weights_in_the_cache_is_asked_for_again(online: World) -> None:
    folder = find_model(ID, revision=COMMIT).folder
    (folder / "model.safetensors").unlink()
    online.asked.clear()
    assert (find_model(ID, revision=COMMIT).folder / "model.safetensors").is_file()
    assert online.asked


def test_offline_the_cache_is_enough(online: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_model(ID).folder
    online.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_model(ID).folder == folder
    assert online.asked == []
    with pytest.raises(HubUnreachableError, match="v1"):
        find_model(ID, revision="v1")


def test_shards_are_those_that_the_index_names(
    online: World, tiny_qwen: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(tiny_qwen / "model.safetensors")
    shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    places = {}
    for number, (name, tensor) in enumerate(sorted(tensors.items())):
        shard = sorted(shards)[number % 2]
        shards[shard][name] = tensor
        places[name] = shard
    for shard, held in shards.items():
        save_file(held, str(tmp_path / shard), metadata={"format": "pt"})
    files = {
        name: data for name, data in files_of(tiny_qwen).items() if name != "model.safetensors"
    }
    index = json.dumps({"metadata": {}, "weight_map": places}).encode()
    files |= {"model.safetensors.index.json": index, "consolidated.safetensors": b"not these"}
    files |= {shard: (tmp_path / shard).read_bytes() for shard in shards}
    online.commits[COMMIT] = files
    model = manako.load(ID)
    assert model.generate_content(["?"], max_new_tokens=1).token_ids
    assert not (model.folder / "consolidated.safetensors").exists()


def test_an_unknown_architecture_is_refused_before_its_weights(online: World) -> None:
    online.commits[COMMIT]["config.json"] = b'{"model_type": "never_heard_of"}'
    with pytest.raises(CheckpointError, match="never_heard_of"):
        manako.load(ID)
    assert not [path for path in online.paths("safetensors") if "resolve" in path]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"config.json": b"{}", "pytorch_model.bin": b"x"},
            "pickled weights, which are never read",
        ),
        ({"config.json": b"{}", "model-Q4_K_M.gguf": b"x"}, "only GGUF"),
        ({"config.json": b"{}"}, "it holds no weights"),
        ({"config.json": b"{}", "llm/model.safetensors": b"x"}, "its weights lie in folders"),
    ],
)
def test_a_repository_without_weights_says_what_it_has(
    online: World, files: dict[str, bytes], said: str
) -> None:
    online.commits[COMMIT] = files
    with pytest.raises(CheckpointError, match=said):
        fetch_model(ID)


def test_a_name_that_is_not_there_and_a_revision_of_a_folder(
    online: World, tiny_qwen: Path
) -> None:
    with pytest.raises(NotOnHubError):
        manako.load("owner/other")
    with pytest.raises(InputError, match="no name on the Hub"):
        manako.load(tiny_qwen, revision="main")


def test_a_folder_of_that_name_comes_first(
    online: World, tiny_qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_qwen, tmp_path / ID)
    assert find_model(ID).folder == Path(ID)
    assert online.asked == []


def test_a_cache_path_says_where_it_came_from() -> None:
    path = f"/elsewhere/hub/models--owner--tiny-vlm/snapshots/{COMMIT}"
    assert origin_of(path) == (ID, COMMIT)
    assert origin_of("/elsewhere/models/tiny-vlm") is None


def rows(folder: Path) -> Path:
    with write_store(folder) as writer:
        for number in range(8):
            asked = Message("user", (picture(56, 56), Text(f"{number}?")))
            turns = (asked, Message("assistant", (Text("はい"),)))
            writer.add(row_of(Conversation(turns, id=f"row/{number}")))
    return folder


def test_training_starts_from_a_name_and_its_adapter_opens_on_another_machine(
    online: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    recipe = Recipe(
        model=ID,
        model_revision="main",
        data=(Source(path=str(rows(tmp_path / "data"))),),
        output_dir=str(tmp_path / "run"),
        method="lora",
        train={"language": "lora 1e-2"},
        pack_tokens=128,
        global_batch_packs=1,
        max_steps=2,
        dataloader_num_workers=0,
    )
    resolved = with_model_folder(recipe)
    assert with_model_name(resolved).model_revision == COMMIT
    run_training(resolved)
    written = Recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (written.model, written.model_revision) == (ID, COMMIT)
    shutil.move(tmp_path / "cache", tmp_path / "old")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "new"))
    model = manako.load(tmp_path / "run")
    assert model.folder == find_model(ID, revision=COMMIT).folder
    assert str(tmp_path / "new") in str(model.folder)
    longer = with_model_folder(written.replace(max_steps=3))
    with pytest.raises(manako.ManakoError, match="max_steps"):
        run_training(longer)  # the model itself, in another cache, is the same


def test_the_command_line_takes_names_and_revisions(online: World) -> None:
    asked = ["generate", ID, "やあ", "--revision", "v1", "--max-new-tokens", "2", "--json"]
    result = CliRunner().invoke(ROOT, asked)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["completion_tokens"] == 2
    failed = CliRunner().invoke(ROOT, ["generate", "owner/other", "やあ"])
    assert failed.exit_code != 0
    assert "Traceback" not in failed.output
