"""From rendered text to token ids: control tokens only where the template wrote them.

The text is cut at added tokens that stand in the template's own literals; their ids are placed,
and the stretches between are encoded as plain text with offsets, special tokens spelled by a
content staying text. So a content can neither forge a turn nor an image.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation
from manako.core.errors import RowError
from manako.families._shared.render import Renderer, Rendering, Span

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_CACHED_STRETCH_CHARACTERS = 64
MAX_CACHED_STRETCHES = 8192
MAX_CACHED_LAYOUTS = 1024


@dataclass(frozen=True)
class Layout:
    """Token ids before images are expanded.

    ids, trained: one entry per token; image_places: index of each image mark in `ids`, in order.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    image_places: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cut:
    """An added token found in a literal: characters [start, end) of the text."""

    start: int
    end: int
    token_id: int


@dataclass
class TextTokenizer:
    """A `tokenizer.json` that encodes contents as plain text. Picklable: reopened where used."""

    file: Path
    _loaded: Tokenizer | None = field(default=None, repr=False, compare=False)
    _cache: OrderedDict[str, Any] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "_loaded": None, "_cache": OrderedDict()}

    @property
    def tokenizer(self) -> Tokenizer:
        if self._loaded is None:
            from tokenizers import Tokenizer

            self._loaded = Tokenizer.from_file(str(self.file))
            self._loaded.encode_special_tokens = True
        return self._loaded

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of plain text and their character offsets in it."""
        if found := self._cache.get(text):
            return found  # type: ignore[no-any-return]
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        result = (encoding.ids, encoding.offsets)
        if len(text) <= MAX_CACHED_STRETCH_CHARACTERS:
            self._cache[text] = result
            if len(self._cache) > MAX_CACHED_STRETCHES:
                self._cache.popitem(last=False)
        return result

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens included."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)

    def added(self) -> dict[int, Any]:
        """Added tokens by id, with their settings."""
        return self.tokenizer.get_added_tokens_decoder()


class LayoutMaker:
    """Conversation → Layout, by one checkpoint's template and tokenizer. Picklable."""

    def __init__(
        self,
        renderer: Renderer,
        tokenizer: TextTokenizer,
        *,
        image_mark: str | None,
        end_ids: Sequence[int],
    ) -> None:
        self.renderer = renderer
        self.tokenizer = tokenizer
        self.image_mark = image_mark
        self.end_ids = tuple(end_ids)
        self._added: tuple[re.Pattern[str], dict[str, int]] | None = None
        self._swallows = False
        self._cache: OrderedDict[Any, Layout] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_added": None, "_cache": OrderedDict()}

    def training(self, conversation: Conversation) -> Layout:
        """Tokens of a training example and which of them are trained."""
        key = _layout_key(conversation)
        layout = self._cache.get(key)
        if layout is None:
            layout = self._cache[key] = self._training(conversation)
            if len(self._cache) > MAX_CACHED_LAYOUTS:
                self._cache.popitem(last=False)
        return layout

    def prompt(self, conversation: Conversation) -> Layout:
        """Tokens of what the model is asked; nothing is trained."""
        rendering = self.renderer.render(conversation, prompt=True)
        return self._laid_out(conversation, rendering, [])

    def _training(self, conversation: Conversation) -> Layout:
        rendering = self.renderer.render(conversation)
        regions: list[tuple[int, int]] = []
        last = len(conversation.messages) - 1
        for index, message in enumerate(conversation.messages):
            if not message.is_trained:
                continue
            prompt = self.renderer.prompt_before(conversation, index)
            if index == last and not rendering.text.startswith(prompt):
                rendering = _spliced(conversation, rendering, prompt, index)
            start = self._answer_start(conversation, rendering, prompt, index)
            regions.append((start, self._answer_end(conversation, rendering, index)))
        return self._laid_out(conversation, rendering, regions)

    def _answer_start(
        self, conversation: Conversation, rendering: Rendering, prompt: str, index: int
    ) -> int:
        """Where the model starts to write: at the end of the prompt, else at the first word."""
        spans = _spans_of_turn(conversation, rendering, index)
        is_prefix = rendering.text.startswith(prompt) and len(prompt) <= spans[0].start
        return len(prompt) if is_prefix else spans[0].start

    def _answer_end(self, conversation: Conversation, rendering: Rendering, index: int) -> int:
        """The end of the end-of-turn token in the literal after the turn's last words."""
        last = _spans_of_turn(conversation, rendering, index)[-1]
        following = [span.start for span in rendering.spans if span.start >= last.end]
        stop = min(following, default=len(rendering.text))
        for cut in self._cuts(rendering.text, last.end, stop):
            if cut.token_id in self.end_ids:
                return cut.end
        raise RowError(
            f"row {conversation.id}: the template writes no end-of-turn token after turn {index}",
            row_id=conversation.id,
            reason="no_end_of_turn",
        )

    def _laid_out(
        self, conversation: Conversation, rendering: Rendering, regions: list[tuple[int, int]]
    ) -> Layout:
        ids: list[int] = []
        trained: list[bool] = []
        images: list[int] = []
        for token_id, start, end, is_mark in self._tokens(rendering):
            if is_mark:
                images.append(len(ids))
            ids.append(token_id)
            trained.append(not is_mark and any(start < b and end > a for a, b in regions))
        expected = len(conversation.images)
        if len(images) != expected:
            raise RowError(
                f"row {conversation.id}: the template writes {len(images)} image marks "
                f"for {expected} images",
                row_id=conversation.id,
                reason="no_image_token" if not images else "image_count",
                next_step="the checkpoint's chat template has no rule for these pictures",
            )
        return Layout(tuple(ids), tuple(trained), tuple(images), rendering.notes)

    def _tokens(self, rendering: Rendering) -> Iterator[tuple[int, int, int, bool]]:
        """(id, start, end, is image mark) of each token, offsets in characters of the text."""
        place = 0
        text = rendering.text
        image_id = self.tokenizer.id_of(self.image_mark) if self.image_mark else None
        for cut in self._literal_cuts(rendering):
            yield from self._plain_tokens(text, place, cut.start)
            yield cut.token_id, cut.start, cut.end, cut.token_id == image_id
            place = cut.end
        yield from self._plain_tokens(text, place, len(text))

    def _plain_tokens(
        self, text: str, start: int, end: int
    ) -> Iterator[tuple[int, int, int, bool]]:
        if start >= end:
            return
        ids, offsets = self.tokenizer.encode(text[start:end])
        for token_id, (a, b) in zip(ids, offsets, strict=True):
            yield token_id, start + a, start + b, False

    def _literal_cuts(self, rendering: Rendering) -> Iterator[_Cut]:
        place = 0
        for span in rendering.spans:
            yield from self._cuts(rendering.text, place, span.start)
            place = span.end
        yield from self._cuts(rendering.text, place, len(rendering.text))

    def _cuts(self, text: str, start: int, end: int) -> Iterator[_Cut]:
        """Added tokens in the literal [start, end); those that swallow blanks take them along."""
        pattern, ids = self._added_tokens()
        settings = self.tokenizer.added() if self._swallows else {}  # a slow call
        for match in pattern.finditer(text, start, end):
            token_id = ids[match[0]]
            a, b = match.span()
            if settings and settings[token_id].lstrip:
                a = len(text[:a].rstrip())
            if settings and settings[token_id].rstrip:
                b = len(text) - len(text[b:].lstrip())
            yield _Cut(a, b, token_id)

    def _added_tokens(self) -> tuple[re.Pattern[str], dict[str, int]]:
        if self._added is None:
            added = self.tokenizer.added()
            ids = {token.content: token_id for token_id, token in added.items()}
            self._swallows = any(token.lstrip or token.rstrip for token in added.values())
            longest_first = sorted(ids, key=len, reverse=True)
            pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
            self._added = re.compile(pattern), ids
        return self._added


