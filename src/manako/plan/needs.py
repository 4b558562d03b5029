"""What a job needs of memory, from a card alone: every term by name, no torch, no checkpoint.

Training is the arithmetic of `plan.py` on an inventory that the card's sizes describe; running is
weights, key-value cache and buffers. All figures are arithmetic: none was measured on a GPU yet,
so none carries a `±`; on a CPU the spread of a training process was measured (`PROCESS_SPREAD`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from manako.catalogue.ability import ability_of
from manako.catalogue.cards import HALF_BYTES, Card, Download
from manako.catalogue.facts import How, source_of
from manako.core.errors import InputError
from manako.core.recipe import Recipe, Source
from manako.families._shared.sizes import image_tokens
from manako.plan.activations import BACKWARD_COPIES, FLOAT32_BYTES
from manako.plan.dims import Dims, dims_of, is_mixture
from manako.plan.inventory import Inventory, Weight
from manako.plan.packs import PackCost
from manako.plan.plan import IMPORT_BYTES, PROCESS_SPREAD, count_memory

Method = Literal["full", "lora", "qlora", "run"]
Device = Literal["gpu", "mac", "cpu"]
Bits = Literal[16, 8, 4]
Basis = Literal["checked", "standard", "weights"]
"""How far the count goes: the family's own counts, checked against what a step really keeps; those
of a standard decoder; or no more than the weights, because the card has no sizes."""

TRAINED_SHARE = 4
"""Of a full pack a quarter is trained, and half of it are pictures: what `examples/` assume."""
TEXT_TOKENS = 512
"""Words and answer beside the pictures of one conversation."""
PACKS_PER_STEP = 8
QUANTISED_BYTES = {16: 2.0, 8: 34 / 32, 4: 4_920_000_000 / 8_030_261_248}
"""Bytes of a parameter. 8 bit: Q8_0, 32 numbers and a half-precision scale. 4 bit: Q4_K_M, whose
blocks differ, by a published file (Llama-3.1-Swallow-8B-Instruct-v0.2, 4.92 GB)."""
FILE_BYTES = {16: (1.3, 2.5), 8: (0.95, 1.3), 4: (0.5, 0.95)}
"""Between which bytes a parameter the files of these bits lie."""
OLLAMA = "Ollama"
NF4_BYTES = 0.5 + 0.127 / 8
"""QLoRA: four bits a number and 0.127 for the double-quantised scales (arXiv 2305.14314)."""
LOGIT_POSITIONS = 512
"""Positions whose logits a run holds at once: the batch in which llama.cpp reads a prompt."""
RUNTIME_BYTES = {"gpu": 600_000_000, "mac": 500_000_000, "cpu": 500_000_000}
"""CUDA's context and libraries, or the program itself: 0.3 to 0.6 GB, recalled."""
GATHERED_LAYERS = 2
"""Layers whose weights every GPU holds whole while they are shared out."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done, and with how much at once.

    pictures: (width, height) in pixels of the pictures of one conversation. pack_tokens: room of a
    pack; training only. context_tokens: prompt and answer; running only. bits: of the weights that
    are run. gpus: GPUs that share the work. device: what it runs on.
    """

    method: Method
    pictures: tuple[tuple[int, int], ...] = ()
    pack_tokens: int = 2048
    context_tokens: int = 4096
    lora_r: int = 16
    bits: Bits = 16
    gpus: int = 1
    device: Device = "gpu"

    def __post_init__(self) -> None:
        for name in ("pack_tokens", "context_tokens", "lora_r", "gpus"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")

    @property
    def is_training(self) -> bool:
        return self.method != "run"


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand. name: a term of `plan.Memory`, or mmproj, kv_cache, compute, runtime, process,
    gathered. how: how sure the figure is."""

    name: str
    bytes: int
    how: How = "computed"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The memory of one device at the worst moment; the terms add up to the total.

    is_lower_bound: a term is missing because the card does not know its sizes: `at least`.
    picture_tokens: of all pictures together; None where no rule is known. tokens: room that the job
    takes, raised where the pictures need more than was asked for.
    """

    job: Job
    terms: tuple[Term, ...]
    basis: Basis
    is_lower_bound: bool
    picture_tokens: int | None
    tokens: int

    @property
    def total_bytes(self) -> int:
        return sum(term.bytes for term in self.terms)

    @property
    def is_recalled(self) -> bool:
        """Whether the weights, the largest of all terms, are a recalled figure."""
        return any(term.how == "recalled" for term in self.terms if term.name == "weights")


def needs(card: Card, job: Job) -> Needs:
    """What a job needs of one device.

    Raises `InputError` for a card that knows not even how many parameters there are, `ImageError`
    for a picture that the model refuses.
    """
    if card.parameters is None and card.weight_bytes is None:
        raise InputError(
            f"the card of {card.id} knows neither parameters nor bytes",
            next_step="read them with `manako models refresh`",
        )
    dims = dims_of(card)
    pictures = count_pictures(card, job)
    count = _train if job.is_training else _run
    terms = tuple(term for term in count(card, job, dims, pictures) if term.bytes)
    return Needs(
        job=job,
        terms=terms,
        basis=_basis(card, dims),
        is_lower_bound=dims is None,
        picture_tokens=pictures,
        tokens=room(job, pictures),
    )


def count_pictures(card: Card, job: Job) -> int | None:
    """Tokens of all pictures of a conversation; None where the card has no rule."""
    if card.image_rule is None:
        return None if job.pictures else 0
    rule = card.image_rule
    return sum(image_tokens(rule.rule, *size, rule.settings) for size in job.pictures)


def room(job: Job, picture_tokens: int | None) -> int:
    """Tokens of a pack, or of the context: what was asked for, or more where the pictures need it."""
    asked = job.pack_tokens if job.is_training else job.context_tokens
    return max(asked, picture_tokens + TEXT_TOKENS) if picture_tokens else asked


def _basis(card: Card, dims: Dims | None) -> Basis:
    if dims is None:
        return "weights"
    return "checked" if ability_of(card.family).can_train else "standard"


def _train(card: Card, job: Job, dims: Dims | None, pictures: int | None) -> Iterator[Term]:
    how = _weights_how(card)
    if dims is None or card.parameters is None:
        wide = FLOAT32_BYTES * 4 if job.method == "full" else HALF_BYTES
        share = NF4_BYTES if job.method == "qlora" else wide
        yield Term(name="weights", bytes=math.ceil(share * _parameters(card) / job.gpus), how=how)
        yield Term(name="runtime", bytes=RUNTIME_BYTES[job.device], how="recalled")
        return
    memory = _memory(card, job, dims, pictures)
    kept = [(name, size) for name, size in memory.items() if name not in ("weights", "runtime")]
    yield Term(name="weights", bytes=memory["weights"], how=how)
    yield from (Term(name=name, bytes=size) for name, size in kept)
    if job.device == "cpu":
        high = IMPORT_BYTES[1] + (PROCESS_SPREAD[1] - 1) * sum(memory.values())
        yield Term(name="process", bytes=int(high), how="measured")
    else:
        yield Term(name="runtime", bytes=RUNTIME_BYTES[job.device], how="recalled")


def _memory(card: Card, job: Job, dims: Dims, pictures: int | None) -> dict[str, int]:
    """Bytes of tensors by term at the worst moment of a step, on one device."""
    recipe, inventory = training_recipe(job), inventory_of(card, dims)
    pack = full_pack(dims, room(job, pictures), pictures)
    memory = count_memory(recipe, inventory, dims.shapes, pack)
    parts = dataclasses.asdict(memory)
    peaks = parts.pop("backward_peak"), parts.pop("update_peak")
    named = ("weights", "adapters", "casts", "gradients", "optimizer")
    if peaks[0] < peaks[1]:
        parts = {name: parts[name] for name in named if name != "casts"}
    else:
        parts["logits"] = peaks[0] - sum(parts.values()) + parts["logits"]
    if job.method == "qlora":
        parts["weights"] -= int(_hidden(inventory) * (HALF_BYTES - NF4_BYTES))
    if job.gpus > 1:
        parts |= {name: math.ceil(parts[name] / job.gpus) for name in named if name in parts}
        layer = (
            sum(w.parameters for w in inventory.of_part("language")) / dims.shapes.language.layers
        )
        parts["gathered"] = int(layer * GATHERED_LAYERS * HALF_BYTES)
    return parts


def _hidden(inventory: Inventory) -> int:
    """Parameters that QLoRA holds in four bits: the matrices of the decoder's layers."""
    return sum(w.parameters for w in inventory.of_part("language") if w.is_hidden_matrix)


def training_recipe(job: Job) -> Recipe:
    """The recipe that the arithmetic is done for: vision frozen, the projector in full, the
    language part by the method, in bfloat16."""
    lora = job.method != "full"
    return Recipe(
        model="",
        data=(Source(path="data"),),
        output_dir="",
        method="lora" if lora else "full",
        lora_r=job.lora_r,
        pack_tokens=job.pack_tokens,
        global_batch_packs=PACKS_PER_STEP,
        bf16=True,
    )


def full_pack(dims: Dims, tokens: int, picture_tokens: int | None) -> PackCost:
    """The pack that memory must allow for: full, half of it pictures, a quarter trained."""
    pictures = max(tokens // 2, picture_tokens or 0) if dims.shapes.vision.width else 0
    return PackCost(
        rows=1,
        tokens=tokens,
        trained_tokens=tokens // TRAINED_SHARE,
        vision_patches=math.ceil(pictures * dims.patches_per_token),
    )


def inventory_of(card: Card, dims: Dims) -> Inventory:
    """The weights that a card's sizes describe; what they do not name stands as one weight a part."""
    assert card.parameters is not None
    own = card.parameters
    language = own.language or own.total - (own.vision or 0) - (own.projector or 0)
    ends = [_embedding(dims, "embed", is_head=dims.ties_head)]
    ends += [] if dims.ties_head else [_embedding(dims, "head", is_head=True)]
    linears = [
        Weight(
            name=f"linear.{place}.{number}",
            part="language",
            shape=(out, into),
            is_hidden_matrix=True,
            is_adapter_target=True,
        )
        for place, (out, into, count) in enumerate(dims.linears)
        for number in range(count)
    ]
    named = [*ends, *linears]
    rest = max(0, language - sum(weight.parameters for weight in named))
    left = Weight(name="rest", part="language", shape=(rest,), is_hidden_matrix=is_mixture(card))
    vision = Weight(name="vision", part="vision", shape=(own.vision or 0,))
    other = Weight(name="audio", part="vision", shape=(own.audio or 0,))
    return Inventory((*named, left, vision, other, *_projector(own.projector or 0, dims)), True)


def _embedding(dims: Dims, name: str, *, is_head: bool) -> Weight:
    shape = (dims.shapes.language.vocabulary, dims.shapes.language.width)
    return Weight(name=name, part="language", shape=shape, is_head=is_head)


def _projector(parameters: int, dims: Dims) -> Iterator[Weight]:
    """The projector's matrices where the config tells them; else all of it counts as one."""
    matrices = [
        Weight(name=f"projector.{place}", part="projector", shape=shape, is_hidden_matrix=True)
        for place, shape in enumerate(dims.merger)
    ]
    known = sum(weight.parameters for weight in matrices)
    if not matrices or known > parameters:
        yield Weight(name="projector", part="projector", shape=(parameters,), is_hidden_matrix=True)
        return
    yield from matrices
    yield Weight(name="projector.rest", part="projector", shape=(parameters - known,))


def _run(card: Card, job: Job, dims: Dims | None, pictures: int | None) -> Iterator[Term]:
    yield from (
        dataclasses.replace(term, bytes=math.ceil(term.bytes / job.gpus))
        for term in _run_terms(card, job, dims, room(job, pictures), pictures)
    )
    yield Term(name="runtime", bytes=RUNTIME_BYTES[job.device], how="recalled")


def _run_terms(
    card: Card, job: Job, dims: Dims | None, tokens: int, pictures: int | None
) -> Iterator[Term]:
    yield from _run_weights(card, job)
    if dims is None:
        return
    language, vision = dims.shapes.language, dims.shapes.vision
    yield Term(name="kv_cache", bytes=dims.attention.numbers(tokens) * HALF_BYTES)
    patches = math.ceil((pictures or 0) * dims.patches_per_token)
    widest = max(tokens * language.ffn_width, patches * vision.ffn_width)
    logits = LOGIT_POSITIONS * language.vocabulary * FLOAT32_BYTES
    yield Term(name="compute", bytes=BACKWARD_COPIES * widest * HALF_BYTES + logits)


def _run_weights(card: Card, job: Job) -> Iterator[Term]:
    """The weights; below 16 bits what sees stays at 16, as a projector file (mmproj) has it."""
    how = _weights_how(card)
    if job.bits == 16:
        yield Term(name="weights", bytes=card.size_bytes or 0, how=how)
        return
    seeing = _seeing(card)
    if (file := published_file(card, job.bits)) is not None:
        seeing = 0 if OLLAMA in file.form else seeing
        yield Term(name="weights", bytes=file.bytes or 0, how=source_of(file).how)
    else:
        quantised = (_parameters(card) - seeing) * QUANTISED_BYTES[job.bits]
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
        each = (file.bytes or 0) / (_parameters(card) or 1)
        if file.bytes and (named or (is_tag and low <= each < high)):
            return file
    return None


def _seeing(card: Card) -> int:
    own = card.parameters
    return (own.vision or 0) + (own.projector or 0) + (own.audio or 0) if own else 0


def _parameters(card: Card) -> int:
    return card.parameters.total if card.parameters else (card.size_bytes or 0) // HALF_BYTES


def _weights_how(card: Card) -> How:
    fact = card.parameters or card.weight_bytes
    assert fact is not None
    how = source_of(fact).how
    return "recalled" if how == "recalled" else "computed"
