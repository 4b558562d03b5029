"""Memory of running, term by term, from a card alone: weights, key-value cache, buffers."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

from manako.catalogue.cards import HALF_BYTES, Card, Download
from manako.catalogue.facts import source_of
from manako.plan.activations import BACKWARD_COPIES, FLOAT32_BYTES
from manako.plan.dims import Dims
from manako.plan.job import RUNTIME_BYTES, Bits, Job, Term, count_parameters, weights_how

QUANTISED_BYTES = {16: 2.0, 8: 34 / 32, 4: 4_920_000_000 / 8_030_261_248}
"""Bytes of a parameter. 8 bit: Q8_0, 32 numbers and a half-precision scale. 4 bit: Q4_K_M, whose
blocks differ, by a published file (Llama-3.1-Swallow-8B-Instruct-v0.2, 4.92 GB)."""
FILE_BYTES = {16: (1.3, 2.5), 8: (0.95, 1.3), 4: (0.5, 0.95)}
"""Between which bytes a parameter the files of these bits lie."""
OLLAMA = "Ollama"
LOGIT_POSITIONS = 512
"""Positions whose logits a run holds at once: the batch in which llama.cpp reads a prompt."""


def running_terms(
    card: Card, job: Job, dims: Dims | None, *, tokens: int, picture_tokens: int | None
) -> Iterator[Term]:
    """Every term of a run on one device; tokens: of the context."""
    yield from (
        dataclasses.replace(term, bytes=math.ceil(term.bytes / job.gpus))
        for term in _terms(card, job, dims, tokens, picture_tokens)
    )
    yield Term(name="runtime", bytes=RUNTIME_BYTES[job.device], how="recalled")


def _terms(
    card: Card, job: Job, dims: Dims | None, tokens: int, pictures: int | None
) -> Iterator[Term]:
    yield from _weights(card, job)
    if dims is None:
        return
    language, vision = dims.shapes.language, dims.shapes.vision
    yield Term(name="kv_cache", bytes=dims.attention.numbers(tokens) * HALF_BYTES)
    patches = math.ceil((pictures or 0) * dims.patches_per_token)
    widest = max(tokens * language.ffn_width, patches * vision.ffn_width)
    logits = LOGIT_POSITIONS * language.vocabulary * FLOAT32_BYTES
    yield Term(name="compute", bytes=BACKWARD_COPIES * widest * HALF_BYTES + logits)


def _weights(card: Card, job: Job) -> Iterator[Term]:
    """The weights; below 16 bits what sees stays at 16, as a projector file (mmproj) has it."""
    how = weights_how(card)
    if job.bits == 16:
        yield Term(name="weights", bytes=card.size_bytes or 0, how=how)
        return
    seeing = _seeing(card)
    if (file := published_file(card, job.bits)) is not None:
        seeing = 0 if OLLAMA in file.form else seeing
        yield Term(name="weights", bytes=file.bytes or 0, how=source_of(file).how)
    else:
        quantised = (count_parameters(card) - seeing) * QUANTISED_BYTES[job.bits]
        yield Term(name="weights", bytes=math.ceil(quantised), how=how)
    yield Term(name="mmproj", bytes=seeing * HALF_BYTES, how=how)


def published_file(card: Card, bits: Bits) -> Download | None:
    """A published file of these bits: its name says so, or its bytes do. An Ollama tag holds the
    projector as well."""
    low, high = FILE_BYTES[bits]
    for file in card.downloads:
        words = f"{file.form} {file.name}".lower()
        named = f"q{bits}" in words
        is_tag = OLLAMA in file.form and not re.search(r"q\d", words)
        each = (file.bytes or 0) / (count_parameters(card) or 1)
        if file.bytes and (named or (is_tag and low <= each < high)):
            return file
    return None


def _seeing(card: Card) -> int:
    own = card.parameters
    return (own.vision or 0) + (own.projector or 0) + (own.audio or 0) if own else 0
