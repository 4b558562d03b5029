"""Checkpoint folders: what loads, what is refused and how it is named."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from manako.core.errors import CheckpointError, MissingFileError, NotInThisVersion
from manako.core.files import read_json
from manako.families.qwen2_vl import FAMILY
from manako.nn import checkpoint


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    FAMILY.make_tiny(folder, seed=0)
    return folder


@pytest.fixture
def broken(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "checkpoint"))


def change_weights(folder: Path, change: object) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)  # type: ignore[operator]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_go_there_and_back_unchanged(tiny_folder: Path, tmp_path: Path) -> None:
    model = checkpoint.load_model(tiny_folder, FAMILY)
    checkpoint.save_model(model, FAMILY, tmp_path)
    published = load_file(tiny_folder / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == published.keys()
    assert all(torch.equal(written[name], published[name]) for name in published)
    again = checkpoint.load_model(tmp_path, FAMILY)
    pairs = zip(model.state_dict().items(), again.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


def test_saved_files_are_the_published_layout(tiny_folder: Path, tmp_path: Path) -> None:
    checkpoint.save_model(checkpoint.load_model(tiny_folder, FAMILY), FAMILY, tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}
    assert read_json(tmp_path / "config.json")["model_type"] == "qwen2_vl"
    ends = read_json(tiny_folder / "generation_config.json")["eos_token_id"]
    assert read_json(tmp_path / "generation_config.json")["eos_token_id"] == ends


def test_a_generation_config_that_fails_its_own_checks_is_still_saved(
    tiny_folder: Path, tmp_path: Path
) -> None:
    model = checkpoint.load_model(tiny_folder, FAMILY)
    model.generation_config.temperature = 0.01  # without sampling, which transformers refuses
    checkpoint.save_model(model, FAMILY, tmp_path)
    assert read_json(tmp_path / "generation_config.json")["temperature"] == 0.01


def test_shards_with_an_index_load(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    names = sorted(weights)
    halves = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    for file, keys in halves.items():
        save_file({key: weights[key] for key in keys}, broken / file, metadata={"format": "pt"})
    (broken / "model.safetensors").unlink()
    index = {
        "metadata": {},
        "weight_map": {key: file for file, keys in halves.items() for key in keys},
    }
    (broken / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert checkpoint.load_model(broken, FAMILY).num_parameters() > 0
    (broken / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors missing"):
        checkpoint.load_model(broken, FAMILY)


def test_a_tied_head_may_stand_in_the_file_twice(broken: Path) -> None:
    def add_head(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()

    change_weights(broken, add_head)
    model = checkpoint.load_model(broken, FAMILY)
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def test_an_untied_head_is_kept(tmp_path: Path) -> None:
    FAMILY.make_tiny(tmp_path / "untied", tie_embeddings=False)
    model = checkpoint.load_model(tmp_path / "untied", FAMILY)
    assert model.lm_head.weight is not model.model.language_model.embed_tokens.weight
    checkpoint.save_model(model, FAMILY, tmp_path)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")


def test_missing_and_unexpected_weights_are_listed(broken: Path) -> None:
    def damage(weights: dict[str, torch.Tensor]) -> None:
        del weights["visual.merger.mlp.0.weight"]
        weights["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2, 2)

    change_weights(broken, damage)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_model(broken, FAMILY)
    assert "1 missing: model.visual.merger.mlp.0.weight" in caught.value.message
    assert "layers.9.mlp.up_proj.weight" in caught.value.message
    assert caught.value.next_step


def test_at_most_ten_names_are_listed(broken: Path) -> None:
    def damage(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if ".layers.0." in name]:
            del weights[name]

    change_weights(broken, damage)
    with pytest.raises(CheckpointError, match=r"12 missing: .* and 2 more"):
        checkpoint.load_model(broken, FAMILY)


def test_a_weight_of_another_shape_is_named_with_both(broken: Path) -> None:
    def damage(weights: dict[str, torch.Tensor]) -> None:
        weights["model.norm.weight"] = torch.zeros(7)

    change_weights(broken, damage)
    with pytest.raises(CheckpointError, match=r"norm\.weight .*7.*32"):
        checkpoint.load_model(broken, FAMILY)


@pytest.mark.parametrize("kept_bytes", [0, 5, 5000])
def test_cut_weights_are_corrupt(broken: Path, kept_bytes: int) -> None:
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match="corrupt or cut short"):
        checkpoint.load_model(broken, FAMILY)


def test_pickled_weights_are_never_read(broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_model(broken, FAMILY)
    assert "pickled weights are never read" in caught.value.next_step


def test_no_folder_an_adapter_and_quantised_weights_are_told_apart(broken: Path) -> None:
    with pytest.raises(MissingFileError):
        checkpoint.load_model(broken / "absent", FAMILY)
    config = read_json(broken / "config.json")
    quantised = {**config, "quantization_config": {"quant_method": "gptq"}}
    with pytest.raises(NotInThisVersion, match="quantised"):
        checkpoint.build_empty(quantised, FAMILY)
    (broken / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="holds an adapter"):
        checkpoint.load_model(broken, FAMILY)


def test_a_config_that_builds_nothing_is_named(broken: Path) -> None:
    config = {**read_json(broken / "config.json"), "hidden_act": "no such function"}
    with pytest.raises(CheckpointError, match="no such function"):
        checkpoint.build_empty(config, FAMILY)


def test_a_config_cannot_choose_an_attention_from_elsewhere(broken: Path) -> None:
    config = {**read_json(broken / "config.json"), "attn_implementation": "somebody/kernel"}
    (broken / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = checkpoint.load_model(broken, FAMILY)
    assert model.config._attn_implementation == "sdpa"


def test_an_empty_model_costs_nothing_and_counts_tied_weights_once(tiny_folder: Path) -> None:
    empty = checkpoint.build_empty(tiny_folder, FAMILY)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    counts = checkpoint.count_parameters(empty, FAMILY)
    published = load_file(tiny_folder / "model.safetensors")
    assert sum(counts.values()) == sum(tensor.numel() for tensor in published.values())
    merger = sum(t.numel() for name, t in published.items() if name.startswith("visual.merger"))
    assert counts["projector"] == merger


def test_the_fingerprint_follows_the_weights(tiny_folder: Path, broken: Path) -> None:
    assert checkpoint.fingerprint(broken) == checkpoint.fingerprint(tiny_folder)

    def nudge(weights: dict[str, torch.Tensor]) -> None:
        weights["model.norm.weight"][3] += 1e-3

    change_weights(broken, nudge)
    assert checkpoint.fingerprint(broken) != checkpoint.fingerprint(tiny_folder)


def test_the_stored_dtype_is_told_without_reading_weights(broken: Path) -> None:
    assert checkpoint.stored_dtype(broken) == "float32"
    weights = load_file(broken / "model.safetensors")
    rounded = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(rounded, broken / "model.safetensors", metadata={"format": "pt"})
    assert checkpoint.stored_dtype(broken) == "bfloat16"
    assert checkpoint.load_model(broken, FAMILY, dtype="bfloat16").dtype == torch.bfloat16


def test_a_full_disk_is_an_operating_system_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        checkpoint.write_tensors(tmp_path / "absent" / "x.safetensors", {"a": torch.zeros(2)})
    assert caught.value.errno == errno.ENOENT
