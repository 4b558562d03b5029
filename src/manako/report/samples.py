"""The data page: samples with their pictures, and with a model also as the model sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manako.core.record import Record, read_record
from manako.report.page import write_page
from manako.report.pictures import Album, Picture
from manako.report.texts import Lang
from manako.report.tokens import Counts, Shown, count_tokens, safe, shown_tokens

TURN_PICTURE_PIXELS = 220
SEEN_PICTURE_PIXELS = 420
MAX_PAGE_PICTURE_BYTES = 24_000_000
"""Pictures of a page beyond this are left out, and the page says so, or a phone cannot open it."""


@dataclass(frozen=True, kw_only=True)
class SeenPicture:
    """A picture as the model sees it, with its token grid over it; sizes in pixels."""

    picture: Picture
    number: int
    original: tuple[int, int]
    size: tuple[int, int]
    rows: int
    columns: int
    tokens: int

    @property
    def is_resized(self) -> bool:
        return self.original != self.size

    @property
    def grid_path(self) -> str:
        """Inner grid lines in a view of `columns` × `rows`."""
        across = "".join(f"M0 {row}H{self.columns}" for row in range(1, self.rows))
        return across + "".join(f"M{column} 0V{self.rows}" for column in range(1, self.columns))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a turn: text, or a picture (`number` counts from 1) with its size in words."""

    kind: str
    text: str = ""
    number: int = 0
    picture: Picture | None = None
    size: str = ""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A message: who speaks, whether it is trained, its parts in order."""

    role: str
    is_trained: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample event, ready for the template."""

    number: int | None
    id: str
    source: str
    turns: tuple[Turn, ...]
    seen: tuple[SeenPicture, ...]
    tokens: tuple[Shown, ...]
    counts: Counts
    notes: tuple[str, ...]
    refused: str


def write_samples_page(
    record: Path | Sequence[Mapping[str, Any]],
    out: Path,
    *,
    lang: Lang,
    title: str = "",
    folder: Path | None = None,
) -> Path:
    """Write the page of all sample events to `out`; its path.

    `record` is a record file, or the events themselves with `folder` as the place of their
    pictures. The header may say `data`, `rows` (in the whole set) and `model`. A torn last line is
    left out; raises `MissingFileError` or `InputError` when there is no record to read.
    """
    if isinstance(record, Path):
        found, folder = read_record(record), record.parent
    else:
        found = Record({}, tuple(record))
    album = Album(folder or out.parent)
    samples = read_samples(found.of_kind("sample"), album)
    return write_page(
        out,
        "samples.html.jinja",
        lang=lang,
        title=title or Path(str(found.header.get("data") or "")).name,
        header=found.header,
        samples=samples,
        has_tokens=any(sample.tokens for sample in samples),
        totals=_totals(samples),
    )


def read_samples(events: Sequence[Mapping[str, Any]], album: Album) -> list[Sample]:
    """Sample events as the templates want them."""
    return [_sample(event, album) for event in events]


def _totals(samples: Sequence[Sample]) -> Counts:
    return Counts(
        tokens=sum(sample.counts.tokens for sample in samples),
        image=sum(sample.counts.image for sample in samples),
        trained=sum(sample.counts.trained for sample in samples),
    )


def _sample(event: Mapping[str, Any], album: Album) -> Sample:
    tokens = tuple(shown_tokens(event.get("tokens") or ()))
    number = event.get("number")
    return Sample(
        number=int(number) if number is not None else None,
        id=safe(str(event.get("id", ""))),
        source=safe(str(event.get("source", ""))),
        turns=read_turns(event, album, side_pixels=TURN_PICTURE_PIXELS),
        seen=_seen_pictures(event.get("images") or (), album),
        tokens=tokens,
        counts=count_tokens(tokens),
        notes=tuple(str(note) for note in event.get("notes") or ()),
        refused=str(event.get("refused") or ""),
    )


def read_turns(event: Mapping[str, Any], album: Album, *, side_pixels: int) -> tuple[Turn, ...]:
    """The messages of a sample or prediction event, pictures where they stand."""
    images = event.get("images") or ()
    return tuple(
        Turn(
            role=str(message.get("role", "")),
            is_trained=bool(message.get("trained")),
            parts=tuple(
                _part(part, images, album, side_pixels) for part in message.get("parts") or ()
            ),
        )
        for message in event.get("messages") or ()
    )


def _part(
    part: Mapping[str, Any], images: Sequence[Mapping[str, Any]], album: Album, side_pixels: int
) -> Part:
    kind = str(part.get("type", ""))
    if kind == "text":
        return Part(kind="text", text=safe(str(part.get("text") or "")))
    if kind == "video":
        return Part(kind="video", number=int(part.get("frames", 0)))
    place = int(part.get("image", -1))
    image = images[place] if 0 <= place < len(images) else {"error": f"no picture {place}"}
    # Twice the side on the page, for screens with two pixels to the point.
    picture = _within_budget(album, image, max_side_pixels=2 * side_pixels)
    size = f"{image['width']} × {image['height']}" if "width" in image else ""
    return Part(kind="image", number=place + 1, picture=picture, size=size)


def _seen_pictures(images: Sequence[Mapping[str, Any]], album: Album) -> tuple[SeenPicture, ...]:
    return tuple(
        SeenPicture(
            picture=_within_budget(album, image["seen"], max_side_pixels=2 * SEEN_PICTURE_PIXELS),
            number=number,
            original=(int(image.get("width", 0)), int(image.get("height", 0))),
            size=(int(image["seen"].get("width", 0)), int(image["seen"].get("height", 0))),
            rows=int(image["seen"].get("rows", 1)),
            columns=int(image["seen"].get("columns", 1)),
            tokens=int(image["seen"].get("tokens", 0)),
        )
        for number, image in enumerate(images, 1)
        if image.get("seen")
    )


def _within_budget(album: Album, image: Mapping[str, Any], *, max_side_pixels: int) -> Picture:
    if album.used_bytes > MAX_PAGE_PICTURE_BYTES:
        return Picture(problem="page_full")
    return album.picture(image, max_side_pixels=max_side_pixels)
