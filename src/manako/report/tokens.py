"""Tokens of a sample event as pages and terminals show them: whitespace made visible, counted."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["trained", "untrained", "image"]
MARKS = {" ": "·", "\t": "⇥", "\n": "⏎", "\r": "␍", "\u3000": "□", "\u00a0": "⍽", "\ufffd": "▯"}
"""How blanks, line ends and lone bytes are shown."""
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
"""Unicode categories that show nothing, or change what stands beside them (bidi, escapes)."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One token, or one run of image tokens, ready to be shown.

    `start` and `count`: place in the sequence and how many tokens it stands for. `pieces`: tokens
    that share this text; `is_rest`: one of them whose text stands on an earlier token.
    """

    text: str
    state: State
    start: int
    token_id: int
    count: int = 1
    picture: int = 0
    is_control: bool = False
    pieces: int = 1
    is_rest: bool = False
    ends_line: bool = False


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Tokens of a sample by what becomes of them."""

    tokens: int
    image: int
    trained: int

    @property
    def untrained(self) -> int:
        return self.tokens - self.image - self.trained

    def share(self, count: int) -> float:
        return count / self.tokens if self.tokens else 0.0


def shown_tokens(tokens: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """The tokens of a sample event in order."""
    return list(_walk(tokens))


def _walk(tokens: Sequence[Mapping[str, Any]]) -> Iterator[Shown]:
    start, rest = 0, 0
    for token in tokens:
        if "image" in token:
            shown = _image_run(token, start)
        else:
            pieces = int(token.get("pieces", 1))
            shown = _text_token(token, start, pieces=pieces, is_rest=rest > 0)
            rest = pieces - 1 if pieces > 1 else max(0, rest - 1)
        yield shown
        start += shown.count


def _image_run(token: Mapping[str, Any], start: int) -> Shown:
    return Shown(
        text="",
        state="image",
        start=start,
        token_id=int(token.get("id", -1)),
        count=int(token.get("count", 1)),
        picture=int(token["image"]),
    )


def _text_token(token: Mapping[str, Any], start: int, *, pieces: int, is_rest: bool) -> Shown:
    text = str(token.get("text", ""))
    return Shown(
        text=visible(text),
        state="trained" if token.get("trained") else "untrained",
        start=start,
        token_id=int(token.get("id", -1)),
        is_control=bool(token.get("control")),
        pieces=pieces,
        is_rest=is_rest,
        ends_line=text.endswith("\n"),
    )


def count_tokens(shown: Sequence[Shown]) -> Counts:
    """Counts over all tokens, image runs at their full length."""
    return Counts(
        tokens=sum(token.count for token in shown),
        image=sum(token.count for token in shown if token.state == "image"),
        trained=sum(token.count for token in shown if token.state == "trained"),
    )


def visible(text: str) -> str:
    """Text in which every character can be seen: blanks as marks, unseen ones as ⟨U+200B⟩."""
    return "".join(_visible_character(character) for character in text)


def safe(text: str) -> str:
    """Running text without escapes and direction changes; line ends and blanks stay."""
    return "".join(
        character if character in " \n\u3000\u00a0" else _visible_character(character)
        for character in text.replace("\r\n", "\n").replace("\t", "    ")
    )


def _visible_character(character: str) -> str:
    if character in MARKS:
        return MARKS[character]
    if unicodedata.category(character) in UNSEEN:
        return f"⟨U+{ord(character):04X}⟩"
    return character
