"""Picture headers and decoding: sizes without pixels, and nothing broken gets through."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import zlib
from struct import pack
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import PngImagePlugin

from manako.core.errors import ImageError
from manako.core.headers import plain_size
from manako.core.images import MAX_IMAGE_PIXELS, decode_rgb, read_size

ORIENTATION = 0x0112
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM")


def encoded(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Pillow.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Pillow.fromarray(pixels)


def png_of(width: int, height: int, *, ihdr: bytes = b"\x08\x02\x00\x00\x00") -> bytes:
    """A PNG whose header says what we like; its pixels are one empty block."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", pack(">II", width, height) + ihdr)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tried(read: Any, data: bytes) -> Any:
    """What `read` gives, or the `ImageError` it raises."""
    try:
        return read(data)
    except ImageError as error:
        return error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_the_header_gives_the_size_that_decoding_gives(kind: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    data = encoded(noise(7, 4), kind, **options)
    height, width, channels = decode_rgb(data).shape
    assert read_size(data) == (width, height)
    assert channels == 3


def test_exif_behind_the_pixels_of_a_png_still_turns_it() -> None:
    exif = Pillow.Exif()
    exif[ORIENTATION] = 6
    body = exif.tobytes()[6:]
    data = encoded(noise(7, 4), "PNG")
    chunk = pack(">I", len(body)) + b"eXIf" + body + pack(">I", zlib.crc32(b"eXIf" + body))
    turned = data[:-12] + chunk + data[-12:]
    assert decode_rgb(turned).shape == (7, 4, 3)
    assert read_size(turned) == (4, 7)


def test_plain_files_never_reach_pillow_and_others_do() -> None:
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Software", "a")
    assert plain_size(encoded(noise(7, 4), "PNG")) == (7, 4)
    assert plain_size(encoded(noise(7, 4), "PNG", pnginfo=comment)) == (7, 4)
    assert plain_size(encoded(noise(7, 4).convert("P"), "PNG")) == (7, 4)
    assert plain_size(encoded(noise(7, 4), "JPEG")) == (7, 4)
    assert plain_size(encoded(noise(7, 4), "JPEG", progressive=True)) == (7, 4)
    turning = PngImagePlugin.PngInfo()
    turning.add_itxt("XML:com.adobe.xmp", "<x/>")
    assert plain_size(encoded(noise(7, 4), "PNG", pnginfo=turning)) is None
    assert plain_size(encoded(noise(7, 4), "GIF")) is None
    exif = Pillow.Exif()
    exif[ORIENTATION] = 6
    assert plain_size(encoded(noise(7, 4), "JPEG", exif=exif)) is None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
)
def test_png_sizes_of_every_layout(width: int, height: int, mode: str) -> None:
    data = encoded(Pillow.new(mode, (width, height)), "PNG")
    assert plain_size(data) == (width, height)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read_but_never_crash(data: st.DataObject) -> None:
    whole = bytearray(encoded(noise(9, 6), data.draw(st.sampled_from(KINDS))))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if whole:
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    size, pixels = tried(read_size, bytes(whole)), tried(decode_rgb, bytes(whole))
    if isinstance(size, ImageError):
        assert isinstance(pixels, ImageError)
    if isinstance(pixels, ImageError):  # perhaps for damage that a header does not show
        assert pixels.reason.startswith("image_")
    else:
        assert (pixels.shape[1], pixels.shape[0]) == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_cut_short_is_refused_by_its_header_alone(kind: str) -> None:
    data = encoded(noise(40, 30), kind)
    for kept in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError) as caught:
            read_size(data[: int(len(data) * kept)], name="a.png")
        assert caught.value.reason == "image_corrupt"
        assert "a.png" in caught.value.message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image_empty"),
        (b"<html>404</html>", "image_unknown_kind"),
        (b"\x89PNG\r\n\x1a\n", "image_unknown_kind"),
        (png_of(0, 5), "image_corrupt"),
        (png_of(30_000, 30_000), "image_too_large"),
        (png_of(13_000, 14_000), "image_too_large"),
    ],
)
def test_empty_unknown_and_bombs_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    for read in (read_size, decode_rgb):
        with pytest.raises(ImageError) as caught:
            read(data)
        if reason == "image_corrupt":
            assert caught.value.reason in ("image_corrupt", "image_unknown_kind")
        else:
            assert caught.value.reason == reason


def test_the_ceiling_is_the_same_for_header_and_pixels() -> None:
    assert MAX_IMAGE_PIXELS == 2 * 89_478_485  # Pillow's own, or one of the two would refuse alone
    side = 13_377  # side² is just below the ceiling, side · (side + 1) above
    assert read_size(png_of(side, side)) == (side, side)
    with pytest.raises(ImageError, match="bomb"):
        read_size(png_of(side, side + 1))


def test_a_compressed_text_bomb_is_refused() -> None:
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", "a" * 4_000_000, zip=True)
    data = encoded(noise(4, 4), "PNG", pnginfo=comment)
    with pytest.raises(ImageError):
        decode_rgb(data)


def test_transparency_is_paper() -> None:
    clear = Pillow.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (0, 0, 0, 255))
    assert decode_rgb(encoded(clear, "PNG")).tolist() == [[[255] * 3, [0] * 3]]
    palette = Pillow.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    assert decode_rgb(encoded(palette, "PNG", transparency=0)).tolist() == [[[255] * 3]]
    grey = Pillow.new("LA", (1, 1), (0, 0))
    assert decode_rgb(encoded(grey, "PNG")).tolist() == [[[255] * 3]]


def test_sixteen_bits_keep_their_upper_half_and_are_not_clipped() -> None:
    levels = np.array([[0, 0x0100, 0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = decode_rgb(encoded(Pillow.fromarray(levels), kind))
        assert pixels[0, :, 0].tolist() == [0, 1, 127, 128, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_depths_without_a_fixed_white_are_refused_rather_than_clipped(dtype: Any) -> None:
    data = encoded(Pillow.fromarray(np.ones((2, 2), dtype)), "TIFF")
    with pytest.raises(ImageError, match="no fixed white"):
        decode_rgb(data)


def test_cmyk_and_the_first_frame_of_a_film_are_read() -> None:
    assert decode_rgb(encoded(noise(8, 8).convert("CMYK"), "JPEG")).shape == (8, 8, 3)
    frames = [Pillow.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_rgb(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP"])
def test_every_kind_is_known_in_a_fresh_process(kind: str) -> None:
    code = (
        "import sys; from manako.core.images import read_size;"
        "print(*read_size(sys.stdin.buffer.read()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=encoded(noise(7, 4), kind),
        capture_output=True,
        check=True,
    )
    assert done.stdout.split() == [b"7", b"4"]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_pixels_read_from_pillows_memory_are_those_of_a_copy(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    data = encoded(noise(37, 23).convert(mode), kind)
    pixels = decode_rgb(data)
    gc.collect()
    assert np.array_equal(pixels, np.array(Pillow.open(io.BytesIO(data)).convert("RGB")))
    assert pixels.shape == (23, 37, 3)
    assert pixels.flags.writeable


def test_a_picture_that_pillow_holds_in_pieces_is_copied() -> None:
    picture = noise(2100, 2100)  # 17.6 MB at four bytes per pixel; a piece has at most 16
    data = encoded(picture, "BMP")
    assert np.array_equal(decode_rgb(data), np.array(picture))
