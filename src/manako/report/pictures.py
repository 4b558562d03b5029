"""Pictures inside a page: decoded, shrunk to what a page needs, embedded as data URLs.

Every picture is encoded anew, so what a camera wrote beside the pixels (place, name, time) does not
travel with a report, and a file that is no picture never reaches the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import ImageError, ManakoError, MissingFileError
from manako.core.images import decode_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL_SIDE_PIXELS = 160
"""Pictures up to this side are shown enlarged, with their pixels as squares."""
KEPT_PNG_BYTES = 8_000
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """A picture on a page: `url` is a data URL, empty when `problem` says why there is none.

    `width`, `height`: pixels of the embedded picture.
    """

    url: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""

    @property
    def is_small(self) -> bool:
        return max(self.width, self.height) <= SMALL_SIDE_PIXELS

    def shown_width(self, width_pixels: int, height_pixels: int) -> int:
        """Width on the page that fits a box: small pictures by a whole factor, others shrunk."""
        if not self.width:
            return 0
        factor = min(width_pixels / self.width, height_pixels / self.height)
        if self.is_small and factor >= 1:
            return self.width * int(factor)
        return round(self.width * min(1.0, factor))


class Album:
    """Pictures of one record: reads files beside it, embeds each once, counts the bytes.

    `used_bytes` counts every use, because a data URL is repeated where it is used.
    """

    def __init__(self, folder: Path, *, max_side_pixels: int = 640) -> None:
        self.folder = folder
        self.max_side_pixels = max_side_pixels
        self.used_bytes = 0
        self._embedded: dict[tuple[str, int], Picture] = {}

    def picture(self, event: Mapping[str, Any], *, max_side_pixels: int = 0) -> Picture:
        """The picture that an image event names; a problem instead of an exception."""
        if problem := event.get("error"):
            return Picture(problem=str(problem))
        file, side = str(event.get("file", "")), max_side_pixels or self.max_side_pixels
        if (file, side) not in self._embedded:
            self._embedded[file, side] = self._read(file, side)
        picture = self._embedded[file, side]
        self.used_bytes += len(picture.url)
        return picture

    def _read(self, file: str, side: int) -> Picture:
        try:
            return embed(read_picture(self.folder, file), max_side_pixels=side)
        except ManakoError as error:
            return Picture(problem=error.message)


def read_picture(folder: Path, file: str) -> bytes:
    """The bytes of a picture that a record in `folder` names; nothing outside `folder` is read.

    Raises `MissingFileError` for what is not there, `ImageError` for what cannot be read.
    """
    path = (folder / file.replace("\0", "")).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise MissingFileError(f"no file {file}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {file}: {error.strerror}") from error


def embed(data: bytes, *, max_side_pixels: int) -> Picture:
    """A picture as data URL, no side above `max_side_pixels`. Raises `ImageError`."""
    from PIL import Image

    picture = Image.fromarray(decode_rgb(data))
    if max(picture.size) > max_side_pixels:
        picture.thumbnail((max_side_pixels, max_side_pixels), Image.Resampling.LANCZOS)
    kind, encoded = _encoded(picture)
    url = f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
    return Picture(url, *picture.size)


def _encoded(picture: Any) -> tuple[str, bytes]:
    """PNG where it is small or smaller (drawings, pages), JPEG otherwise (photographs)."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, format="PNG", optimize=True)
    if png.tell() <= KEPT_PNG_BYTES:
        return "png", png.getvalue()
    picture.save(jpeg, format="JPEG", quality=JPEG_QUALITY)
    return ("png", png.getvalue()) if png.tell() <= jpeg.tell() else ("jpeg", jpeg.getvalue())


def terminal_rows(data: bytes, *, max_columns: int, max_rows: int) -> NDArray[Any]:
    """Pixels uint8 [H, W, 3], H even, for half-block characters: W ≤ columns, H ≤ 2 · rows."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(decode_rgb(data))
    scale = min(max_columns / picture.width, 2 * max_rows / picture.height, 1.0)
    width = max(1, round(picture.width * scale))
    height = max(2, 2 * round(picture.height * scale / 2))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))
