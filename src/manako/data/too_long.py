"""What becomes of a conversation that is longer than a pack: one explicit policy.

`error` stops the run, `drop` refuses the row (recorded), `shrink_images` gives all pictures of the
row the largest pixel limit at which it fits, `trim_text` cuts the end off its longest text that is
not trained. Answers are never cut, and no picture is ever cut short or left out: a row that still
does not fit is refused.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from manako.core.conversation import Conversation, Text
from manako.core.errors import RecipeError, RowError, TooLongError
from manako.core.example import Example, Lengths
from manako.core.family import Processor
from manako.core.recipe import TooLong

ZERO_WIDTH_JOINER = "\u200d"
SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"

Measure = Callable[[Conversation], Lengths]
MeasureAt = Callable[[Conversation, int], Lengths | None]
"""Lengths with pictures limited to so many pixels; None where the limit is below what is possible."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A conversation that fits. max_pixels: limit per picture, None for the processor's own.
    note: what was changed, in words; empty if nothing."""

    conversation: Conversation
    lengths: Lengths
    max_pixels: int | None = None
    note: str = ""


def fit(
    conversation: Conversation,
    *,
    limit_tokens: int,
    policy: TooLong,
    measure: Measure,
    measure_at: MeasureAt,
) -> Fit:
    """The conversation as it fits into `limit_tokens` under `policy`.

    Raises `TooLongError` under `error`, which stops a run; otherwise `RowError` with the reason
    `too_long` where the policy cannot make it fit.
    """
    lengths = measure(conversation)
    if lengths.tokens <= limit_tokens:
        return Fit(conversation=conversation, lengths=lengths)
    found = f"row {conversation.id} has {lengths.tokens} tokens, above the {limit_tokens} of a pack"
    if policy == "error":
        raise TooLongError(
            found,
            reason="too_long",
            row_id=conversation.id,
            next_step="raise pack_tokens, or set too_long: drop | shrink_images | trim_text",
        )
    fitted = None
    if policy == "shrink_images":
        fitted = _shrunk(conversation, limit_tokens, measure_at)
    elif policy == "trim_text":
        fitted = _trimmed(conversation, limit_tokens, measure)
    if fitted is None:
        raise RowError(f"{found} (too_long: {policy})", reason="too_long", row_id=conversation.id)
    return fitted


def _shrunk(conversation: Conversation, limit_tokens: int, measure_at: MeasureAt) -> Fit | None:
    areas = [image.width * image.height for image in conversation.images]
    best: tuple[int, Lengths] | None = None
    too_small, too_large = 0, max(areas, default=0) + 1
    while too_large - too_small > 1:
        pixels = (too_small + too_large) // 2
        lengths = measure_at(conversation, pixels)
        if lengths is not None and lengths.tokens > limit_tokens:
            too_large = pixels
            continue
        too_small = pixels
        if lengths is not None:
            best = (pixels, lengths)
    if best is None:
        return None
    pixels, lengths = best
    return Fit(
        conversation=conversation,
        lengths=lengths,
        max_pixels=pixels,
        note=f"pictures limited to {pixels} pixels each to fit a pack",
    )


def _trimmed(conversation: Conversation, limit_tokens: int, measure: Measure) -> Fit | None:
    place = _longest_untrained_text(conversation)
    if place is None:
        return None
    text = _text_at(conversation, place)
    best: Fit | None = None
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        count = (fits + too_long) // 2
        kept = _whole_characters(text, count)
        shorter = _with_text(conversation, place, kept)
        lengths = measure(shorter) if kept else None
        if lengths is not None and lengths.tokens > limit_tokens:
            too_long = count
            continue
        fits = count
        if lengths is not None:
            note = f"text cut after {len(kept)} of {len(text)} characters to fit a pack"
            best = Fit(conversation=shorter, lengths=lengths, note=note)
    return best


def _longest_untrained_text(conversation: Conversation) -> tuple[int, int] | None:
    """(message, part) of the longest text that is not trained; the first of equals."""
    lengths = {
        (number, at): len(part.text)
        for number, message in enumerate(conversation.messages)
        if not message.is_trained
        for at, part in enumerate(message.content)
        if isinstance(part, Text) and part.text
    }
    return max(lengths, key=lambda place: lengths[place], default=None)


def _text_at(conversation: Conversation, place: tuple[int, int]) -> str:
    part = conversation.messages[place[0]].content[place[1]]
    return part.text if isinstance(part, Text) else ""


def _with_text(conversation: Conversation, place: tuple[int, int], text: str) -> Conversation:
    number, at = place
    message = conversation.messages[number]
    content = (*message.content[:at], Text(text), *message.content[at + 1 :])
    changed = dataclasses.replace(message, content=content)
    messages = (*conversation.messages[:number], changed, *conversation.messages[number + 1 :])
    return dataclasses.replace(conversation, messages=messages)


def _whole_characters(text: str, count: int) -> str:
    """The first `count` code points, less those that would be torn from what follows them."""
    while 0 < count < len(text) and (_joins(text[count]) or text[count - 1] == ZERO_WIDTH_JOINER):
        count -= 1
    return text[:count]


def _joins(character: str) -> bool:
    """Whether a code point belongs to the one before it: voicing marks and accents, the variant
    selectors of kanji and emoji, skin tones, joiners."""
    is_mark = unicodedata.category(character).startswith("M")
    return is_mark or character == ZERO_WIDTH_JOINER or character in SKIN_TONES


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A processor whose rows fit into a pack: `measure` and `encode` for the loader, which agree.

    Picklable where the processor is.
    """

    processor: Processor
    pack_tokens: int
    policy: TooLong

    @property
    def fingerprint(self) -> Mapping[str, str]:
        return self.processor.fingerprint

    def measure(self, conversation: Conversation) -> Lengths:
        """Lengths of `encode(conversation)`. Raises as `fit` does."""
        return self._fit(conversation).lengths

    def encode(self, conversation: Conversation) -> Example:
        """The example, which fits; its notes say what was changed. Raises as `fit` does."""
        found = self._fit(conversation)
        example = self._limited(found.max_pixels).encode(found.conversation)
        if not found.note:
            return example
        return dataclasses.replace(example, notes=(*example.notes, found.note))

    def _fit(self, conversation: Conversation) -> Fit:
        return fit(
            conversation,
            limit_tokens=self.pack_tokens,
            policy=self.policy,
            measure=self.processor.measure,
            measure_at=self._measure_at,
        )

    def _measure_at(self, conversation: Conversation, max_pixels: int) -> Lengths | None:
        try:
            limited = self._limited(max_pixels)
        except RecipeError:
            return None  # below the least that the processor makes of a picture
        return limited.measure(conversation)

    def _limited(self, max_pixels: int | None) -> Processor:
        if max_pixels is None:
            return self.processor
        return self.processor.with_pixel_limits(min_pixels=None, max_pixels=max_pixels)
