"""Adapters: they sit where the family says, survive the disk, and merge into a plain model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from manako.core.errors import AdapterError, NotInThisVersion
from manako.core.files import read_json
from manako.families.qwen2_vl import FAMILY
from manako.nn import adapters, checkpoint

PEFT_ASKS_OLD_NAMES = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
IDS = torch.tensor([[5, 9, 3, 77, 120, 8, 41]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    FAMILY.make_tiny(folder, seed=0)
    return folder


@pytest.fixture
def model(base: Path) -> PreTrainedModel:
    return checkpoint.load_model(base, FAMILY)


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def learn(model: PreTrainedModel, *, seed: int = 1) -> None:
    """Give the adapters values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if adapters.is_adapter_parameter(name):
            parameter.data.normal_(std=0.1, generator=generator)


def saved(model: PreTrainedModel, base: Path, folder: Path, **options: object) -> Path:
    """A folder with the model's adapter, after it learned something."""
    learn(model)
    folder.mkdir()
    mark = checkpoint.fingerprint(base)
    adapters.save(model, FAMILY, folder, base=base, base_fingerprint=mark, **options)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def folder(model: PreTrainedModel, base: Path, tmp_path: Path) -> Path:
    adapters.attach(model, FAMILY, ["language", "projector"], r=4, alpha=8)
    return saved(model, base, tmp_path / "adapter")


def rewrite(folder: Path, change: object) -> None:
    tensors = load_file(folder / adapters.ADAPTER)
    save_file(change(tensors), folder / adapters.ADAPTER)  # type: ignore[operator]


@pytest.mark.parametrize("part", ["vision", "projector", "language"])
def test_adapters_sit_on_their_part_only_and_start_as_nothing(
    model: PreTrainedModel, part: str
) -> None:
    before = logits(model)
    names = adapters.attach(model, FAMILY, [part], r=4, alpha=8)  # type: ignore[list-item]
    assert {FAMILY.part_of(name) for name in names} == {part}
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len(names)
    assert all(adapters.is_adapter_parameter(name) for name in trained)
    assert torch.equal(logits(model), before)


def test_a_pattern_that_finds_nothing_or_leaks_is_an_error(model: PreTrainedModel) -> None:
    def family_with(pattern: str) -> object:
        return dataclasses.replace(FAMILY, adapter_targets={"language": pattern})

    for pattern, found in {
        r"model\.text\..*q_proj": "hits no module",
        r".*(q_proj|qkv)": r"hits model\.visual\.blocks\.0\.attn\.qkv",
        r"model\.language_model\.norm": r"hits model\.language_model\.norm",
    }.items():
        with pytest.raises(AdapterError, match=found):
            adapters.attach(model, family_with(pattern), ["language"], r=4, alpha=8)  # type: ignore[arg-type]
    with pytest.raises(AdapterError, match="no adapters for the vision part"):
        adapters.attach(model, family_with("x"), ["vision"], r=4, alpha=8)  # type: ignore[arg-type]


def test_a_second_adapter_is_refused(model: PreTrainedModel) -> None:
    adapters.attach(model, FAMILY, ["language"], r=4, alpha=8)
    with pytest.raises(AdapterError, match="carries an adapter already"):
        adapters.attach(model, FAMILY, ["projector"], r=4, alpha=8)


def test_a_saved_adapter_loads_on_its_base(
    model: PreTrainedModel, base: Path, folder: Path
) -> None:
    fresh = checkpoint.load_model(base, FAMILY)
    found = adapters.load(fresh, folder, base=base)
    assert torch.equal(logits(fresh), logits(model))
    assert found.modules == 16
    assert not found.is_zero
    assert adapters.read_base(folder)["transformers"]


@PEFT_ASKS_OLD_NAMES
def test_peft_opens_what_is_saved(model: PreTrainedModel, base: Path, folder: Path) -> None:
    from peft import PeftModel

    opened = PeftModel.from_pretrained(checkpoint.load_model(base, FAMILY), str(folder))
    assert torch.equal(logits(opened), logits(model))


