"""Image headers and safe decoding. Pillow is loaded when used.

The header is read before any pixel is decoded, so a decompression bomb is refused by its size.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from manako.core.errors import ImageError
from manako.core.headers import JPEG_END, JPEG_SCAN, plain_size

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PillowImage

MAX_IMAGE_BYTES = 256 * 2**20
MAX_IMAGE_PIXELS = 178_956_970
"""Where Pillow itself refuses (twice its warning limit): about 13,300 × 13,300, more than an A4
page at 1,200 dpi."""
EXIF_ORIENTATION = 0x0112
ORIENTATIONS_ON_THE_SIDE = frozenset({5, 6, 7, 8})
ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""MPO, the several-pictures-in-one JPEG of some cameras, is read by Pillow's JPEG reader."""


def read_size(data: bytes, *, name: str = "") -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, from the header.

    Pixels are decoded only where the header does not settle it: a PNG with metadata that may turn
    it, a turned TIFF, a file that looks cut short. Raises `ImageError` for what is empty, no
    image, cut short, or beyond the ceilings.
    """
    size = plain_size(data)
    if size is not None and len(data) <= MAX_IMAGE_BYTES:
        return _checked(size, name)
    with _open(data, name) as picture:
        try:
            return _upright_size(picture, data)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's readers raise nearly anything on broken files
            raise _corrupt(name, error) from error


def decode_rgb(data: bytes, *, name: str = "") -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels as uint8 [height, width, 3], upright; often a view of Pillow's four bytes per pixel.

    EXIF orientation is applied; transparency is composed onto white (a transparent page is
    paper, not ink); 16-bit grey keeps its upper 8 bits. Raises `ImageError` when the data is
    corrupt, cut short, beyond the ceilings, or of a depth without a fixed white (32-bit integers
    and floats).
    """
    from PIL import ImageOps

    with _open(data, name) as picture:
        try:
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return _pixels_of(_to_rgb(picture))
        except (MemoryError, ImageError):
            raise
        except Exception as error:  # as above
            raise _corrupt(name, error) from error


@cache
def _register_formats() -> None:
    """`Image.open(formats=...)` looks up readers that Pillow has not loaded by itself."""
    for kind in ("Jpeg", "Png", "WebP", "Gif", "Bmp", "Tiff", "Ppm", "Mpo"):
        importlib.import_module(f"PIL.{kind}ImagePlugin")


def _open(data: bytes, name: str) -> PillowImage:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(f"image {_called(name)}is empty (0 bytes)", reason="image_empty")
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageError(
            f"image {_called(name)}has {len(data):,} bytes, above {MAX_IMAGE_BYTES:,}",
            reason="image_too_large",
        )
    _register_formats()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our ceiling decides
            picture = Image.open(io.BytesIO(data), formats=ALLOWED_FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"image {_called(name)}is no picture of a known kind ({len(data):,} bytes)",
            reason="image_unknown_kind",
            next_step=f"known kinds: {', '.join(ALLOWED_FORMATS)}",
        ) from error
    except Image.DecompressionBombError as error:
        raise _bomb(name, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _corrupt(name, error) from error
    _checked(picture.size, name)
    return picture


def _checked(size: tuple[int, int], name: str) -> tuple[int, int]:
    width, height = size
    if width * height > MAX_IMAGE_PIXELS:
        raise _bomb(name, f"{width} × {height} pixels, above {MAX_IMAGE_PIXELS:,}")
    if not width or not height:
        raise ImageError(
            f"image {_called(name)}has a side of 0 pixels ({width} × {height})",
            reason="image_corrupt",
        )
    return size


def _upright_size(picture: PillowImage, data: bytes) -> tuple[int, int]:
    if picture.format in ("JPEG", "MPO") and _looks_cut_short(data):
        picture.load()  # raises where pixels are missing
    width, height = picture.size
    if picture.getexif().get(EXIF_ORIENTATION) not in ORIENTATIONS_ON_THE_SIDE:
        return width, height
    if picture.format == "TIFF":  # some versions of Pillow report the turned size, others do not
        from PIL import ImageOps

        picture.load()
        return ImageOps.exif_transpose(picture).size
    return height, width


def _looks_cut_short(data: bytes) -> bool:
    scan = data.find(bytes([0xFF, JPEG_SCAN]))
    return scan < 0 or data.rfind(JPEG_END, scan) < 0


def _corrupt(name: str, error: Exception) -> ImageError:
    found = str(error) or type(error).__name__
    return ImageError(f"image {_called(name)}is corrupt: {found}", reason="image_corrupt")


def _bomb(name: str, found: str) -> ImageError:
    return ImageError(
        f"image {_called(name)}is refused as a decompression bomb: {found}",
        reason="image_too_large",
        next_step="shrink the picture before giving it to Manako",
    )


def _called(name: str) -> str:
    return f"{name} " if name else ""


def _to_rgb(picture: PillowImage) -> PillowImage:
    from PIL import Image

    if picture.mode.startswith("I;16"):
        picture = picture.point(lambda level: level / 256).convert("L")
        picture.info.pop("transparency", None)  # a 16-bit level, which no 8-bit level equals
    if picture.mode in ("I", "F"):
        raise ImageError(
            f"a picture of 32-bit values (mode {picture.mode}) has no fixed white",
            reason="image_unknown_kind",
            next_step="store the picture with 8 or 16 bits per channel",
        )
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy it


class _Shared:
    """A picture's memory as numpy reads it; arrays of it keep this, and so the memory, alive."""

    def __init__(self, picture: PillowImage) -> None:
        import pyarrow as pa

        self.values = pa.array(picture).values
        channels = len(self.values) // (picture.height * picture.width)
        self.__array_interface__ = {
            "version": 3,
            "shape": (picture.height, picture.width, channels),
            "typestr": "|u1",
            "data": (self.values.buffers()[1].address + self.values.offset, False),
        }


def _pixels_of(picture: PillowImage) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Without a copy where Pillow (11.3) hands out its memory; it does not for large pictures,
    which it holds in several pieces."""
    import numpy as np

    if hasattr(picture, "__arrow_c_array__"):
        with contextlib.suppress(ValueError):
            return np.asarray(_Shared(picture))[:, :, :3]
    return np.array(picture, dtype=np.uint8)
