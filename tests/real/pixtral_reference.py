"""Pixtral's tokens by its authors' own encoder; run in the environment of mistral-common.

python pixtral_reference.py TEKKEN.json OUT.json < conversations.json > tokens.json

Its vocabulary is written to OUT.json as a tokenizer.json by transformers' converter.

A conversation is a list of {role, content: [text or [width, height]]} that ends where the model is
asked, or with its answer.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer = MistralTokenizer.from_file(sys.argv[1])
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(json.dumps([_tokens(tokenizer, talk) for talk in json.load(sys.stdin)]) + "\n")


def _convert(tekken: Path, out: Path) -> None:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(tekken, Path(folder) / "tekken.json")
        AutoTokenizer.from_pretrained(folder).backend_tokenizer.save(str(out))


def _tokens(tokenizer: Any, talk: list[dict[str, Any]]) -> list[int]:
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    messages = [_message(turn) for turn in talk]
    request = ChatCompletionRequest(messages=messages)
    found: list[int] = tokenizer.encode_chat_completion(request).tokens
    return found


def _message(turn: dict[str, Any]) -> Any:
    from mistral_common.protocol.instruct.chunk import ImageChunk, TextChunk
    from mistral_common.protocol.instruct.messages import (
        AssistantMessage,
        SystemMessage,
        UserMessage,
    )
    from PIL import Image

    if turn["role"] == "user":
        chunks = [
            TextChunk(text=part)
            if isinstance(part, str)
            else ImageChunk(image=Image.new("RGB", part))
            for part in turn["content"]
        ]
        return UserMessage(content=chunks)
    kind = AssistantMessage if turn["role"] == "assistant" else SystemMessage
    return kind(content="".join(turn["content"]))


if __name__ == "__main__":
    main()
