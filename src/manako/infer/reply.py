"""What is asked for besides the prompt, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from manako.core.errors import InputError

FinishReason = Literal["stop", "length", "stop_string"]
"""stop: the model ended its turn; length: `max_new_tokens` or the model's context was reached;
stop_string: one of the caller's `stop` strings appeared."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a reply cost, in tokens; image tokens count as prompt tokens."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer. `str(reply)` is its text.

    text: without the end-of-turn token, and cut before a stop string.
    token_ids: every token the model wrote, the end-of-turn token included.
    finish_reason: `stop` for a whole answer, `length` for one cut by `max_new_tokens` or by the
        end of the context, `stop_string`.
    usage: `prompt_tokens` and `completion_tokens`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage

    def __str__(self) -> str:
        return self.text


class Settings(TypedDict, total=False):
    """The fields of `Asking` as keyword arguments."""

    max_new_tokens: int
    temperature: float
    top_p: float
    stop: str | Sequence[str]
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How to write an answer; the fields are the arguments of `Model.generate_content`.

    max_new_tokens: the longest answer.
    temperature: 0 takes the likeliest token every time; above 0 tokens are drawn.
    top_p: draw only among the likeliest tokens whose probabilities sum to this share.
    stop: strings that end the answer, left out of its text.
    seed: makes drawing repeatable; None draws anew each time.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: str | Sequence[str] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        if not _is_whole(self.max_new_tokens) or self.max_new_tokens < 1:
            raise InputError(
                f"max_new_tokens must be a whole number ≥ 1, is {self.max_new_tokens!r}"
            )
        if not _is_number(self.temperature) or self.temperature < 0:
            raise InputError(f"temperature must be a number ≥ 0, is {self.temperature!r}")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie in (0, 1], is {self.top_p!r}")
        if not all(isinstance(text, str) and text for text in stop):
            raise InputError(f"stop must hold strings that are not empty, is {stop!r}")
        if self.seed is not None and (not _is_whole(self.seed) or self.seed < 0):
            raise InputError(f"seed must be None or a whole number ≥ 0, is {self.seed!r}")

    @property
    def stops(self) -> tuple[str, ...]:
        return tuple(self.stop)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
