"""What the makers of tiny checkpoints share: tokenizers of the published kinds, and the files.

A tiny checkpoint has random weights, a tokenizer trained on a few sentences, and the *published*
file layout: names of files, fields of config.json, and key names of the weights.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.files import write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALVES = (0.5, 0.5, 0.5)
"""SigLIP's mean and standard deviation."""
ZEROED_STD = 0.1

QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer (tokenizer.json of Qwen2.5-Instruct): every digit stands alone."""
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
"""Llama 3's (tokenizer.json of Llama-3.1-8B-Instruct): digits stand in threes."""
SMOLLM_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""SmolLM's: GPT-2's words, every digit alone (tokenizer.json of SmolLM2-1.7B-Instruct)."""

CORPUS = (
    "You are a helpful assistant. What is in the picture? Describe it.",
    "この画像に写っているものを説明してください。数字を順番に読んでください。",
    "これは日本の画像です。これはオーストリアの画像です。違いを説明して。",
)


def byte_level_tokenizer(
    corpus: Iterable[str] = CORPUS,
    *,
    vocabulary: int,
    control: Sequence[str],
    words: str = QWEN2_WORDS,
    nfc: bool = False,
) -> Tokenizer:
    """A byte-level BPE of `vocabulary` entries at most; `control` tokens stand at the end.

    words: the pre-tokenizer's pattern. nfc: whether text is normalised first, as Qwen does.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, trainers
    from tokenizers import pre_tokenizers as pre

    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    split = pre.Split(Regex(words), behavior="isolated")
    tokenizer.pre_tokenizer = pre.Sequence(
        [split, pre.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(control),
        initial_alphabet=sorted(pre.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    _add(tokenizer, control)
    return tokenizer


def sentencepiece_tokenizer(
    corpus: Iterable[str] = CORPUS,
    *,
    vocabulary: int,
    first: Sequence[str],
    control: Sequence[str] = (),
    prefix_space: bool,
    start: str | None = None,
) -> Tokenizer:
    """A BPE as converted from SentencePiece: blanks are `▁`, unknown characters fall back to bytes.

    first: control tokens at the head of the vocabulary (`<unk>` among them), control: at its end.
    prefix_space: whether every stretch of text gets a `▁` before it (Llama 2, Mistral; not Gemma).
    start: the token that the tokenizer itself puts before a text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    pieces = [*first, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainee = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    trainee.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 256 - len(control),
        special_tokens=list(first),
        show_progress=False,
        max_token_length=16,
    )
    trainee.train_from_iterator(corpus, trainer)
    learned = sorted(trainee.get_vocab(), key=trainee.get_vocab().__getitem__)
    vocabulary_ids = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *learned]))}
    merges = _merges(trainee)
    tokenizer = Tokenizer(
        models.BPE(vocabulary_ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps: list[Any] = [normalizers.Prepend("▁")] if prefix_space else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    _add(tokenizer, [*first, *control])
    if start is not None:
        begin = (start, tokenizer.token_to_id(start))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[begin]
        )
    return tokenizer


def write_tiny(
    folder: Path,
    *,
    model_class: str,
    config: Mapping[str, Any],
    tokenizer: Tokenizer,
    template: str | None,
    tokenizer_config: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    seed: int,
    published: Callable[[str], str | None] = lambda name: name,
    zeroed: Sequence[str] = (),
    model_module: str = "transformers",
) -> None:
    """Write a checkpoint folder: config, tokenizer, template, small files and random weights.

    model_class, model_module: as `Family` has them. template: goes to chat_template.jinja; None
    where tokenizer_config holds it, or nothing does. files: further JSON files by name. published: a model's parameter name → its name in the
    published weights, None where those leave it out (a tied head). zeroed: parameters that a fresh
    model has at zero, where a picture would not be seen; they are drawn as well.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_json(folder / "config.json", dict(config))
    write_json(
        folder / "tokenizer_config.json",
        {**tokenizer_config, "added_tokens_decoder": tokens_added(tokenizer)},
    )
    for name, content in files.items():
        write_json(folder / name, dict(content))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = getattr(importlib.import_module(model_module), model_class)
        model = kind(kind.config_class.from_dict(dict(config)))
        for name in zeroed:
            torch.nn.init.normal_(model.get_parameter(name), std=ZEROED_STD)
    save_weights(folder, model, published)


def save_weights(folder: Path, model: Any, published: Callable[[str], str | None]) -> None:
    """Weights under the key names of the published files."""
    from safetensors.torch import save_file

    named = {name: published(name) for name in model.state_dict()}
    weights = {
        kept: tensor.detach().contiguous().clone()
        for name, tensor in model.state_dict().items()
        if (kept := named[name]) is not None
    }
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _add(tokenizer: Tokenizer, control: Sequence[str]) -> None:
    from tokenizers import AddedToken

    tokens = [AddedToken(token, special=True, normalized=False) for token in control]
    tokenizer.add_special_tokens(tokens)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def tokens_added(tokenizer: Tokenizer) -> dict[str, Any]:
    """Control tokens as tokenizer_config.json lists them."""
    names = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {
        str(token_id): {name: getattr(token, name) for name in names}
        for token_id, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
