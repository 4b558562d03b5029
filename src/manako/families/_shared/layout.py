"""From rendered text to token ids: control tokens only where the template wrote them.

The text is cut at added tokens that stand in the template's own literals; their ids are placed,
and the stretches between are encoded as plain text with offsets, special tokens spelled by a
content staying text. So a content can neither forge a turn nor an image.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from manako.core.conversation import Conversation
from manako.core.errors import RowError
from manako.families._shared.render import Renderer, Rendering, Word, refuse_lost
from manako.families._shared.text_tokenizer import Place, TextTokenizer

MAX_KEPT_LAYOUTS = 2048
ENDED = "end of turn appended"
"""Note of an example whose template writes no end of turn."""
MARKS_FROM = 0x100000
"""Plane 16 private use: the flat form of a marked rendering has its marks there."""


@dataclass(frozen=True)
class Layout:
    """Token ids before images are expanded.

    ids, trained: one entry per token; image_places: index of each mark of a picture or a video in
    `ids`, in order.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    image_places: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Control:
    """An added token that the template wrote."""

    token_id: int
    trained: bool
    is_image: bool


@dataclass(frozen=True)
class _Stretch:
    """Text between control tokens: literals and word numbers, and which of them are trained.

    cut: the piece with which the last trained answer begins, where text stands before it; 0 where
    it does not begin here.
    """

    pieces: tuple[str | int, ...]
    trained: tuple[bool, ...]
    at: Place
    cut: int


@dataclass(frozen=True)
class _Skeleton:
    """All of a layout that does not depend on the words themselves."""

    items: tuple[_Control | _Stretch, ...]
    notes: tuple[str, ...] = ()


