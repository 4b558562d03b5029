"""Low-rank adapters (LoRA, arXiv 2106.09685) through PEFT, put into a model in place.

Which modules are adapted is the family's to say, never a list of bare names: those leak from the
language model into the vision tower. On disk an adapter is PEFT's own layout, so PEFT opens it,
plus `base.json`, which says what it was trained on. A part that was trained in full beside the
adapters is kept in the same file, as PEFT keeps `modules_to_save`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from manako.core.errors import AdapterError, NotInThisVersion
from manako.core.files import read_json, write_json
from manako.nn import checkpoint
from manako.nn.checkpoint import listed

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from manako.core.family import Family, PartName

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
BASE = "base.json"
PREFIX = "base_model.model."
NAME = "default"
"""PEFT's name for the only adapter of a model."""

WEIGHT_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
USED_FIELDS = ("r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern")
IDLE_FIELDS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "revision",
        "target_modules",
        "task_type",
    }
)
"""Fields that say how an adapter was made, not what it computes; its keys say where it sits."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter that was put on a model.

    modules: how many modules it changes; parameters: how many numbers it has, parts trained in
    full included; is_zero: True where it changes nothing yet, as before its first step.
    """

    modules: int
    parameters: int
    is_zero: bool


def attach(
    model: PreTrainedModel,
    family: Family,
    parts: Sequence[PartName],
    *,
    r: int,
    alpha: int,
    dropout: float = 0.0,
) -> tuple[str, ...]:
    """Put fresh adapters on the linear modules of `parts`; returns the names of the modules.

    A fresh adapter changes nothing (B is zero; A comes from torch's random state). Everything but
    the adapters stops being trained. Raises `AdapterError` where the family's pattern finds no
    module, or one outside its part.
    """
    names = [name for part in parts for name in find_targets(model, family, part)]
    patterns = "|".join(f"({family.adapter_targets[part]})" for part in parts)
    _inject(model, patterns, {"r": r, "lora_alpha": alpha, "lora_dropout": dropout})
    return tuple(names)


def find_targets(model: nn.Module, family: Family, part: PartName) -> tuple[str, ...]:
    """Names of the modules that adapters of `part` sit on."""
    pattern = family.adapter_targets.get(part)
    if pattern is None:
        raise AdapterError(
            f"family {family.name} has no adapters for the {part} part",
            next_step=f"train {part} in full (`full RATE`) or freeze it",
        )
    hits = {name: m for name, m in model.named_modules() if re.fullmatch(pattern, name)}
    strays = [name for name, m in hits.items() if not _is_linear(m) or family.part_of(name) != part]
    if strays or not hits:
        found = f"hits {listed(strays)}" if strays else "hits no module"
        raise AdapterError(f"family {family.name}: the {part} adapter pattern {pattern!r} {found}")
    return tuple(hits)


def save(
    model: PreTrainedModel,
    family: Family,
    folder: Path,
    *,
    base: Path,
    base_fingerprint: str,
    full: Iterable[str] = (),
) -> None:
    """Write the adapter, and the parameters named in `full`, into `folder`.

    `base` is the checkpoint folder the adapter belongs to and `base_fingerprint` its
    `checkpoint.fingerprint`. Not atomic by itself; raises `OSError` when the disk is full.
    """
    layers = dict(_adapted(model))
    if not layers:
        raise AdapterError("the model has no adapter to save")
    whole = dict(model.named_parameters())
    tensors = {f"{PREFIX}{name}": whole[name] for name in full}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A[NAME].weight
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B[NAME].weight
    config: Any = model.peft_config[NAME]
    config.base_model_name_or_path = str(base)
    config.modules_to_save = _covering_modules(model, set(full)) or None
    config.inference_mode = True
    checkpoint.write_tensors(folder / ADAPTER, tensors)
    config.save_pretrained(str(folder))
    versions = {name: metadata.version(name) for name in ("transformers", "peft")}
    facts = {"path": str(base), "fingerprint": base_fingerprint, "family": family.name, **versions}
    write_json(folder / BASE, facts)


