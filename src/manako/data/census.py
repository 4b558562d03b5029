"""What a data set holds, counted from its columns; no pixel is decoded.

Rows, turns, characters, pictures and their sizes, sources, licences, scripts, answer lengths, empty
answers, pictures and rows that repeat, dropped rows; with a `measure`, tokens as well.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import ImageError, RowError, TemplateError
from manako.core.record import write_record
from manako.data.spread import Numbers, Spread
from manako.data.turns import SCRIPTS, Turns, turns_of
from manako.data.writer import NAMED_COUNTS

if TYPE_CHECKING:
    from manako.core.conversation import Conversation
    from manako.core.example import Lengths
    from manako.data.store import Store

    Measure = Callable[[Conversation], Lengths]
    Progress = Callable[[int, int], None]

RECORD_KIND = "census"
DIGEST_BYTES = 16
PROGRESS_ROWS = 256
COLUMNS = ("messages", "train", "widths", "heights", "source", "license", "language")


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """What one source brings. answer_characters: of its trained turns."""

    rows: int = 0
    images: int = 0
    answers: int = 0
    answer_characters: int = 0


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """What occurs more than once, by content.

    distinct_images: different pictures, by their bytes. repeated_images: pictures beyond the first
    of their kind. rows_sharing_images: rows with a picture that another row has too; a split must
    not part them. repeated_rows: rows whose pictures and words an earlier row has already.
    """

    distinct_images: int
    repeated_images: int
    rows_sharing_images: int
    repeated_rows: int


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """Tokens as one processor counts them; `refused` rows by reason have no figures."""

    tokens: int
    text_tokens: int
    image_tokens: int
    trained_tokens: int
    vision_patches: int
    tokens_per_row: Spread
    trained_tokens_per_row: Spread
    longest_row: str
    refused: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Census:
    """A data set in figures. Lengths of text are in characters, of pictures in pixels.

    scripts: turns by the script they are written in: `japanese` has kana, `han` Chinese characters
    and no kana, then `hangul`, `latin`, `other`; `none` has no letters at all.
    languages: rows by what the source states ("" where it states nothing).
    rows_without_answer: nothing of the row is trained. dropped: rows left out when the data set was
    made, by reason.
    """

    rows: int
    images: int
    turns: int
    turns_by_role: Mapping[str, int]
    answers: int
    empty_answers: int
    rows_without_answer: int
    rows_without_image: int
    characters: int
    characters_by_role: Mapping[str, int]
    turns_per_row: Spread
    answer_characters: Spread
    images_per_row: Mapping[int, int]
    image_width: Spread
    image_height: Spread
    image_pixels: Spread
    scripts: Mapping[str, int]
    sources: Mapping[str, SourceCount]
    licences: Mapping[str, int]
    languages: Mapping[str, int]
    dropped: Mapping[str, int]
    file_bytes: int
    repeats: Repeats | None = None
    tokens: TokenCount | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `--json` and records; what was not counted is left out."""
        values = asdict(self)
        values["images_per_row"] = {str(n): rows for n, rows in self.images_per_row.items()}
        return {name: value for name, value in values.items() if value is not None}


def take_census(
    store: Store,
    *,
    measure: Measure | None = None,
    repeats: bool = True,
    progress: Progress | None = None,
) -> Census:
    """Count `store`.

    measure: a processor's `measure`, for the figures in tokens; rows it refuses are counted.
    repeats: compare pictures and rows by content, which reads every byte of the data set.
    progress: told (rows done, rows in all) every so often, where rows are read one by one.
    """
    count = _Count()
    for batch in store.batches(COLUMNS):
        count.add(batch)
    return count.census(
        store,
        repeats=_count_repeats(store) if repeats else None,
        tokens=None if measure is None else _count_tokens(store, measure, progress),
    )


def write_census(path: Path, census: Census, *, data: str) -> None:
    """Write a census as a record; `data` names the data set."""
    write_record(path, "data census", [{"kind": RECORD_KIND, "data": data, **census.as_dict()}])


