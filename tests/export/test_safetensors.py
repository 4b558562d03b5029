from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLForConditionalGeneration

from manako.core.conversation import Conversation
from manako.core.errors import (
    AdapterError,
    CheckpointError,
    InputError,
    NotInThisVersion,
    WriteError,
)
from manako.core.family import family_of
from manako.core.record import read_record
from manako.export import _reload, export, safetensors, targets
from manako.export._probes import Seen, default_probes, look, probes_from_json, probes_to_json
from manako.infer.open import open_model
from manako.nn import checkpoint
from manako.nn.checkpoint import fingerprint


def test_targets_are_found_and_none_is_broken() -> None:
    found = targets()
    assert not found.broken
    assert found.items["safetensors"].title


def test_a_lora_run_becomes_a_plain_checkpoint(
    lora_run: Path, lively: Path, tmp_path: Path
) -> None:
    """The whole way, the clean process included."""
    out = tmp_path / "out"
    told: list[str] = []
    report = export(lora_run, out, say=told.append)
    assert report.same_answers == report.probes == 5
    assert report.logit_gap <= report.tolerance
    assert report.merge_gap is not None
    assert report.merge_gap <= report.tolerance
    assert report.adapter_effect is not None
    assert report.adapter_effect > 0.1
    assert any("clean process" in line for line in told)

    exported, original = open_model(out), open_model(lora_run)
    assert exported.adapter is None
    asked = ["画像", *default_probes(original.family)[2].images, "?"]
    assert exported.generate_content(asked, max_new_tokens=12) == original.generate_content(
        asked, max_new_tokens=12
    )
    assert exported.generate_content(asked, max_new_tokens=12) != open_model(
        lively
    ).generate_content(asked, max_new_tokens=12)
    assert exported.processor.fingerprint == original.processor.fingerprint
    weights = Qwen2VLForConditionalGeneration.from_pretrained(out).state_dict()
    assert all(torch.equal(t, weights[n]) for n, t in exported.network.state_dict().items())

    (event,) = read_record(out / "record.jsonl").of_kind("export")
    assert event["logit_gap"] == report.logit_gap
    assert event["base"] == str(lively)
    assert {file["path"] for file in event["files"]} == {
        path.name for path in out.iterdir() if path.name != "record.jsonl"
    }
    assert report.bytes == sum(path.stat().st_size for path in out.iterdir()) - (
        (out / "record.jsonl").stat().st_size
    )


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Path], None]]:
    """Opens the files in this process, which saves seconds; runs what a test put in between."""
    tricks: list[Callable[[Path], None]] = []

    def reopen(folder: Path, probes: Sequence[Conversation]) -> list[Seen]:
        for trick in tricks:
            trick(folder)
        return look(open_model(folder, device="cpu", dtype="float32"), probes)

    monkeypatch.setattr(_reload, "look_in_clean_process", reopen)
    return tricks


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounded_weights_agree_with_themselves_and_say_what_rounding_cost(
    lively: Path, tmp_path: Path, same_process: list[Any], dtype: str
) -> None:
    report = export(lively, tmp_path / "out", dtype=dtype)
    assert report.logit_gap <= report.tolerance < report.rounding_gap
    assert 0 <= report.rounding_same_answers <= report.probes
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {str(t.dtype) for t in stored.values()} == {f"torch.{dtype}"}
    original = load_file(lively / "model.safetensors")
    assert all(torch.equal(stored[n], t.to(stored[n].dtype)) for n, t in original.items())
    family = family_of(tmp_path / "out")
    assert safetensors.checkpoint_dtype(tmp_path / "out", family) == dtype
    named = re.findall(r'"dtype": "(\w+)"', (tmp_path / "out" / "config.json").read_text("utf-8"))
    assert set(named) == {dtype}


def test_a_file_changed_after_it_was_written_is_caught_and_nothing_stays(
    lively: Path, tmp_path: Path, same_process: list[Callable[[Path], None]]
) -> None:
    def change_one_number(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        name = next(name for name in tensors if name.endswith("layers.0.mlp.up_proj.weight"))
        tensors[name][0, 0] += 0.1
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    same_process.append(change_one_number)
    with pytest.raises(CheckpointError, match="do not answer as the original"):
        export(lively, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_picture_settings_in_the_files_are_caught(
    lively: Path, tmp_path: Path, same_process: list[Callable[[Path], None]]
) -> None:
    def darken(folder: Path) -> None:
        file = folder / "preprocessor_config.json"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("0.48145466", "0.58145466"), encoding="utf-8")

    same_process.append(darken)
    with pytest.raises(CheckpointError, match="do not answer as the original"):
        export(lively, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_files_that_do_not_open_fail_in_the_clean_process_with_its_words(
    lively: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "nobody"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="model_type 'nobody'"):
        _reload.look_in_clean_process(broken, [Conversation.of("a")])


def test_a_merge_that_goes_wrong_is_caught(
    lora_run: Path, tmp_path: Path, same_process: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.nn import adapters

    real = adapters.merge

    def lose_one(network: Any) -> Any:
        merged = real(network)
        with torch.no_grad():
            merged.model.language_model.layers[0].mlp.up_proj.weight.mul_(1.01)
        return merged

    monkeypatch.setattr(adapters, "merge", lose_one)
    with pytest.raises(AdapterError, match="merging"):
        export(lora_run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_too_small_to_see_is_refused(
    lora_run: Path, tmp_path: Path, same_process: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrink(network: Any, adapter: Path, base: Path) -> None:
        put_adapter(network, adapter, base)
        for name, parameter in network.named_parameters():
            if ".lora_B." in name:
                parameter.data *= 1e-9

    import manako.infer.open as opening

    put_adapter = opening.put_adapter
    monkeypatch.setattr(opening, "put_adapter", shrink)
    with pytest.raises(AdapterError, match="no more than rounding"):
        export(lora_run, tmp_path / "out")


def test_an_existing_folder_is_refused_before_anything_is_opened(
    lively: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        export(lively, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="exists already"):
        export(lively, tmp_path / "out" / "mine.txt")


@pytest.mark.parametrize("at", ["weights", "generation", "processor", "record"])
def test_a_full_disk_leaves_nothing(
    lively: Path,
    tmp_path: Path,
    same_process: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    from transformers import GenerationConfig, PreTrainedModel

    from manako.families._shared import qwen

    places: dict[str, tuple[Any, str]] = {
        "weights": (PreTrainedModel, "save_pretrained"),
        "generation": (GenerationConfig, "to_json_file"),
        "processor": (qwen, "copy_text_files"),
        "record": (safetensors, "write_record"),
    }
    before = fingerprint(lively)
    monkeypatch.setattr(*places[at], full)
    with pytest.raises(WriteError, match="No space left"):
        export(lively, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert checkpoint.fingerprint(lively) == before


def test_an_unknown_form_or_dtype_is_named(lively: Path, tmp_path: Path) -> None:
    with pytest.raises(NotInThisVersion, match=r"'gguf'.*known: safetensors"):
        export(lively, tmp_path / "out", to="gguf")
    with pytest.raises(InputError, match="int8"):
        export(lively, tmp_path / "out", dtype="int8")


def test_probes_survive_the_way_to_another_process(lively: Path) -> None:
    probes = default_probes(open_model(lively).family)
    assert probes_from_json(probes_to_json(probes)) == probes
    assert sum(len(probe.images) for probe in probes) == 4
