"""Answers token by token with a key-value cache, for one prompt or a batch of them.

Prompts of a batch are padded at the left. Every row has the positions that its family gives to
the prompt *and* to the tokens to come (a picture moves the text after it on, so they cannot be
counted from the prompt's length), and never sees its padding.

The result of temperature 0 is that of `transformers`' own `generate(do_sample=False)`.

Legend: B rows, L padded prompt tokens, N new tokens at most, A position axes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from manako.core.example import Example, Pack
from manako.nn.batch import to_tensors
from manako.nn.cache import cache_argument, cache_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from manako.core.family import Processor
    from manako.infer.answer import Answer
    from manako.infer.choose import Choose


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts of a batch as the model takes them.

    inputs: keyword arguments of the first forward pass, rows padded at the left to L.
    seen: bool [B, L + N], False only at padding. later: int64 [A, B, N], positions of new tokens
    (A = 1: [B, N]). padded: whether any row is.
    """

    inputs: dict[str, Any]
    seen: Tensor
    later: Tensor
    padded: bool


def write_answers(
    network: Any,
    prompts: Prompts,
    answers: Sequence[Answer],
    choose: Choose,
    *,
    rows: Sequence[int],
    repetition_penalty: float = 1.0,
) -> Iterator[None]:
    """Write all answers; stops after each step, so that a caller may follow.

    Rows whose answer is complete leave the batch once they are half of it.
    """
    live = list(range(len(answers)))
    batch = _Batch(network, prompts, repetition_penalty)
    logits_BV = batch.start()
    while True:
        tokens = choose(logits_BV, [rows[row] for row in live])
        for row, token in zip(live, tokens, strict=True):
            if answers[row].finish_reason is None:
                answers[row].take(token)
        yield
        kept = [place for place, row in enumerate(live) if answers[row].finish_reason is None]
        if not kept:
            return
        if len(kept) <= len(live) // 2:
            live = [live[place] for place in kept]
            tokens = [tokens[place] for place in kept]
            batch.keep(kept)
        logits_BV = batch.step(tokens)


def prepare(
    examples: Sequence[Example], processor: Processor, *, max_new_tokens: int, network: Any
) -> Prompts:
    """Prompts of a batch on the model's device. Raises `BatchError` for a missing key."""
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    arrays = processor.model_inputs(pack)
    lengths = [example.tokens for example in examples]
    rows = {name: _padded_rows(array, lengths) for name, array in arrays.items()}
    arrays = {name: arrays[name] if row is None else row for name, row in rows.items()}
    seen = np.ones((len(lengths), max(lengths) + max_new_tokens), dtype=np.bool_)
    for row, length in enumerate(lengths):
        seen[row, : max(lengths) - length] = False
    later = np.stack([_later(e, processor, max_new_tokens) for e in examples], axis=1)
    device = network.device
    return Prompts(
        inputs=dict(to_tensors(arrays, processor.pixel_rule, device=device, dtype=network.dtype)),
        seen=torch.from_numpy(seen).to(device),
        later=torch.from_numpy(later if len(later) > 1 else later[0]).to(device),
        padded=len(set(lengths)) > 1,
    )


def _padded_rows(array: NDArray[Any], lengths: Sequence[int]) -> NDArray[Any] | None:
    """[..., 1, T] of a pack → [..., B, L], or None for an array that is not one entry a token.

    `Processor.model_inputs` gives everything that belongs to tokens in that shape; pictures come
    in the order of the rows, which is that of their image tokens in the batch as well.
    """
    if array.ndim < 2 or array.shape[-2:] != (1, sum(lengths)):
        return None
    rows = np.zeros((*array.shape[:-2], len(lengths), max(lengths)), dtype=array.dtype)
    end = 0
    for row, length in enumerate(lengths):
        rows[..., row, max(lengths) - length :] = array[..., 0, end : end + length]
        end += length
    return rows


def _later(example: Example, processor: Processor, count: int) -> NDArray[Any]:
    """int64 [A, count]: positions of the `count` text tokens that follow a prompt."""
    text = np.full(count, example.input_ids[-1], dtype=example.input_ids.dtype)
    longer = replace(
        example,
        input_ids=np.concatenate([example.input_ids, text]),
        trained=np.concatenate([example.trained, np.zeros(count, dtype=np.bool_)]),
    )
    return processor.positions(longer)[:, example.tokens :].astype(np.int64)


class _Batch:
    """Rows in the model, with their cache."""

    def __init__(self, network: Any, prompts: Prompts, repetition_penalty: float) -> None:
        self._network = network
        self._prompts = prompts
        self._later = prompts.later
        self._seen = prompts.seen
        self._length = prompts.inputs["input_ids"].shape[1]
        self._steps = 0
        self._cache: Any = None
        self._penalty = repetition_penalty
        self._used: Tensor | None = None

    def start(self) -> Tensor:
        """Read the prompts; logits [B, V] of each row's first new token."""
        inputs = self._prompts.inputs
        logits_BV = self._forward(inputs)
        if self._penalty != 1.0:
            self._used = torch.zeros_like(logits_BV, dtype=torch.bool)
            for row, ids in enumerate(inputs["input_ids"]):
                self._used[row, ids[self._seen[row, : self._length]]] = True
        return self._penalised(logits_BV)

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Read one new token a row; logits [B, V] of the next."""
        ids = torch.tensor(tokens, device=self._later.device)[:, None]
        positions = self._later[..., self._steps : self._steps + 1]
        self._steps += 1
        if self._used is not None:
            self._used.scatter_(1, ids, True)
        return self._penalised(self._forward({"input_ids": ids, "position_ids": positions}))

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(places, device=self._later.device)
        self._later = self._later.index_select(-2, index)
        self._seen = self._seen[index]
        self._used = None if self._used is None else self._used[index]
        self._cache.batch_select_indices(index)

    def _forward(self, inputs: Mapping[str, Any]) -> Tensor:
        mask = self._seen[:, : self._length + self._steps] if self._prompts.padded else None
        with torch.inference_mode():
            output = self._network(
                **inputs,
                attention_mask=mask,
                **cache_argument(self._network, self._cache),
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = cache_of(output)
        return output.logits[:, -1].float()  # type: ignore[no-any-return]

    def _penalised(self, logits_BV: Tensor) -> Tensor:
        """Lower the logits of tokens that stand in the row, as CTRL does (arXiv 1909.05858)."""
        if self._used is None:
            return logits_BV
        lowered = torch.where(logits_BV < 0, logits_BV * self._penalty, logits_BV / self._penalty)
        return torch.where(self._used, lowered, logits_BV)