def _layout_key(conversation: Conversation) -> Any:
    return tuple(
        (
            message.role,
            message.train,
            tuple(getattr(part, "text", None) for part in message.content),
        )
        for message in conversation.messages
    )


def _spans_of_turn(conversation: Conversation, rendering: Rendering, index: int) -> list[Span]:
    spans = rendering.of_message(index)
    if not spans:
        raise RowError(
            f"row {conversation.id}: turn {index} (assistant) has no words to train",
            row_id=conversation.id,
            reason="no_words",
            next_step="drop the row, or set train=False on that turn",
        )
    return spans


def _spliced(
    conversation: Conversation, rendering: Rendering, prompt: str, index: int
) -> Rendering:
    """Prompt + answer, where the template's history is not what inference will see."""
    first = _spans_of_turn(conversation, rendering, index)[0]
    text = prompt + rendering.text[first.start :]
    shift = len(prompt) - first.start
    kept = _common_prefix(prompt, rendering.text)
    history = [span for span in rendering.spans if span.end <= kept]
    answer = [
        Span(span.start + shift, span.end + shift, span.message)
        for span in rendering.spans
        if span.start >= first.start
    ]
    lost = [s for s in rendering.spans if s.end > kept and s.start < first.start]
    if lost:
        raise RowError(
            f"row {conversation.id}: the prompt of the last answer differs from the template's "
            f"history within turn {lost[0].message}",
            row_id=conversation.id,
            reason="template_changes_words",
        )
    return Rendering(text, tuple(history + answer), (*rendering.notes, "last answer spliced"))


def _common_prefix(a: str, b: str) -> int:
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))
