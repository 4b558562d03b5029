"""What a source may name, and what is said when it names something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from manako.core.errors import (
    AdapterError,
    CheckpointError,
    HubUnreachableError,
    InputError,
    MissingFileError,
    NotInThisVersion,
)
from manako.core.files import PARTIAL_MARK, read_json, write_json
from manako.core.recipe import Recipe
from manako.infer import source as sources
from manako.infer.open import Model, open_model
from manako.infer.source import with_model_folder
from manako.nn import adapters
from manako.nn.checkpoint import fingerprint, load_model

MakeAdapter = Callable[..., Path]


@pytest.fixture(scope="session")
def make_adapter(lively: Path, model: Model) -> MakeAdapter:
    """Writes an adapter on `lively` whose B is `b` times noise (0: as before the first step)."""

    def make(folder: Path, *, b: float = 0.3, base: Path | None = None) -> Path:
        network = load_model(lively, model.family)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            adapters.attach(network, model.family, ("language",), r=2, alpha=4)
            for name, parameter in network.named_parameters():
                if ".lora_B." in name:
                    parameter.data = torch.randn_like(parameter) * b
        folder.mkdir(parents=True)
        adapters.save(
            network,
            model.family,
            folder,
            base=base or lively,
            base_fingerprint=fingerprint(lively),
        )
        return folder

    return make


def test_a_checkpoint_folder_opens_by_path_and_by_string(lively: Path, model: Model) -> None:
    opened = open_model(str(lively), device="cpu")
    assert opened.folder == lively
    assert opened.generate_content("hello", max_new_tokens=4) == model.generate_content(
        "hello", max_new_tokens=4
    )


def test_on_a_cpu_weights_are_float32_unless_asked(lively: Path) -> None:
    assert open_model(lively, device="cpu").network.dtype == torch.float32
    small = open_model(lively, device="cpu", dtype="bfloat16")
    assert small.network.dtype == torch.bfloat16
    assert small.generate_content("hello", max_new_tokens=2).usage.completion_tokens > 0


def test_an_opened_model_is_in_evaluation_mode_and_not_trained(model: Model) -> None:
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"device": "gpu"}, "device 'gpu'"),
        ({"device": "cuda:99"}, "not on this machine"),
        ({"dtype": "int4"}, "dtype 'int4'"),
    ],
)
def test_a_wrong_device_or_dtype_is_named(lively: Path, wrong: dict[str, str], match: str) -> None:
    if wrong.get("device") == "cuda:99" and torch.cuda.is_available():
        pytest.skip("the device's own error, on a machine with CUDA")
    with pytest.raises(InputError, match=match):
        open_model(lively, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Qwen/Qwen2-VL-2B-Instruct", "a/b"])
def test_offline_a_name_that_is_not_in_the_cache_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubUnreachableError, match=name) as caught:
        open_model(name)
    assert "unset HF_HUB_OFFLINE" in caught.value.next_step


@pytest.mark.parametrize("name", ["ollama:gemma", "models/x.gguf"])
def test_another_runtime_is_not_in_this_version(name: str) -> None:
    with pytest.raises(NotInThisVersion, match="runtimes"):
        open_model(name)


def test_a_folder_has_no_revision(lively: Path) -> None:
    with pytest.raises(InputError, match="revision 'main'"):
        open_model(lively, revision="main")


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        open_model(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        open_model(tmp_path / "empty")
    (tmp_path / "file.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a file"):
        open_model(tmp_path / "file.bin")


def test_a_shipped_model_opens_by_name_and_says_when_it_is_absent(
    lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "files", lambda _: tmp_path / "package")
    with pytest.raises(MissingFileError, match="'mini' does not lie"):
        open_model("mini")
    shutil.copytree(lively, tmp_path / "package" / "mini")
    assert open_model("mini").folder == tmp_path / "package" / "mini"


@pytest.fixture
def run(lively: Path, tmp_path: Path) -> Path:
    """A run with checkpoints at steps 5 and 10, and one that was being written when it died."""
    inside = tmp_path / "run" / "checkpoints"
    for name in ("step-5", "step-10", f"step-20{PARTIAL_MARK}abc"):
        shutil.copytree(lively, inside / name)
    (tmp_path / "run" / "recipe.yaml").write_text("model: x\n", encoding="utf-8")
    return tmp_path / "run"


def test_a_run_opens_at_its_newest_checkpoint(run: Path) -> None:
    newest = run / "checkpoints" / "step-10"
    assert open_model(run).folder == newest
    assert open_model(run / "checkpoints").folder == newest
    assert open_model(run / "checkpoints" / "step-5").folder.name == "step-5"


def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(run: Path) -> None:
    weights = run / "checkpoints" / "step-10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    opened = open_model(run)
    assert opened.folder.name == "step-5"
    assert any("step-10 was passed over" in note for note in opened.notes)


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no usable checkpoint yet"):
        open_model(tmp_path)


def test_an_adapter_opens_on_its_base_from_wherever_it_is_named(
    lively: Path, model: Model, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    step = make_adapter(tmp_path / "run" / "checkpoints" / "step-3")
    answers = {
        open_model(tmp_path / "run").generate_content("hello", max_new_tokens=8),
        open_model(step).generate_content("hello", max_new_tokens=8),
        open_model(lively, adapter=step).generate_content("hello", max_new_tokens=8),
        open_model(lively, adapter=tmp_path / "run").generate_content("hello", max_new_tokens=8),
    }
    assert len(answers) == 1
    assert answers != {model.generate_content("hello", max_new_tokens=8)}
    opened = open_model(tmp_path / "run")
    assert (opened.folder, opened.adapter) == (lively, step)


def test_an_adapter_that_changes_nothing_is_an_error(
    make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="changes nothing"):
        open_model(make_adapter(tmp_path / "adapter", b=0.0))


def test_adapter_keys_that_match_nothing_are_listed(
    make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_adapter(tmp_path / "adapter")
    file = folder / adapters.ADAPTER
    renamed = {key.replace("layers.0", "layers.9"): t for key, t in load_file(file).items()}
    save_file(renamed, file)
    with pytest.raises(AdapterError, match=r"layers\.9\.self_attn"):
        open_model(folder)


def test_an_adapter_whose_base_is_gone_says_how_to_open_it(
    make_adapter: MakeAdapter, tmp_path: Path, lively: Path
) -> None:
    folder = make_adapter(tmp_path / "adapter", base=tmp_path / "gone")
    with pytest.raises(MissingFileError) as caught:
        open_model(folder)
    assert "adapter=" in caught.value.next_step
    assert open_model(lively, adapter=folder).adapter == folder


def test_an_adapter_on_other_weights_than_it_was_trained_on_is_refused(
    make_adapter: MakeAdapter, tmp_path: Path, model: Model
) -> None:
    other = tmp_path / "other"
    model.family.make_tiny(
        other, seed=1, tie_embeddings=False, initializer_range=0.3, vocabulary=300
    )
    with pytest.raises(AdapterError, match="other weights"):
        open_model(other, adapter=make_adapter(tmp_path / "adapter"))


def test_two_adapters_on_one_model_are_refused(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter")
    with pytest.raises(InputError, match="an adapter of its own"):
        open_model(folder, adapter=folder)


@pytest.mark.parametrize("kept_in", ["files of the processor", "recipe of the run"])
def test_picture_limits_of_an_adapter_are_in_force(
    make_adapter: MakeAdapter, tmp_path: Path, lively: Path, model: Model, kept_in: str
) -> None:
    """A LoRA run with `max_pixels` of its own must be asked with the pictures it was trained on."""
    folder = make_adapter(tmp_path / "adapter")
    small = model.processor.with_pixel_limits(min_pixels=None, max_pixels=28 * 28 * 4)
    assert small.fingerprint != model.processor.fingerprint
    if kept_in == "recipe of the run":
        write_json(folder / "trainer.json", {"recipe": {"max_pixels": 28 * 28 * 4}})
    else:
        small.save(folder)
        shutil.copy(lively / "config.json", folder)
    assert open_model(folder).processor.fingerprint == small.fingerprint


def test_generation_config_counts_where_it_changes_greedy_answers(
    lively: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(lively, folder)
    settings = read_json(folder / "generation_config.json")
    drawing = {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.001}
    write_json(
        folder / "generation_config.json", {**settings, **drawing, "repetition_penalty": 1.2}
    )
    opened = open_model(folder)
    assert opened.repetition_penalty == 1.2
    drawn = {
        opened.generate_content("hello", max_new_tokens=6, temperature=2.0, seed=seed).token_ids
        for seed in range(4)
    }
    assert len(drawn) > 1, "the file's top_k = 1 would make every draw the same"
    write_json(folder / "generation_config.json", {**settings, "no_repeat_ngram_size": 3})
    with pytest.raises(NotInThisVersion, match="no_repeat_ngram_size = 3"):
        open_model(folder)


def test_end_tokens_are_those_of_generation_config(lively: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(lively, folder)
    third = open_model(folder).generate_content("hello", max_new_tokens=5).token_ids[2]
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    write_json(folder / "generation_config.json", {**settings, "eos_token_id": [third]})
    reply = open_model(folder).generate_content("hello", max_new_tokens=5)
    assert (reply.finish_reason, reply.token_ids[-1]) == ("stop", third)


def test_a_recipe_may_name_a_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.from_dict({"model": "mini", "data": [{"path": "d"}], "output_dir": "r"})
    found = with_model_folder(recipe)
    assert (Path(found.model) / "config.json").is_file()
    assert found.replace(model="mini") == recipe
    (tmp_path / "mini").mkdir()
    assert with_model_folder(recipe) == recipe  # a folder of that name goes first