class LayoutMaker:
    """Conversation → Layout, by one checkpoint's template and tokenizer. Picklable."""

    def __init__(
        self,
        renderer: Renderer,
        tokenizer: TextTokenizer,
        *,
        image_mark: str | None,
        end_ids: Sequence[int],
        image_token: str | None = None,
        end_token: str | None = None,
        video_mark: str | None = None,
        breaks: Sequence[str] = (),
        spoken: Sequence[str] = (),
    ) -> None:
        """image_mark: what the template writes for a picture; image_token: the token whose places
        the picture takes, where it is another (`image_texts` then say how the mark is written).
        end_token: put after the last answer where the template writes no end of turn.
        video_mark: the token that the template writes for a video.
        breaks: literals of the template after which the reference encodes anew, so that no token
        reaches over. spoken: added tokens that a content may hold, because a model is asked and
        answers with them (places in a picture); they forge no turn and no picture.
        """
        self.renderer = renderer
        self.tokenizer = tokenizer
        self.image_mark = image_mark
        self.image_token = image_token or image_mark
        self.video_mark = video_mark
        self.end_ids = tuple(end_ids)
        self.end_token = end_token
        self.breaks = tuple(breaks)
        self.spoken = tuple(spoken)
        self._added: _AddedTokens | None = None
        self._skeletons: OrderedDict[Hashable, _Skeleton] = OrderedDict()
        self._layouts: OrderedDict[Hashable, Layout] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        kept = dict(self.__dict__)
        for name in ("_start", "_marks", "_media_ids", "_spoken_tokens"):
            kept.pop(name, None)
        kept.update(_added=None, _skeletons=OrderedDict(), _layouts=OrderedDict())
        return kept

    def training(self, conversation: Conversation, image_texts: tuple[str, ...] = ()) -> Layout:
        """Tokens of a training example and which of them are trained.

        image_texts: what takes the place of each mark of a picture or a video in the text, in
        order; empty where all marks stay as they are.
        """
        key = (_layout_key(conversation), image_texts)
        layout: Layout = _kept(
            self._layouts, key, MAX_KEPT_LAYOUTS, lambda: self._training(conversation, image_texts)
        )
        return layout

    def prompt(self, conversation: Conversation, image_texts: tuple[str, ...] = ()) -> Layout:
        """Tokens of what the model is asked; nothing is trained."""
        rendering = self.renderer.render(conversation, prompt=True)
        skeleton = self._skeleton_of(self._flat(rendering, image_texts), [], ())
        return self._fill(conversation, rendering.words, skeleton, image_texts)

    def written(self, text: str, image_texts: Sequence[str]) -> str:
        """`text` with the k-th mark of a picture or a video replaced by the k-th of
        `image_texts`."""
        left = iter(image_texts)
        return self._marks.sub(lambda mark: next(left, mark[0]), text)

    def pieces(self, text: str) -> list[str]:
        """The template's text, cut where the reference encodes anew."""
        edges = [0, *self._break_places(text), len(text)]
        return [text[a:b] for a, b in pairwise(edges) if a < b]

    def literal_tokens(self, text: str) -> int:
        """How many tokens `text` is where the template writes it: control tokens count as such."""
        items = self._skeleton_of(_Flat([text]), [], ()).items[len(self._start[0]) :]
        return sum(
            1 if isinstance(item, _Control) else len(self._encode(item, ())[0]) for item in items
        )

    def _flat(self, rendering: Rendering, image_texts: Sequence[str]) -> _Flat:
        """Marks of contents are single characters here, so only the template's own marks of
        pictures are replaced."""
        flat = _Flat(rendering.pieces)
        return _Flat([self.written(flat.text, image_texts)]) if image_texts else flat

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        marks = [re.escape(mark) for mark in (self.image_mark, self.video_mark) if mark]
        return re.compile("|".join(marks) or "(?!)")

    @cached_property
    def _media_ids(self) -> frozenset[int]:
        """Ids of the tokens whose places pictures and videos take."""
        tokens = (token for token in (self.image_token, self.video_mark) if token)
        return frozenset(i for token in tokens if (i := self.tokenizer.id_of(token)) is not None)

    @cached_property
    def _start(self) -> tuple[tuple[int, ...], str]:
        """Ids that the tokenizer itself puts before a text, and how they are written."""
        ids = self.tokenizer.start_ids
        return ids, self.tokenizer.decode(ids) if ids else ""

    def _training(self, conversation: Conversation, image_texts: tuple[str, ...]) -> Layout:
        rendering = self.renderer.render(conversation, may_lose=True)
        flags = tuple(message.is_trained for message in conversation.messages)
        skeleton = _kept(
            self._skeletons,
            (rendering.key, flags, image_texts),
            MAX_KEPT_LAYOUTS,
            lambda: self._training_skeleton(conversation, rendering, image_texts),
        )
        return self._fill(conversation, rendering.words, skeleton, image_texts)

    def _training_skeleton(
        self, conversation: Conversation, rendering: Rendering, image_texts: tuple[str, ...]
    ) -> _Skeleton:
        """Where control tokens, words and trained regions stand: the same for every conversation
        of this shape. The last answer's prompt is proved here, with this conversation's words."""
        flat, notes = self._joined(conversation, rendering, image_texts)
        flat, notes = self._ended(conversation, rendering, flat, notes)
        refuse_lost(conversation, rendering, set(flat.marks.values()))
        regions: list[tuple[int, int]] = []
        for index, message in enumerate(conversation.messages):
            if not message.is_trained:
                continue
            prompt = self.renderer.prompt_before(conversation, rendering, index)
            asked = self._flat(prompt, image_texts).text
            marks = _marks_of_turn(conversation, rendering, flat, index)
            is_prefix = flat.text.startswith(asked) and len(asked) <= marks[0]
            start = len(asked) if is_prefix else marks[0]
            regions.append((start, self._answer_end(conversation, flat, marks[-1], index)))
        return self._skeleton_of(flat, regions, notes)

    def _joined(
        self, conversation: Conversation, rendering: Rendering, image_texts: tuple[str, ...]
    ) -> tuple[_Flat, tuple[str, ...]]:
        """The whole text, beginning with the prompt of the last answer, where that is trained."""
        flat = self._flat(rendering, image_texts)
        last = len(conversation.messages) - 1
        if not conversation.messages[last].is_trained:
            return flat, rendering.notes
        prompt = self.renderer.prompt_before(conversation, rendering, last)
        self.renderer.prove_prompt(conversation, last, prompt)
        asked = self._flat(prompt, image_texts).text
        if flat.text.startswith(asked):
            return flat, rendering.notes
        flat = _spliced(conversation, rendering, flat, asked)
        return flat, (*rendering.notes, "last answer spliced")

    def _ended(
        self,
        conversation: Conversation,
        rendering: Rendering,
        flat: _Flat,
        notes: tuple[str, ...],
    ) -> tuple[_Flat, tuple[str, ...]]:
        """With the family's end token right after the words of the last answer, where that is
        trained and the template ends no turn. History has none: what is asked will have none."""
        last = len(conversation.messages) - 1
        if self.end_token is None or not conversation.messages[last].is_trained:
            return flat, notes
        words_end = _marks_of_turn(conversation, rendering, flat, last)[-1] + 1
        if self._end_of_turn(flat, words_end) is not None:
            return flat, notes
        ended = _Flat([flat.text[:words_end] + self.end_token + flat.text[words_end:]])
        return ended, (*notes, ENDED)

    def _answer_end(
        self, conversation: Conversation, flat: _Flat, last_word: int, index: int
    ) -> int:
        """The end of the end-of-turn token in the literal after the turn's last words; of these
        words, where history has none and the family names one."""
        if (end := self._end_of_turn(flat, last_word + 1)) is not None:
            return end
        if self.end_token is not None:
            return last_word + 1
        raise RowError(
            f"row {conversation.id}: the template writes no end-of-turn token after turn {index}",
            row_id=conversation.id,
            reason="no_end_of_turn",
        )

    def _end_of_turn(self, flat: _Flat, words_end: int) -> int | None:
        """Where the end-of-turn token ends that stands before the next words, if one does."""
        stop = min((place for place in flat.marks if place >= words_end), default=len(flat.text))
        for _, end, token_id in self._added_tokens.find(flat.text, words_end, stop):
            if token_id in self.end_ids:
                return end
        return None

    def _skeleton_of(
        self, flat: _Flat, regions: Sequence[tuple[int, int]], notes: tuple[str, ...]
    ) -> _Skeleton:
        begin, written = self._start
        items: list[_Control | _Stretch] = []
        if begin and not flat.text.startswith(written):
            items = [_Control(token_id, False, False) for token_id in begin]
        place = 0
        for start, end, token_id in self._added_tokens.find(flat.text, 0, len(flat.text)):
            items += self._stretches(flat, place, start, regions)
            is_image = token_id in self._media_ids
            trained = not is_image and any(start < b and end > a for a, b in regions)
            items.append(_Control(token_id, trained, is_image))
            place = end
        items += self._stretches(flat, place, len(flat.text), regions)
        return _Skeleton(tuple(items), notes)

    def _stretches(
        self, flat: _Flat, start: int, end: int, regions: Sequence[tuple[int, int]]
    ) -> Iterator[_Stretch]:
        """The text between two control tokens, cut where the reference encodes anew."""
        breaks = [place for place in self._break_places(flat.text) if start < place < end]
        for a, b in pairwise([start, *breaks, end]):
            if a < b:
                at: Place = "after_token" if a and a not in breaks else "start"
                yield _stretch(flat, a, b, regions, at)

    def _break_places(self, text: str) -> list[int]:
        if not self.breaks:
            return []
        return [match.end() for match in re.finditer("|".join(map(re.escape, self.breaks)), text)]

    def _fill(
        self,
        conversation: Conversation,
        words: Sequence[Word],
        skeleton: _Skeleton,
        image_texts: Sequence[str],
    ) -> Layout:
        ids: list[int] = []
        trained: list[bool] = []
        images: list[int] = []
        for item in skeleton.items:
            if isinstance(item, _Control):
                if item.is_image:
                    images.append(len(ids))
                ids.append(item.token_id)
                trained.append(item.trained)
            else:
                found, flags = self._encode(item, words)
                ids += found
                trained += flags
        self._check_marks(conversation, len(images), image_texts)
        return Layout(tuple(ids), tuple(trained), tuple(images), skeleton.notes)

    def _check_marks(
        self, conversation: Conversation, found: int, image_texts: Sequence[str]
    ) -> None:
        """Raise `RowError` unless the template has written a mark for each picture and video."""
        expected = len(conversation.media)
        if image_texts:
            tokens = {token for token in (self.image_token, self.video_mark) if token}
            expected = sum(text.count(token) for text in image_texts for token in tokens)
        if found == expected:
            return
        what = "image and video" if conversation.videos else "image"
        raise RowError(
            f"row {conversation.id}: the template writes {found} {what} marks "
            f"for {expected} {'of them' if conversation.videos else 'images'}",
            row_id=conversation.id,
            reason="image_count" if found else "no_image_token",
            next_step="the checkpoint's chat template has no rule for these pictures",
        )

    def _encode(self, stretch: _Stretch, words: Sequence[Word]) -> tuple[list[int], list[bool]]:
        """Ids of a stretch; a token is trained when its characters overlap what is trained."""
        texts = [p if isinstance(p, str) else words[p].text for p in stretch.pieces]
        ids, offsets = self._tokens(texts, stretch)
        if not any(stretch.trained):
            return ids, [False] * len(ids)
        ranges, place = [], 0
        for text, is_trained in zip(texts, stretch.trained, strict=True):
            if is_trained:
                ranges.append((place, place + len(text)))
            place += len(text)
        return ids, [any(a < stop and b > start for start, stop in ranges) for a, b in offsets]

    def _tokens(
        self, texts: Sequence[str], stretch: _Stretch
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of the joined texts and their offsets. A token that begins in the prompt and ends in
        the last answer (line breaks on both sides) is cut: the model will be asked with the
        prompt's own tokens. History has them as the template writes it."""
        ids, offsets = self._plain("".join(texts), stretch.at)
        start = sum(map(len, texts[: stretch.cut]))
        if not any(a < start < b for a, b in offsets):
            return ids, offsets
        ids, offsets = self._plain("".join(texts[: stretch.cut]), stretch.at)
        more, places = self._plain("".join(texts[stretch.cut :]), "inside")
        return [*ids, *more], [*offsets, *((a + start, b + start) for a, b in places)]

    def _plain(self, text: str, at: Place) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of text and their offsets; tokens that a content may hold are tokens in it."""
        if not self.spoken:
            return self.tokenizer.encode(text, at=at)
        found = list(self._spoken_tokens.find(text, 0, len(text)))
        ends = [0, *(end for _, end, _ in found)]
        starts = [*(start for start, _, _ in found), len(text)]
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for number, (a, b) in enumerate(zip(ends, starts, strict=True)):
            more, places = self.tokenizer.encode(text[a:b], at="after_token" if a else at)
            ids += more
            offsets += ((a + start, a + end) for start, end in places)
            for start, end, token_id in found[number : number + 1]:
                ids.append(token_id)
                offsets.append((start, end))
        return ids, offsets

    @cached_property
    def _spoken_tokens(self) -> _AddedTokens:
        added = self.tokenizer.added().items()
        return _AddedTokens({i: token for i, token in added if token.content in self.spoken})

    @property
    def _added_tokens(self) -> _AddedTokens:
        if self._added is None:
            self._added = _AddedTokens(self.tokenizer.added())
        return self._added


class _Flat:
    """A marked rendering as one string, each mark a single character that no literal holds."""

    def __init__(self, pieces: Sequence[str | int]) -> None:
        self.text = "".join(p if isinstance(p, str) else chr(MARKS_FROM + p) for p in pieces)
        self.marks = {
            place: ord(character) - MARKS_FROM
            for place, character in enumerate(self.text)
            if ord(character) >= MARKS_FROM
        }


class _AddedTokens:
    """Finds added tokens in literals; those that swallow blanks take them along."""

    def __init__(self, added: dict[int, Any]) -> None:
        self._settings = added
        self._ids = {token.content: token_id for token_id, token in added.items()}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def find(self, text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(start, end, id) of each added token in text[start:end]."""
        for match in self._pattern.finditer(text, start, end):
            token_id = self._ids[match[0]]
            a, b = match.span()
            if self._settings[token_id].lstrip:
                a = len(text[:a].rstrip())
            if self._settings[token_id].rstrip:
                b = len(text) - len(text[b:].lstrip())
            yield a, b, token_id


def _kept(
    store: OrderedDict[Hashable, Any], key: Hashable, most: int, make: Callable[[], Any]
) -> Any:
    value = store.get(key)
    if value is None:
        value = store[key] = make()
        if len(store) > most:
            store.popitem(last=False)
    return value


def _layout_key(conversation: Conversation) -> Hashable:
    return tuple(
        (
            message.role,
            message.train,
            tuple(getattr(part, "text", type(part)) for part in message.content),
        )
        for message in conversation.messages
    )


def _marks_of_turn(
    conversation: Conversation, rendering: Rendering, flat: _Flat, index: int
) -> list[int]:
    """Places of a turn's marks in the flat text, in order."""
    marks = [p for p, word in flat.marks.items() if rendering.words[word].message == index]
    if not marks:
        raise RowError(
            f"row {conversation.id}: turn {index} (assistant) has no words to train",
            row_id=conversation.id,
            reason="no_words",
            next_step="drop the row, or set train=False on that turn",
        )
    return marks


def _stretch(
    flat: _Flat, start: int, end: int, regions: Sequence[tuple[int, int]], at: Place
) -> _Stretch:
    """Cut text[start:end] at its marks and at the edges of the trained regions."""
    edges = {start, end}
    edges.update(edge for region in regions for edge in region if start < edge < end)
    for place in flat.marks:
        if start <= place < end:
            edges.update((place, place + 1))
    ordered = sorted(edges)
    pieces, trained = [], []
    for a, b in pairwise(ordered):
        pieces.append(flat.marks[a] if a in flat.marks else flat.text[a:b])
        trained.append(any(a < stop and b > begin for begin, stop in regions))
    last = regions[-1][0] if regions else start
    cut = ordered.index(last) if start < last < end else 0
    return _Stretch(tuple(pieces), tuple(trained), at, cut)


def _spliced(conversation: Conversation, rendering: Rendering, flat: _Flat, asked: str) -> _Flat:
    """Prompt + last answer, where the template's history is not what inference will see."""
    answer = _marks_of_turn(conversation, rendering, flat, len(conversation.messages) - 1)
    spliced = _Flat([asked + flat.text[answer[0] :]])
    in_prompt = {ord(c) - MARKS_FROM for c in asked if ord(c) >= MARKS_FROM}
    before = {word for place, word in flat.marks.items() if place < answer[0]}
    if lost := sorted(before - in_prompt):
        raise RowError(
            f"row {conversation.id}: the prompt of the last answer leaves out words of turn "
            f"{rendering.words[lost[0]].message}",
            row_id=conversation.id,
            reason="template_changes_words",
        )
    return spliced
