"""Image headers and safe decoding. Pillow is loaded when used.

The header is read before any pixel is decoded, so a decompression bomb is refused by its size.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from manako.core.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PillowImage

MAX_IMAGE_BYTES = 256 * 2**20
MAX_IMAGE_PIXELS = 256 * 10**6
"""About 16,000 × 16,000: twice the largest scanner page, far below what exhausts memory."""
EXIF_ORIENTATION = 0x0112
ORIENTATIONS_ON_THE_SIDE = frozenset({5, 6, 7, 8})
ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO")


def read_size(data: bytes, *, name: str = "") -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, without decoding.

    Raises `ImageError` for what is empty, no image, or beyond the ceilings.
    """
    with _open(data, name) as picture:
        width, height = picture.size
        if picture.getexif().get(EXIF_ORIENTATION) in ORIENTATIONS_ON_THE_SIDE:
            return height, width
        return width, height


def decode_rgb(data: bytes, *, name: str = "") -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels as uint8 [height, width, 3], upright.

    EXIF orientation is applied; transparency is composed onto white (a transparent page is
    paper, not ink). Raises `ImageError` when the data is corrupt, cut short or beyond the ceilings.
    """
    import numpy as np
    from PIL import ImageOps

    with _open(data, name) as picture:
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            return np.array(_to_rgb(upright), dtype=np.uint8)
        except (OSError, SyntaxError, ValueError, IndexError) as error:
            raise ImageError(f"image {_called(name)}is corrupt: {error}") from error


def _open(data: bytes, name: str) -> PillowImage:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(f"image {_called(name)}is empty (0 bytes)")
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageError(f"image {_called(name)}has {len(data):,} bytes, above {MAX_IMAGE_BYTES:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our ceiling is below
            picture = Image.open(io.BytesIO(data), formats=ALLOWED_FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"image {_called(name)}is no picture of a known kind ({len(data):,} bytes)",
            next_step=f"known kinds: {', '.join(ALLOWED_FORMATS)}",
        ) from error
    except Image.DecompressionBombError as error:
        raise _bomb(name, str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"image {_called(name)}is corrupt: {error}") from error
    width, height = picture.size
    if width * height > MAX_IMAGE_PIXELS:
        raise _bomb(name, f"{width} × {height} pixels")
    if not width or not height:
        raise ImageError(f"image {_called(name)}has a side of 0 pixels ({width} × {height})")
    return picture


def _bomb(name: str, found: str) -> ImageError:
    return ImageError(
        f"image {_called(name)}is refused as a decompression bomb: {found}, "
        f"above {MAX_IMAGE_PIXELS:,} pixels",
        next_step="shrink the picture before giving it to Manako",
    )


def _called(name: str) -> str:
    return f"{name} " if name else ""


def _to_rgb(picture: PillowImage) -> PillowImage:
    from PIL import Image

    if picture.mode.startswith("I;16"):
        picture = picture.point(lambda level: level / 256).convert("L")
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return picture.convert("RGB")
