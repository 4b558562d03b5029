"""Conversations drawn to break a tokenizer: the same in every run."""

from __future__ import annotations

import random

from manako.core.conversation import Conversation, Image, Message, Part, Text
from manako.verify._subject import picture

WORDS = (
    "これは日本の画像です。", "違いを説明して", "答え：３２", "ｶﾞｷﾞｸﾞ", "が", "か\u3099", "e\u0301", "葛\U000e0100飾",
    "👩‍👩‍👧", "👍🏽", "🇯🇵", "  two  blanks ", "\ttab", "line\nbreak", "\n\n", "don't", "1234567890", "½ ① ㍿", "𠮷野家",
    "\u0338above", ">\u0338", "\u200b", "العربية", "हिन्दी", "<b>bold</b>", "{{ x }}", "a" * 40, "。" * 12,
)  # fmt: skip
COUNT = 500


def talks(
    control: list[str], *, with_pictures: bool, with_system: bool = True
) -> list[Conversation]:
    """`COUNT` conversations; one in three spells control tokens inside its words."""
    draw = random.Random(20261125)
    pictures = [picture(56, 56), picture(45, 90)]
    return [
        _talk(
            draw,
            number,
            control if number % 3 == 0 else [],
            pictures if with_pictures else [],
            with_system,
        )
        for number in range(COUNT)
    ]


def _talk(
    draw: random.Random, number: int, control: list[str], pictures: list[Image], with_system: bool
) -> Conversation:
    messages = []
    if with_system and draw.random() < 0.4:
        messages.append(Message("system", (Text(_words(draw, control)),)))
    for _ in range(draw.randint(1, 3)):
        messages.append(Message("user", _content(draw, control, pictures)))
        messages.append(Message("assistant", (Text(_words(draw, control)),)))
    return Conversation(tuple(messages), id=f"talk/{number}")


def _content(draw: random.Random, control: list[str], pictures: list[Image]) -> tuple[Part, ...]:
    """A text, with pictures before, between and after pieces of it."""
    parts: list[Part] = []
    for _ in range(draw.randint(1, 3)):
        if pictures and draw.random() < 0.5:
            parts.append(draw.choice(pictures))
        parts.append(Text(_words(draw, control)))
    if pictures and draw.random() < 0.2:
        parts.append(draw.choice(pictures))
    return tuple(parts)


def _words(draw: random.Random, control: list[str]) -> str:
    """Never blank: a turn without words is refused."""
    chosen = [draw.choice((*WORDS, *control)) for _ in range(draw.randint(1, 6))]
    return draw.choice(("", " ", "「")) + "x".join(chosen) + draw.choice(("", " ", "。", "\n"))
