"""An opened model: ask it once, many times at once, piece by piece, or turn by turn.

Text and pixels are made by the same processor that training uses; tokens are written by
`decode.py`. Nothing here keeps state between calls, so one Model may serve many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from manako.core.conversation import Conversation
from manako.core.errors import InputError, ManakoError
from manako.infer.answer import Answer
from manako.infer.chat import Chat
from manako.infer.prompt import check_length, prompt_of
from manako.infer.reply import Asking, Reply, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from manako.core.example import Example
    from manako.core.family import Family, Processor

SORTED_BATCHES = 8
"""Batches whose prompts are looked at together, so that prompts of about one length share one;
pixels of no more prompts than that are in memory at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A checkpoint, opened. Made by `manako.load` (`infer.open.open_model`).

    network: the `transformers` model, in evaluation mode. folder: of the whole model; `adapter`:
    of the adapter on it, if any. notes: what was decided when it was opened.
    """

    network: PreTrainedModel
    processor: Processor
    family: Family
    folder: Path
    adapter: Path | None = None
    repetition_penalty: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def context_tokens(self) -> int:
        """Tokens that prompt and answer may have together."""
        return int(self.network.config.get_text_config().max_position_embeddings)

    def generate_content(
        self,
        content: Any,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> Reply:
        """Answer one prompt: a string, a list of pictures and texts in any order, or a
        Conversation that ends before the answer.

        A `str` is always text; a picture is a Path, bytes, PIL image, array or data URL. The
        settings are those of `infer.reply.Asking`. An answer also ends where the model's context
        does. Raises `InputError`, `ImageError`, `MissingFileError`, `TooLongError`, and
        `NotInThisVersion` for films.
        """
        asking = Asking(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=seed,
        )
        (reply,) = self._replies([self._encoded(content)], asking)
        return reply

    def generate_batch(
        self,
        contents: Iterable[Any],
        *,
        batch_size: int = 16,
        progress: Callable[[int, int], object] | None = None,
        **settings: Unpack[Settings],
    ) -> list[Reply]:
        """Answer many prompts, `batch_size` at a time; the replies are in the prompts' order.

        Each reply is what `generate_content` gives for that prompt alone, with the same settings;
        where tokens are drawn, prompt i draws with `seed + i`. `progress(done, total)` is called
        after every batch.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, is {batch_size}")
        asking = Asking(**settings)
        prompts = list(contents)
        replies: dict[int, Reply] = {}
        for numbers, examples in self._batches(prompts, batch_size):
            found = self._replies(examples, asking, rows=numbers)
            replies.update(zip(numbers, found, strict=True))
            if progress is not None:
                progress(len(replies), len(prompts))
        return [replies[number] for number in range(len(prompts))]

    def stream_content(self, content: Any, **settings: Unpack[Settings]) -> Stream:
        """Like `generate_content` with the same settings, given out in pieces as it is written.

        No piece ends inside a character, and the pieces joined are the reply's text.
        """
        return Stream(self, self._encoded(content), Asking(**settings))

    def start_chat(self, system: str | None = None) -> Chat:
        """A conversation turn by turn; `system` is its first turn."""
        return Chat(self, system=system)

    def _encoded(self, content: Any, name: str = "") -> Example:
        try:
            example = self.processor.encode_prompt(prompt_of(content))
            check_length(example.tokens, self.context_tokens)
        except ManakoError as error:
            if name:
                error.message = f"{name}: {error.message}"
            raise
        return example

    def _batches(
        self, prompts: Sequence[Any], batch_size: int
    ) -> Iterator[tuple[list[int], list[Example]]]:
        """Numbers of prompts and their examples, about one length together."""
        window = SORTED_BATCHES * batch_size
        for first in range(0, len(prompts), window):
            numbers = range(first, min(first + window, len(prompts)))
            encoded = [(n, self._encoded(prompts[n], _name(n, prompts[n]))) for n in numbers]
            encoded.sort(key=lambda item: item[1].tokens)
            for start in range(0, len(encoded), batch_size):
                batch = encoded[start : start + batch_size]
                yield [number for number, _ in batch], [example for _, example in batch]

    def _replies(
        self, examples: Sequence[Example], asking: Asking, rows: Sequence[int] | None = None
    ) -> list[Reply]:
        answers = [self._answer(example, asking) for example in examples]
        for _ in self._writing(examples, answers, asking, rows or range(len(answers))):
            pass
        return [answer.reply() for answer in answers]

    def _answer(self, example: Example, asking: Asking, *, follow: bool = False) -> Answer:
        return Answer(
            lambda ids: self.processor.parse(ids).text,
            prompt_tokens=example.tokens,
            max_new_tokens=min(asking.max_new_tokens, self.context_tokens - example.tokens),
            end_ids=self.processor.end_ids,
            stops=asking.stops,
            follow=follow,
        )

    def _writing(
        self,
        examples: Sequence[Example],
        answers: Sequence[Answer],
        asking: Asking,
        rows: Sequence[int],
    ) -> Iterator[None]:
        from manako.infer.choose import chooser
        from manako.infer.decode import prepare, write_answers

        longest = max(answer.max_new_tokens for answer in answers)
        prompts = prepare(examples, self.processor, max_new_tokens=longest, network=self.network)
        return write_answers(
            self.network,
            prompts,
            answers,
            chooser(asking),
            rows=rows,
            repetition_penalty=self.repetition_penalty,
        )

    def with_pixel_limits(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Model:
        """The same model with other picture limits (pixels per picture)."""
        processor = self.processor.with_pixel_limits(min_pixels=min_pixels, max_pixels=max_pixels)
        return replace(self, processor=processor)


def _name(number: int, prompt: Any) -> str:
    row = prompt.id if isinstance(prompt, Conversation) else ""
    return f"prompt {number} (row {row})" if row else f"prompt {number}"


class Stream:
    """An answer in pieces. `reply` is the whole of it, once the pieces are used up."""

    def __init__(self, model: Model, example: Example, asking: Asking) -> None:
        self._answer = model._answer(example, asking, follow=True)
        self._steps = model._writing([example], [self._answer], asking, [0])

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for _ in self._steps:
            if piece := self._answer.piece():
                return piece
        raise StopIteration

    @property
    def reply(self) -> Reply:
        """The whole reply; what was not asked for yet is written first."""
        for _ in self:
            pass
        return self._answer.reply()