@dataclass
class _Count:
    """Sums over batches. `per_source`: name → rows, images, answers, their characters."""

    roles: Counter[str] = field(default_factory=Counter)
    role_characters: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    images_per_row: Counter[int] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    per_source: dict[str, list[int]] = field(default_factory=dict)
    turns_per_row: Numbers = field(default_factory=Numbers)
    answer_characters: Numbers = field(default_factory=Numbers)
    widths: Numbers = field(default_factory=Numbers)
    heights: Numbers = field(default_factory=Numbers)
    empty_answers: int = 0
    rows_without_answer: int = 0

    def add(self, batch: Any) -> None:
        import numpy as np
        import pyarrow.compute as pc

        turns = turns_of(batch)
        images = pc.list_value_length(batch.column("widths")).to_numpy(zero_copy_only=False)
        answers = turns.per_row(turns.is_trained.astype(np.int64))
        characters = turns.per_row(np.where(turns.is_trained, turns.characters, 0))
        self._add_turns(turns)
        self.rows_without_answer += int((answers == 0).sum())
        self.images_per_row.update(images.tolist())
        self.widths.add(batch.column("widths").flatten())
        self.heights.add(batch.column("heights").flatten())
        self.licences.update(batch.column("license").to_pylist())
        self.languages.update(batch.column("language").to_pylist())
        for source, *figures in zip(
            batch.column("source").to_pylist(),
            images.tolist(),
            answers.tolist(),
            characters.tolist(),
            strict=True,
        ):
            sums = self.per_source.setdefault(source, [0, 0, 0, 0])
            for place, figure in enumerate((1, *figures)):
                sums[place] += figure

    def _add_turns(self, turns: Turns) -> None:
        for role, characters in zip(turns.roles, turns.characters.tolist(), strict=True):
            self.roles[role] += 1
            self.role_characters[role] += characters
        self.scripts.update(turns.scripts())
        self.turns_per_row.add(turns.turns_per_row)
        self.answer_characters.add(turns.characters[turns.is_trained])
        self.empty_answers += int((turns.is_trained & turns.is_blank).sum())

    def census(self, store: Store, *, repeats: Repeats | None, tokens: TokenCount | None) -> Census:
        manifest = store.manifest
        widths, heights = self.widths.array(), self.heights.array()
        return Census(
            rows=store.rows,
            images=len(widths),
            turns=self.roles.total(),
            turns_by_role=dict(self.roles.most_common()),
            answers=len(self.answer_characters.array()),
            empty_answers=self.empty_answers,
            rows_without_answer=self.rows_without_answer,
            rows_without_image=self.images_per_row[0],
            characters=self.role_characters.total(),
            characters_by_role=dict(self.role_characters.most_common()),
            turns_per_row=self.turns_per_row.spread(),
            answer_characters=self.answer_characters.spread(),
            images_per_row=dict(sorted(self.images_per_row.items())),
            image_width=self.widths.spread(),
            image_height=self.heights.spread(),
            image_pixels=Numbers.of(widths * heights).spread(),
            scripts={name: self.scripts[name] for name in SCRIPTS if self.scripts[name]},
            sources=_sources(self.per_source),
            licences=dict(self.licences.most_common(NAMED_COUNTS)),
            languages=dict(self.languages.most_common(NAMED_COUNTS)),
            dropped=dict(manifest.by_reason),
            file_bytes=sum(file.bytes for file in manifest.files),
            repeats=repeats,
            tokens=tokens,
        )


def _sources(per_source: Mapping[str, list[int]]) -> dict[str, SourceCount]:
    """The largest sources by name; further ones together as "(others)"."""
    ordered = sorted(per_source.items(), key=lambda item: -item[1][0])
    named = dict(ordered[:NAMED_COUNTS])
    if others := [sums for _, sums in ordered[NAMED_COUNTS:]]:
        named["(others)"] = [sum(column) for column in zip(*others, strict=True)]
    return {
        name: SourceCount(rows=r, images=i, answers=a, answer_characters=c)
        for name, (r, i, a, c) in named.items()
    }


def _count_repeats(store: Store) -> Repeats:
    first_row_of: dict[bytes, int] = {}
    sharing: set[int] = set()
    seen_rows: set[bytes] = set()
    images = row = 0
    for batch in store.batches(("images", "messages")):
        texts = turns_of(batch).row_texts()
        for pictures, text in zip(_digests(batch.column("images")), texts, strict=True):
            for digest in pictures:
                first = first_row_of.setdefault(digest, row)
                if first != row:
                    sharing |= {first, row}
            images += len(pictures)
            seen_rows.add(_digest(b"".join(pictures) + bytes([len(pictures) % 256]) + text))
            row += 1
    return Repeats(
        distinct_images=len(first_row_of),
        repeated_images=images - len(first_row_of),
        rows_sharing_images=len(sharing),
        repeated_rows=row - len(seen_rows),
    )


def _digests(images: Any) -> list[list[bytes]]:
    """The digest of every picture, row by row."""
    data, _ = images.flatten().flatten()
    digests = iter([_digest(value.as_buffer()) for value in data])
    counts = images.value_lengths().to_pylist()
    return [[next(digests) for _ in range(count)] for count in counts]


def _digest(data: Any) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _count_tokens(store: Store, measure: Measure, progress: Progress | None) -> TokenCount:
    sums: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    tokens, trained = Numbers(), Numbers()
    longest, longest_row = -1, ""
    for index in range(store.rows):
        if progress is not None and index % PROGRESS_ROWS == 0:
            progress(index, store.rows)
        conversation = store.outline(index)
        try:
            lengths = measure(conversation)
        except (RowError, ImageError, TemplateError) as error:
            refused[getattr(error, "reason", "template")] += 1
            continue
        sums.update(asdict(lengths))
        tokens.add([lengths.tokens])
        trained.add([lengths.trained_tokens])
        if lengths.tokens > longest:
            longest, longest_row = lengths.tokens, conversation.id
    if progress is not None:
        progress(store.rows, store.rows)
    return TokenCount(
        tokens=sums["text_tokens"] + sums["image_tokens"],
        text_tokens=sums["text_tokens"],
        image_tokens=sums["image_tokens"],
        trained_tokens=sums["trained_tokens"],
        vision_patches=sums["vision_patches"],
        tokens_per_row=tokens.spread(),
        trained_tokens_per_row=trained.spread(),
        longest_row=longest_row,
        refused=dict(refused.most_common()),
    )
