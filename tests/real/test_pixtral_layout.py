"""Pixtral's rows, row ends and turns beside its authors' encoder (mistral-common), with the real vocabulary.

Two habits of theirs are not in the checkpoint's template, which is what Manako follows: a question
of one text and one picture after it is turned round, and texts side by side get a blank line between.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from manako.core.conversation import Conversation, Message, Text
from manako.core.files import read_json, write_json
from manako.families.pixtral import FAMILY
from manako.verify._subject import picture

LONGEST, PATCH = 1024, 16
"""Of the published preprocessor_config.json."""
TALKS: dict[str, list[dict[str, Any]]] = {
    "one picture": [{"role": "user", "content": ["次の画像に", [640, 480], "何が見えますか。"]}],
    "picture first": [{"role": "user", "content": [[33, 900], "Describe it."]}],
    "several": [{"role": "user", "content": [[16, 16], "日本", [1500, 700], "墺。違いを説明して"]}],
    "turns": [
        {"role": "user", "content": [[100, 100], "一枚目は?"]},
        {"role": "assistant", "content": ["灰色です。👍🏽"]},
        {"role": "user", "content": ["二枚目", [1024, 1024], "は?"]},
    ],
    "text": [{"role": "user", "content": ["don't  1234567 が e\u0301"]}],
    "wide": [{"role": "user", "content": [[2000, 17], "?"]}],
}  # fmt: skip


@pytest.fixture(scope="module")
def reference(
    real: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[int]]]:
    """The vocabulary as a tokenizer.json, and the authors' tokens of each talk."""
    vocabulary = tmp_path_factory.mktemp("tekken") / "tokenizer.json"
    python = real / "pixtral" / "bin" / "python"
    script = Path(__file__).with_name("pixtral_reference.py")
    tekken = next((real / "pixtral").rglob("tekken_240911.json"))
    run = subprocess.run(
        [python, script, tekken, vocabulary],
        input=json.dumps(list(TALKS.values())),
        capture_output=True,
        text=True,
        check=True,
    )
    return vocabulary, dict(zip(TALKS, json.loads(run.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(scope="module")
def folder(
    reference: tuple[Path, dict[str, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny checkpoint with Pixtral-12B's vocabulary and picture sizes; its weights are not used."""
    made = tmp_path_factory.mktemp("pixtral") / "model"
    FAMILY.make_tiny(made)
    shutil.copy(reference[0], made / "tokenizer.json")
    settings = read_json(made / "tokenizer_config.json")
    settings.pop("added_tokens_decoder")
    write_json(made / "tokenizer_config.json", settings)
    config = read_json(made / "config.json")
    config["image_token_index"] = 10
    config["vision_config"] |= {"patch_size": PATCH, "image_size": LONGEST}
    write_json(made / "config.json", config)
    pictures = read_json(made / "preprocessor_config.json")
    pictures |= {"patch_size": {"height": PATCH, "width": PATCH}, "size": {"longest_edge": LONGEST}}
    write_json(made / "preprocessor_config.json", pictures)
    processor = read_json(made / "processor_config.json")
    write_json(made / "processor_config.json", {**processor, "patch_size": PATCH})
    (made / "generation_config.json").unlink()
    return made


def conversation(talk: list[dict[str, Any]]) -> Conversation:
    def parts(content: list[Any]) -> tuple[Any, ...]:
        return tuple(Text(part) if isinstance(part, str) else picture(*part) for part in content)

    return Conversation(tuple(Message(turn["role"], parts(turn["content"])) for turn in talk))


def test_control_tokens_have_their_published_ids(folder: Path) -> None:
    tokenizer = FAMILY.open(folder).tokenizer  # type: ignore[attr-defined]
    ids = [tokenizer.id_of(token) for token in ("[IMG]", "[IMG_BREAK]", "[IMG_END]")]
    assert ids == [10, 12, 13]


@pytest.mark.parametrize("name", sorted(TALKS))
def test_prompt_tokens_are_the_authors(
    name: str, folder: Path, reference: tuple[Path, dict[str, list[int]]]
) -> None:
    found = FAMILY.open(folder).encode_prompt(conversation(TALKS[name])).input_ids
    assert found.tolist() == reference[1][name]
