"""Memory of training, term by term, from a card alone: the plan's arithmetic on the inventory that
the card's sizes describe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from manako.catalogue.cards import HALF_BYTES, Card
from manako.core.recipe import Recipe, Source
from manako.plan.activations import FLOAT32_BYTES
from manako.plan.dims import Dims, is_mixture
from manako.plan.inventory import Inventory, Weight
from manako.plan.job import RUNTIME_BYTES, Job, Term, count_parameters, weights_how
from manako.plan.packs import PackCost
from manako.plan.plan import IMPORT_BYTES, PROCESS_SPREAD, count_memory

TRAINED_SHARE = 4
"""Of a full pack a quarter is trained, and half of it are pictures: what `examples/` assume."""
PACKS_PER_STEP = 8
NF4_BYTES = 0.5 + 0.127 / 8
"""QLoRA: four bits a number and 0.127 for the double-quantised scales (arXiv 2305.14314)."""
GATHERED_LAYERS = 2
"""Layers whose weights every GPU holds whole while they are shared out."""


def training_terms(
    card: Card, job: Job, dims: Dims | None, *, tokens: int, picture_tokens: int | None
) -> Iterator[Term]:
    """Every term of a training step's worst moment on one device; tokens: of the pack."""
    how = weights_how(card)
    if dims is None or card.parameters is None:
        wide = FLOAT32_BYTES * 4 if job.method == "full" else HALF_BYTES
        share = NF4_BYTES if job.method == "qlora" else wide
        yield Term(
            name="weights", bytes=math.ceil(share * count_parameters(card) / job.gpus), how=how
        )
        yield Term(name="runtime", bytes=RUNTIME_BYTES[job.device], how="recalled")
        return
    memory = _memory(card, job, dims, full_pack(dims, tokens, picture_tokens))
    kept = [(name, size) for name, size in memory.items() if name not in ("weights", "runtime")]
    yield Term(name="weights", bytes=memory["weights"], how=how)
    yield from (Term(name=name, bytes=size) for name, size in kept)
    if job.device == "cpu":
        high = IMPORT_BYTES[1] + (PROCESS_SPREAD[1] - 1) * sum(memory.values())
        yield Term(name="process", bytes=int(high), how="measured")
    else:
        yield Term(name="runtime", bytes=RUNTIME_BYTES[job.device], how="recalled")


def _memory(card: Card, job: Job, dims: Dims, pack: PackCost) -> dict[str, int]:
    """Bytes of tensors by term at the worst moment of a step, on one device."""
    recipe, inventory = training_recipe(job), inventory_of(card, dims)
    memory = count_memory(recipe, inventory, dims.shapes, pack)
    parts = dataclasses.asdict(memory)
    peaks = parts.pop("backward_peak"), parts.pop("update_peak")
    again = parts.pop("recomputed")
    named = ("weights", "adapters", "casts", "gradients", "optimizer")
    if peaks[0] < peaks[1]:
        parts = {name: parts[name] for name in named if name != "casts"}
    else:
        rest = peaks[0] - sum(parts.values()) + parts["logits"]
        layer = max(0, rest - parts["logits"]) if again else 0
        parts["activations_language"] += layer
        parts["logits"] = rest - layer
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
        gradient_checkpointing=job.is_checkpointed,
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
        for place, (out, into, count) in enumerate(dims.linears.every)
        for number in range(count)
    ]
    named = [*ends, *linears]
    rest = max(0, language - sum(weight.parameters for weight in named))
    left = Weight(name="rest", part="language", shape=(rest,), is_hidden_matrix=is_mixture(card))
    vision = Weight(name="vision", part="vision", shape=(own.vision or 0,))
    other = Weight(name="audio", part="vision", shape=(own.audio or 0,), is_trainable=False)
    return Inventory((*named, left, vision, other, *_projector(own.projector or 0, dims)), True)


def _embedding(dims: Dims, name: str, *, is_head: bool) -> Weight:
    shape = (dims.shapes.language.vocabulary, dims.shapes.language.width)
    return Weight(name=name, part="language", shape=shape, is_head=is_head)


def _projector(parameters: int, dims: Dims) -> Iterator[Weight]:
    """The projector's matrices where the config tells them; else all of it counts as one."""
    matrices = [
        Weight(name=f"projector.{place}", part="projector", shape=shape, is_hidden_matrix=True)
        for place, shape in enumerate(dims.projector.shapes())
    ]
    known = sum(weight.parameters for weight in matrices)
    if not matrices or known > parameters:
        yield Weight(name="projector", part="projector", shape=(parameters,), is_hidden_matrix=True)
        return
    yield from matrices
    yield Weight(name="projector.rest", part="projector", shape=(parameters - known,))
