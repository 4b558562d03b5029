"""A tokenizer that encodes contents as plain text, wherever in a text they stand."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_CACHED_STRETCH_CHARACTERS = 64
MAX_CACHED_STRETCHES = 8192
Place = Literal["start", "after_token", "inside"]
"""Where a stretch stands: at the start of a text, after a control token, or inside plain text."""


@dataclass
class TextTokenizer:
    """A `tokenizer.json` that encodes contents as plain text. Picklable: reopened where used.

    Those converted from SentencePiece put a blank before a text: before every stretch that follows
    a control token, or before the first alone. A unigram model has its control tokens among its
    pieces, and would find them in a text that spells them: there the text is cut inside them.

    holds_added: whether a text may hold added tokens that the file does not call special.
    """

    file: Path
    holds_added: bool = True
    _loaded: Tokenizer | None = field(default=None, repr=False, compare=False)
    _cache: OrderedDict[Hashable, Any] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )
    _by_place: dict[Place, Tokenizer] = field(default_factory=dict, repr=False, compare=False)
    _never: dict[int, str] | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        kept = {"file": self.file, "holds_added": self.holds_added}
        return {**kept, "_loaded": None, "_cache": OrderedDict(), "_by_place": {}, "_never": None}

    @property
    def tokenizer(self) -> Tokenizer:
        if self._loaded is None:
            from tokenizers import Tokenizer

            self._loaded = Tokenizer.from_file(str(self.file))
            self._loaded.encode_special_tokens = True
        return self._loaded

    def encode(self, text: str, *, at: Place = "start") -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of plain text and their character offsets in it: those that it has as part of a
        longer text, where it stands `at`."""
        if found := self._cache.get((text, at)):
            return found  # type: ignore[no-any-return]
        result = self._spelled_out(text, at)
        if len(text) <= MAX_CACHED_STRETCH_CHARACTERS:
            self._cache[text, at] = result
            if len(self._cache) > MAX_CACHED_STRETCHES:
                self._cache.popitem(last=False)
        return result

    def _spelled_out(self, text: str, at: Place) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and offsets of a text, no control token among them: where the model finds one that
        is spelled there, the text is cut behind its first character."""
        encoding = self._for(at).encode(text, add_special_tokens=False)
        never = self._never_in_text
        cuts = [
            start + 1
            for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token_id in never and end - start > 1 and text[start:end] == never[token_id]
        ]
        if not cuts:
            return encoding.ids, encoding.offsets
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end in pairwise([0, *cuts, len(text)]):
            more, places = self._spelled_out(text[start:end], "inside" if start else at)
            ids += more
            offsets += ((a + start, b + start) for a, b in places)
        return ids, offsets

    @property
    def _never_in_text(self) -> dict[int, str]:
        """Control tokens that a text must not become, by id."""
        if self._never is None:
            self._never = {
                token_id: token.content
                for token_id, token in self.added().items()
                if token.special or not self.holds_added
            }
        return self._never

    def decode(self, ids: Sequence[int], *, at: Place = "start") -> str:
        """Text of ids, control tokens included. A blank that the tokenizer puts before a text is
        taken off again, but not inside one."""
        return self._for(at).decode(list(ids), skip_special_tokens=False)

    def _for(self, at: Place) -> Tokenizer:
        """The tokenizer with the blanks that it writes at that place, and no others."""
        if at == "start":
            return self.tokenizer
        if at not in self._by_place:
            settings = json.loads(self.tokenizer.to_str())
            changed = _without_blank(settings, inside=at == "inside")
            is_same = changed == settings
            self._by_place[at] = self.tokenizer if is_same else _plain(changed)
        return self._by_place[at]

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)

    @property
    def start_ids(self) -> tuple[int, ...]:
        """Ids that the tokenizer puts before every text (its beginning-of-text token), if any."""
        whole, bare = (
            self.tokenizer.encode("a", add_special_tokens=add).ids for add in (True, False)
        )
        return tuple(whole[: len(whole) - len(bare)])

    def added(self) -> dict[int, Any]:
        """Added tokens by id, with their settings."""
        return self.tokenizer.get_added_tokens_decoder()


def _without_blank(settings: Any, *, inside: bool) -> Any:
    """Settings of a tokenizer that puts no blank before a text but where one follows a control
    token; inside: nor there, and that takes none off when it decodes."""
    if isinstance(settings, list):
        kept = [item for item in settings if not (inside and _is_blank_step(item))]
        return [_without_blank(item, inside=inside) for item in kept]
    if not isinstance(settings, dict):
        return settings
    changed = {
        key: value if key in ("model", "added_tokens") else _without_blank(value, inside=inside)
        for key, value in settings.items()
    }
    if changed.get("prepend_scheme") in (("first", "always") if inside else ("first",)):
        changed["prepend_scheme"] = "never"
    for step in ("normalizer", "decoder"):
        if inside and _is_blank_step(changed.get(step)):
            changed[step] = None
    return changed


def _is_blank_step(step: Any) -> bool:
    kind = step.get("type") if isinstance(step, dict) else None
    return kind == "Prepend" or (kind == "Strip" and "start" in step)


def _plain(settings: Any) -> Tokenizer:
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(json.dumps(settings))
    made.encode_special_tokens = True
    return made
