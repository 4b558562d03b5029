"""One answer while it is written: its tokens, its text so far, and why it ended.

A byte-level token can end in the middle of a character (most Japanese characters are three
bytes), and a stop string can begin at the end of what is known. Both are held back until the next
token settles them, so a piece that was given out is never taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from manako.infer.reply import FinishReason, Reply, Usage

Decode = Callable[[Sequence[int]], str]
"""Text of token ids; bytes that are no whole character come out as U+FFFD."""

HALF = "\ufffd"
MAX_WINDOW_TOKENS = 64
"""Tokens decoded again at every step. The window moves on only between whole characters, so it may
grow beyond this."""


class Answer:
    """Takes token after token until a reason to end is found."""

    def __init__(
        self,
        decode: Decode,
        *,
        prompt_tokens: int,
        max_new_tokens: int,
        end_ids: Sequence[int],
        stops: Sequence[str] = (),
        follow: bool = False,
    ) -> None:
        """`follow`: keep the text up to date for `piece`, also without stop strings."""
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.prompt_tokens = prompt_tokens
        self.max_new_tokens = max_new_tokens
        self._decode = decode
        self._end_ids = frozenset(end_ids)
        self._stops = tuple(stops)
        self._text = _GrowingText(decode) if follow or stops else None
        self._cut: int | None = None
        self._given = 0

    def take(self, token_id: int) -> None:
        """Add one token; sets `finish_reason` when the answer is complete."""
        self.token_ids.append(token_id)
        is_end = token_id in self._end_ids
        if self._text is not None:
            self._follow(token_id, is_end)
        if self._cut is not None:
            self.finish_reason = "stop_string"
        elif is_end:
            self.finish_reason = "stop"
        elif len(self.token_ids) >= self.max_new_tokens:
            self.finish_reason = "length"

    @property
    def text(self) -> str:
        """The text: all of it once the answer is complete."""
        if self._text is None:
            return self._decode(self._words())
        known = self._text.all if self.finish_reason else self._text.settled
        return known if self._cut is None else known[: self._cut]

    def piece(self) -> str:
        """What can be given out since the last call; the pieces joined are `text`."""
        text = self.text
        end = len(text) if self.finish_reason else len(text) - self._possible_stop(text)
        piece = text[self._given : end]
        self._given = max(self._given, end)
        return piece

    def reply(self) -> Reply:
        """The complete answer."""
        assert self.finish_reason is not None
        usage = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=len(self.token_ids))
        return Reply(
            text=self.text,
            token_ids=tuple(self.token_ids),
            finish_reason=self.finish_reason,
            usage=usage,
        )

    def _words(self) -> list[int]:
        ends = self.token_ids and self.token_ids[-1] in self._end_ids
        return self.token_ids[:-1] if ends else self.token_ids

    def _follow(self, token_id: int, is_end: bool) -> None:
        assert self._text is not None
        if not is_end:
            self._text.add(token_id)
        places = [self._text.all.find(stop) for stop in self._stops]
        self._cut = min((place for place in places if place >= 0), default=None)

    def _possible_stop(self, text: str) -> int:
        """Characters at the end of `text` that may be the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class _GrowingText:
    """Text of a growing list of tokens, decoded in a window that moves along."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._before = ""
        self._window: list[int] = []
        self._open = ""

    def add(self, token_id: int) -> None:
        self._window.append(token_id)
        self._open = self._decode(self._window)
        if len(self._window) >= MAX_WINDOW_TOKENS and not self._open.endswith(HALF):
            self._move()

    @property
    def all(self) -> str:
        """All text, half a character at the end shown as U+FFFD."""
        return self._before + self._open

    @property
    def settled(self) -> str:
        """All text that further tokens cannot change."""
        return self.all.removesuffix(HALF)

    def _move(self) -> None:
        """Keep about half of the window, from where a character begins."""
        for start in range(len(self._window) // 2, len(self._window)):
            known = self._decode(self._window[start:])
            if self._open.endswith(known) and not known.startswith(HALF):
                self._before += self._open[: len(self._open) - len(known)]
                self._window, self._open = self._window[start:], known
                return