def read_base(folder: Path) -> dict[str, str]:
    """What an adapter was trained on: path, fingerprint, family, transformers, peft.

    An adapter that Manako did not make has only the path. Raises `AdapterError` where `folder`
    holds no adapter.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        raise AdapterError(f"{folder} holds no adapter: it has no {ADAPTER_CONFIG}")
    if (folder / BASE).is_file():
        return dict(read_json(folder / BASE))
    return {"path": str(read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "")}


def load(model: PreTrainedModel, folder: Path, *, base: Path | None = None) -> Adapter:
    """Put the adapter of a folder on `model`, which has none yet.

    With `base`, the folder `model` came from, the weights it was trained on are checked. Raises
    `AdapterError` when they differ, or when a key of the file matches nothing in the model, has
    another shape, or is missing; the keys are listed.
    """
    facts = read_base(folder)
    _check_base(folder, facts, base)
    config = _read_config(folder)
    tensors = _read_weights(folder)
    names = _adapted_names(tensors)
    made_with = facts.get("transformers", "an unknown version")
    _check_places(model, folder, names, made_with)
    if names:
        fields = {name: config[name] for name in USED_FIELDS if config.get(name) is not None}
        _inject(model, sorted(names), fields)
    absent = [name for name in _expected(model, config.get("target_modules")) if name not in names]
    if absent:
        raise AdapterError(f"{folder}: the adapter has no weights for {listed(absent)}")
    return _fill(model, folder, tensors)


def restore(model: PreTrainedModel, folder: Path) -> Adapter:
    """Read an adapter's weights into a model that already carries adapters in the same places."""
    tensors = _read_weights(folder)
    places = {name for name, _ in _adapted(model)}
    if places != _adapted_names(tensors):
        differing = places ^ _adapted_names(tensors)
        raise AdapterError(f"{folder}: other modules were adapted: {listed(differing)}")
    return _fill(model, folder, tensors)


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Add the adapters into the weights under them; the model is a plain one again, in place.

    The sum is made in the weights' own dtype: merge in float32, then round.
    """
    for name, layer in list(_adapted(model)):
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


def is_adapter_parameter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return f".{NAME}." in name and (".lora_A." in name or ".lora_B." in name)


def _inject(model: PreTrainedModel, targets: str | list[str], fields: Mapping[str, Any]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    if next(_adapted(model), None) is not None:
        raise AdapterError("the model carries an adapter already", next_step="merge it first")
    config: Any = LoraConfig(target_modules=targets, bias="none", **fields)
    inject_adapter_in_model(config, model, adapter_name=NAME)
    model.peft_config = {NAME: config}


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json; what it asks for and this version does not compute is refused."""
    from peft import LoraConfig

    config = read_json(folder / ADAPTER_CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else config
    if kind != "LORA":
        raise NotInThisVersion(f"{folder}: an adapter of kind {kind!r} is not in this version")
    usual = LoraConfig().to_dict()  # type: ignore[no-untyped-call]
    asked = [
        name
        for name, value in config.items()
        if name not in IDLE_FIELDS and name not in USED_FIELDS and (value or usual.get(name))
        if value != usual.get(name)
    ]
    if asked:
        raise NotInThisVersion(f"{folder}: adapters with {listed(asked)} are not in this version")
    return dict(config)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if not (folder / ADAPTER).is_file():
        raise AdapterError(
            f"{folder} has no {ADAPTER}", next_step="pickled adapters (*.bin) are never read"
        )
    tensors = checkpoint.read_tensors(folder / ADAPTER)
    foreign = [key for key in tensors if not key.startswith(PREFIX)]
    if foreign or not tensors:
        found = f"keys without {PREFIX!r}: {listed(foreign)}" if foreign else "it holds no tensor"
        raise AdapterError(f"{folder / ADAPTER} is no adapter in PEFT's layout: {found}")
    return {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}


def _adapted_names(tensors: Mapping[str, Tensor]) -> set[str]:
    matches = (WEIGHT_KEY.fullmatch(key) for key in tensors)
    return {match["module"] for match in matches if match}


def _check_base(folder: Path, facts: Mapping[str, str], base: Path | None) -> None:
    if base is None or "fingerprint" not in facts:
        return
    if checkpoint.fingerprint(base) != facts["fingerprint"]:
        raise AdapterError(
            f"{folder} was trained on other weights than {base} holds (on {facts['path']})",
            next_step="give the base model that the adapter was trained on",
        )


def _check_places(model: nn.Module, folder: Path, names: set[str], made_with: str) -> None:
    modules = dict(model.named_modules())
    lost = [name for name in names if not _is_linear(modules.get(name))]
    if lost:
        raise AdapterError(
            f"{folder}: {len(lost)} of {len(names)} adapted modules match nothing in the model: "
            f"{listed(lost)}",
            next_step=f"the adapter was made with transformers {made_with}; names changed between "
            "versions, or it belongs to another model",
        )


def _fill(model: PreTrainedModel, folder: Path, tensors: Mapping[str, Tensor]) -> Adapter:
    import torch

    targets = _targets(model)
    unknown = [key for key in tensors if key not in targets]
    missing = [key for key in targets if WEIGHT_KEY.fullmatch(key) and key not in tensors]
    misshapen = [
        f"{key} {tuple(tensor.shape)} for {tuple(targets[key].shape)}"
        for key, tensor in tensors.items()
        if key in targets and tensor.shape != targets[key].shape
    ]
    wrong = {"that match nothing": unknown, "missing": missing, "of another shape": misshapen}
    if said := [f"keys {what}: {listed(keys)}" for what, keys in wrong.items() if keys]:
        raise AdapterError(f"{folder}: the adapter does not fit the model; " + "; ".join(said))
    with torch.no_grad():
        for key, tensor in tensors.items():
            targets[key].copy_(tensor)
    changes = [t for key, t in tensors.items() if ".lora_A." not in key]
    return Adapter(
        modules=len(_adapted_names(tensors)),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        is_zero=not any(bool(tensor.any()) for tensor in changes),
    )


def _targets(model: nn.Module) -> dict[str, Tensor]:
    """Key in an adapter file → the parameter it fills."""
    targets: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if is_adapter_parameter(name):
            targets[name.replace(f".{NAME}.", ".")] = parameter
        else:
            targets[name.replace(".base_layer.", ".")] = parameter
    return targets


def _expected(model: nn.Module, target_modules: object) -> list[str]:
    """Modules that an adapter's own config says it sits on, where that can be told."""
    names = [name for name, m in model.named_modules() if _is_linear(m) or _is_adapted(m)]
    if isinstance(target_modules, str) and target_modules != "all-linear":
        return [name for name in names if re.fullmatch(target_modules, name)]
    return []


def _covering_modules(model: nn.Module, full: set[str], name: str = "") -> list[str]:
    """The largest modules whose parameters are all in `full`, as PEFT's `modules_to_save`."""
    module = model.get_submodule(name)
    prefix = f"{name}." if name else ""
    inside = {f"{prefix}{inner}" for inner, _ in module.named_parameters()}
    if name and inside and inside <= full:
        return [name]
    children = [f"{prefix}{child}" for child, _ in module.named_children()]
    return [found for child in children for found in _covering_modules(model, full, child)]


def _is_linear(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Linear) and not _is_adapted(module)


def _is_adapted(module: nn.Module | None) -> bool:
    return hasattr(module, "lora_A")