@PEFT_ASKS_OLD_NAMES
def test_a_part_trained_in_full_travels_with_the_adapter(
    model: PreTrainedModel, base: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    adapters.attach(model, FAMILY, ["language"], r=4, alpha=8)
    merger = [name for name, _ in model.named_parameters() if FAMILY.part_of(name) == "projector"]
    model.model.visual.merger.mlp[0].weight.data.add_(0.5)
    folder = saved(model, base, tmp_path / "adapter", full=merger)
    assert read_json(folder / "adapter_config.json")["modules_to_save"] == ["model.visual.merger"]
    fresh = checkpoint.load_model(base, FAMILY)
    adapters.load(fresh, folder, base=base)
    changed = model.model.visual.merger.mlp[0].weight
    assert torch.equal(fresh.model.visual.merger.mlp[0].weight, changed)
    opened = PeftModel.from_pretrained(checkpoint.load_model(base, FAMILY), str(folder))
    kept = opened.base_model.model.model.visual.merger.modules_to_save.default.mlp[0].weight
    assert torch.equal(kept, changed)


def test_merged_weights_answer_alike(
    model: PreTrainedModel, base: Path, folder: Path, tmp_path: Path
) -> None:
    adapted = logits(model)
    plain = adapters.merge(model)
    # One rounding of each merged weight in float32; seen 5e-8 at logits of about 0.3.
    assert torch.allclose(logits(plain), adapted, atol=1e-6)
    checkpoint.save_model(plain, FAMILY, tmp_path)
    published = load_file(base / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors").keys() == published.keys()
    assert torch.equal(logits(checkpoint.load_model(tmp_path, FAMILY)), logits(plain))


def test_an_adapter_that_learned_nothing_loads_and_says_so(
    base: Path, folder: Path, model: PreTrainedModel
) -> None:
    rewrite(folder, lambda t: {k: v * 0 if ".lora_B." in k else v for k, v in t.items()})
    fresh = checkpoint.load_model(base, FAMILY)
    assert adapters.load(fresh, folder).is_zero


def test_an_adapter_whose_names_match_nothing_is_listed(base: Path, folder: Path) -> None:
    rewrite(folder, lambda t: {k.replace("language_model", "text"): v for k, v in t.items()})
    with pytest.raises(AdapterError, match=r"14 of 16 .* model\.text\.layers\.0") as caught:
        adapters.load(checkpoint.load_model(base, FAMILY), folder)
    assert "made with transformers" in caught.value.next_step


def test_keys_missing_left_over_or_of_another_shape_are_listed(base: Path, folder: Path) -> None:
    q = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    whole = load_file(folder / adapters.ADAPTER)

    def refusal(tensors: dict[str, torch.Tensor]) -> str:
        save_file(tensors, folder / adapters.ADAPTER)
        with pytest.raises(AdapterError) as caught:
            adapters.load(checkpoint.load_model(base, FAMILY), folder)
        return caught.value.message

    without_b = {k: v for k, v in whole.items() if k != f"{q}.lora_B.weight"}
    assert "keys missing: model.language_model.layers.0.self_attn.q_proj" in refusal(without_b)
    without = {k: v for k, v in whole.items() if not k.startswith(q)}
    assert "no weights for model.language_model.layers.0.self_attn.q_proj" in refusal(without)
    left_over = {**whole, f"{q}.lora_C.weight": torch.zeros(1)}
    assert "keys that match nothing" in refusal(left_over)
    misshapen = {**whole, f"{q}.lora_A.weight": torch.zeros(4, 5)}
    assert "(4, 5) for (4, 32)" in refusal(misshapen)
    assert "holds no tensor" in refusal({})
    assert "no adapter in PEFT's layout" in refusal({"x": torch.zeros(1)})


def test_an_adapter_belongs_to_its_base(folder: Path, tmp_path: Path) -> None:
    FAMILY.make_tiny(tmp_path / "other", seed=1)
    other = checkpoint.load_model(tmp_path / "other", FAMILY)
    with pytest.raises(AdapterError, match="trained on other weights"):
        adapters.load(other, folder, base=tmp_path / "other")


def test_what_this_version_does_not_compute_is_refused(base: Path, folder: Path) -> None:
    config = read_json(folder / "adapter_config.json")
    for change in ({"use_dora": True}, {"bias": "all"}, {"peft_type": "IA3"}):
        text = json.dumps({**config, **change})
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")
        with pytest.raises(NotInThisVersion):
            adapters.load(checkpoint.load_model(base, FAMILY), folder)
    with pytest.raises(AdapterError, match="holds no adapter"):
        adapters.read_base(base)


def test_restore_wants_the_same_places(base: Path, folder: Path, model: PreTrainedModel) -> None:
    fresh = checkpoint.load_model(base, FAMILY)
    adapters.attach(fresh, FAMILY, ["language", "projector"], r=4, alpha=8)
    adapters.restore(fresh, folder)
    assert torch.equal(logits(fresh), logits(model))
    other = checkpoint.load_model(base, FAMILY)
    adapters.attach(other, FAMILY, ["language"], r=4, alpha=8)
    with pytest.raises(AdapterError, match=r"other modules were adapted: model\.visual\.merger"):
        adapters.restore(other, folder)
