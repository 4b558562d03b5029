"""Opens a checkpoint folder, a run, an adapter or a shipped model on the device that is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import AdapterError, InputError, NotInThisVersion
from manako.core.family import Family, Processor, family_of
from manako.core.files import read_json
from manako.core.known_facts import accepting
from manako.infer.model import Model
from manako.infer.source import CONFIG, find_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from manako.hub.files import Progress

__all__ = ["Model", "open_model"]

DTYPES = ("float32", "bfloat16", "float16")
DTYPE_FIELDS = ("dtype", "torch_dtype", "model_dtype")
TEXT_CONFIGS = ("text_config", "language_config", "llm_cfg")
GENERATION = "generation_config.json"
TRAINER = "trainer.json"
"""Beside the adapter of a run: where the run was, and its recipe as resolved."""
UNCHANGING: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "bad_words_ids": (),
    "suppress_tokens": ((), []),
    "begin_suppress_tokens": ((), []),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "sequence_bias": (),
    "guidance_scale": (1, 1.0),
    "stop_strings": (),
}
"""Fields of generation_config.json that change greedy answers → values (besides null) with which
they do not. Source: `GenerationConfig`, transformers 5.24."""


def open_model(
    source: str | Path,
    *,
    revision: str | None = None,
    adapter: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    accept_facts: Iterable[str] = (),
    progress: Progress | None = None,
) -> Model:
    """Open a model for asking.

    source: a checkpoint folder; a run folder (its newest whole checkpoint; a LoRA run opens on
        its base); a checkpoint inside a run; an adapter folder (opens on its base); a name on the
        Hub (`org/name`), whose files are brought into the cache; or the name of a shipped model
        (`mini`). What exists as a folder is never looked for on the Hub.
    revision: branch, tag or commit of a model on the Hub; `main` where none is given.
    adapter: a folder with an adapter for the model, a LoRA run, or a name on the Hub.
    device: `cpu`, `cuda`, `cuda:1`, `mps`; by default the best that is there.
    dtype: `float32`, `bfloat16` or `float16`; by default the checkpoint's own on CUDA, and float32
        elsewhere.
    accept_facts: names of facts that hold whatever the checkpoint's files say (`core.known_facts`);
        a run brings those of its recipe.
    progress: is told (bytes so far, bytes in all) of a download.

    Of generation_config.json the end-of-turn tokens and `repetition_penalty` count; its drawing
    settings (`temperature`, `top_p`, `top_k`, `do_sample`) do not: they are the caller's.

    Raises `MissingFileError`, `CheckpointError`, `AdapterError` (keys that match nothing are
    listed; an adapter that changes nothing is refused), `InputError` for a device or dtype,
    `HubError` for what the Hub does not give, and `NotInThisVersion`.
    """
    named = find_model(source, revision=revision, adapter=adapter, progress=progress)
    family = family_of(named.folder)
    penalty = _repetition_penalty(family.text_folder(named.folder))
    where = _device(device)
    network = _load(named.folder, family, _dtype(dtype, where, named.folder, family), where)
    if named.adapter is not None:
        put_adapter(network, named.adapter, named.folder)
    network.train(False)
    network.requires_grad_(False)
    with accepting([*accept_facts, *_accepted_by_run(named.adapter or named.folder)]):
        processor = _processor(family, named.folder, named.adapter)
    return Model(
        network=network,
        processor=processor,
        family=family,
        folder=named.folder,
        adapter=named.adapter,
        repetition_penalty=penalty,
        notes=(
            *named.notes,
            *processor.notes,
            f"on {where} in {str(network.dtype).removeprefix('torch.')}",
        ),
    )


def put_adapter(network: PreTrainedModel, adapter: Path, base: Path) -> None:
    """Put an adapter on its base. Raises `AdapterError` for one that does not fit or does nothing."""
    from manako.nn.adapters import load

    found = load(network, adapter, base=base)
    if found.is_zero:
        raise AdapterError(
            f"{adapter} changes nothing: all of its {found.modules} adapted modules are zero",
            next_step="take a checkpoint of a later step, or open the base model itself",
        )


def _load(folder: Path, family: Family, dtype: str, device: str) -> PreTrainedModel:
    from manako.nn.checkpoint import load_model

    return load_model(folder, family, dtype=dtype, device=device)


def _processor(family: Family, folder: Path, adapter: Path | None) -> Processor:
    """The processor in force. A run may have picture limits of its own; asked with its base's, an
    adapter would see pictures of sizes it was never trained on."""
    if adapter is None:
        return family.open(folder)
    if (adapter / CONFIG).is_file():
        return family.open(adapter)
    processor = family.open(folder)
    if not (adapter / TRAINER).is_file():
        return processor
    recipe = read_json(adapter / TRAINER).get("recipe", {})
    smallest, largest = recipe.get("min_pixels"), recipe.get("max_pixels")
    if smallest is None and largest is None:
        return processor
    return processor.with_pixel_limits(min_pixels=smallest, max_pixels=largest)


def _accepted_by_run(folder: Path) -> list[str]:
    """Facts that the recipe accepts by which a checkpoint was trained."""
    if not (folder / TRAINER).is_file():
        return []
    return list(read_json(folder / TRAINER).get("recipe", {}).get("accept_facts", ()))


def _device(asked: str | None) -> str:
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked is None:
        return next((name for name, is_there in there.items() if is_there), "cpu")
    try:
        kind = torch.device(asked).type
    except RuntimeError as error:
        raise InputError(f"device {asked!r} is none; expected cpu, cuda, cuda:1 or mps") from error
    if not there.get(kind, kind == "cpu"):
        raise InputError(
            f"device {asked!r} is not on this machine", next_step="leave `device` out, or say cpu"
        )
    return asked


def _dtype(asked: str | None, device: str, folder: Path, family: Family) -> str:
    if asked is not None:
        if asked not in DTYPES:
            raise InputError(f"dtype {asked!r} is not one of {', '.join(DTYPES)}")
        return asked
    return checkpoint_dtype(folder, family) if device.startswith("cuda") else "float32"


def checkpoint_dtype(folder: Path, family: Family) -> str:
    """The dtype that a checkpoint's config.json names; float32 where it names none."""
    config = family.read_config(folder)
    inner = (config.get(name) for name in TEXT_CONFIGS)
    texts = [config, *(text for text in inner if isinstance(text, dict))]
    named = [str(c.get(key)).removeprefix("torch.") for c in texts for key in DTYPE_FIELDS]
    return next((dtype for dtype in named if dtype in DTYPES), "float32")


def _repetition_penalty(folder: Path) -> float:
    """From generation_config.json. Raises `NotInThisVersion` for a field that would change greedy
    answers and is not implemented: to leave it out would change them silently."""
    if not (folder / GENERATION).is_file():
        return 1.0
    settings = read_json(folder / GENERATION)
    for name, harmless in UNCHANGING.items():
        value = settings.get(name)
        if value is not None and value not in harmless:
            raise NotInThisVersion(
                f"{folder / GENERATION}: {name} = {value!r} is not in this version",
                next_step=f"take {name} out of that file to decode without it",
            )
    return float(settings.get("repetition_penalty") or 1.0)
