"""Reads a checkpoint folder's small files, in the old and the new spelling of each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manako.core.errors import CheckpointError
from manako.core.files import read_json, write_json
from manako.families._shared.template import ChatTemplate
from manako.families._shared.text_tokenizer import TextTokenizer

TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""Tokenizer and template files that an export carries along unchanged."""


IMAGE_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
"""Picture settings; a family whose limits can be changed writes its own."""


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a mapping."""
    return _required(folder, "config.json")


def open_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer of a checkpoint; tokenizer.json is the only form that is read."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json",
            next_step="save it once with transformers: AutoTokenizer.from_pretrained(folder)"
            ".save_pretrained(folder)",
        )
    tokenizer = TextTokenizer(file)
    try:
        _ = tokenizer.tokenizer
    except Exception as error:  # tokenizers raises bare Exception for a broken file
        raise CheckpointError(f"{file} is no readable tokenizer: {error}") from error
    _check_tokenizer_files(folder, tokenizer)
    return tokenizer


def _check_tokenizer_files(folder: Path, tokenizer: TextTokenizer) -> None:
    """Raise `CheckpointError` where a file beside tokenizer.json gives a token another id."""
    for name, ids in _ids_elsewhere(folder):
        for token, token_id in ids.items():
            if (found := tokenizer.id_of(token)) != token_id:
                raise CheckpointError(
                    f"{folder}: {name} gives {token!r} the id {token_id}, tokenizer.json "
                    f"{'does not have it' if found is None else f'gives it {found}'}",
                    next_step="take all tokenizer files from the same revision of the model",
                )


def _ids_elsewhere(folder: Path) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Token → id, by each file that says so."""
    added = _optional(folder, "tokenizer_config.json").get("added_tokens_decoder") or {}
    yield (
        "tokenizer_config.json",
        {entry["content"]: int(token_id) for token_id, entry in added.items()},
    )
    for name in ("added_tokens.json", "vocab.json"):
        yield name, _optional(folder, name)


def read_template(folder: Path, *, otherwise: str | None = None) -> ChatTemplate:
    """The chat template: chat_template.jinja, chat_template.json or tokenizer_config.json;
    `otherwise` where a checkpoint has none."""
    settings = _optional(folder, "tokenizer_config.json")
    source = _template_source(folder, settings) or otherwise
    if source is None:
        raise CheckpointError(
            f"{folder} has no chat template",
            next_step="put the model's chat_template.jinja beside its config.json",
        )
    return ChatTemplate(
        source, bos=_token(settings, "bos_token"), eos=_token(settings, "eos_token")
    )


def read_end_ids(
    folder: Path, tokenizer: TextTokenizer, *, end_token: str | None = None
) -> tuple[int, ...]:
    """Ids that end an answer: of generation_config.json, the tokenizer's eos token, and
    `end_token`."""
    generation = _optional(folder, "generation_config.json")
    found = generation.get("eos_token_id", [])
    ids = list(found) if isinstance(found, list) else [found]
    eos = _token(_optional(folder, "tokenizer_config.json"), "eos_token")
    for token in filter(None, (eos, end_token)):
        if (token_id := tokenizer.id_of(token)) is not None:
            ids.append(token_id)
    unique = tuple(dict.fromkeys(int(i) for i in ids if i is not None))
    if not unique:
        raise CheckpointError(
            f"{folder} names no end-of-turn token",
            next_step="generation_config.json needs eos_token_id, or tokenizer_config.json eos_token",
        )
    return unique


def read_eos_token(folder: Path) -> str | None:
    """The token that tokenizer_config.json names as the end of text, if it names one."""
    return _token(_optional(folder, "tokenizer_config.json"), "eos_token") or None


def read_image_settings(folder: Path) -> dict[str, Any]:
    """Image-processor settings: preprocessor_config.json, or inside processor_config.json."""
    if (folder / "preprocessor_config.json").is_file():
        return _required(folder, "preprocessor_config.json")
    nested = _optional(folder, "processor_config.json").get("image_processor")
    if nested is None:
        raise CheckpointError(
            f"{folder} has neither preprocessor_config.json nor an image_processor in "
            "processor_config.json",
            next_step="copy the processor files of the model into the folder",
        )
    return dict(nested)


def copy_text_files(source: Path, target: Path) -> None:
    """Copy tokenizer and template files as they are."""
    for name in TEXT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def copy_image_files(source: Path, target: Path) -> None:
    """Copy picture settings as they are."""
    for name in IMAGE_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def change_image_settings(folder: Path, **fields: Any) -> None:
    """Give fields of a folder's picture settings other values, in the file that holds them."""
    file = folder / "preprocessor_config.json"
    if file.is_file():
        write_json(file, {**_mapping(file), **fields})
        return
    file = folder / "processor_config.json"
    whole = _mapping(file)
    write_json(file, {**whole, "image_processor": {**whole["image_processor"], **fields}})


def check_agreement(
    folder: Path,
    *facts: tuple[str, object, object],
    files: tuple[str, str] = ("the processor files", "config.json"),
) -> None:
    """Raise `CheckpointError` where two files of a checkpoint differ.

    facts: (name, what the first of `files` says, what the second says).
    """
    for name, found, expected in facts:
        if found != expected:
            verb = "say" if files[0].endswith("files") else "says"
            raise CheckpointError(
                f"{folder}: {files[0]} {verb} {name} {found}, {files[1]} {expected}",
                next_step="take both files from the same revision of the model",
            )


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    named = _optional(folder, "chat_template.json") or settings
    source = named.get("chat_template", settings.get("chat_template"))
    if isinstance(source, list):
        by_name = {entry["name"]: entry["template"] for entry in source}
        source = by_name.get("default")
    return None if source is None else str(source)


def _token(settings: Mapping[str, Any], name: str) -> str:
    token = settings.get(name) or ""
    return token["content"] if isinstance(token, dict) else token


def _required(folder: Path, name: str) -> dict[str, Any]:
    if not (folder / name).is_file():
        raise CheckpointError(f"{folder} is no checkpoint: it has no {name}")
    return _mapping(folder / name)


def _optional(folder: Path, name: str) -> dict[str, Any]:
    return _mapping(folder / name) if (folder / name).is_file() else {}


def _mapping(file: Path) -> dict[str, Any]:
    found = read_json(file)
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return found
