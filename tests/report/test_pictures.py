import io

import numpy as np
import pytest
from PIL import Image as PillowImage
from report_makers import decode, picture

from manako.core.errors import ImageError
from manako.report.pictures import Album, Picture, embed, terminal_rows


def jpeg(width, height, **options):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, format="JPEG", **options)
    return buffer.getvalue()


def test_a_small_picture_keeps_every_pixel():
    found = embed(picture(8, 4).data, max_side_pixels=100)
    original = PillowImage.open(io.BytesIO(picture(8, 4).data))
    assert np.array_equal(np.asarray(decode(found.url)), np.asarray(original))


def test_a_large_picture_is_shrunk_and_keeps_its_shape():
    found = embed(jpeg(600, 300), max_side_pixels=120)
    assert decode(found.url).size == (120, 60) == (found.width, found.height)


def test_what_a_camera_wrote_beside_the_pixels_does_not_travel():
    exif = PillowImage.Exif()
    exif[0x010F] = "SECRET-CAMERA"
    data = jpeg(64, 64, exif=exif)
    assert b"SECRET-CAMERA" in data
    found = embed(data, max_side_pixels=640)
    assert not decode(found.url).getexif()


def test_a_file_that_is_no_picture_is_refused():
    with pytest.raises(ImageError):
        embed(b"<svg onload='alert(1)'/>", max_side_pixels=100)


@pytest.mark.parametrize("file", ["../outside.png", "/etc/hostname", "missing.png", "", "a\0.png"])
def test_an_album_reads_nothing_outside_its_folder(tmp_path, file):
    (tmp_path / "outside.png").write_bytes(picture().data)
    (tmp_path / "in").mkdir()
    found = Album(tmp_path / "in").picture({"file": file})
    assert found.problem
    assert not found.url


def test_an_album_counts_every_use(tmp_path):
    (tmp_path / "a.png").write_bytes(picture().data)
    album = Album(tmp_path)
    first, second = (album.picture({"file": "a.png"}) for _ in range(2))
    assert first == second
    assert album.used_bytes == 2 * len(first.url)


def test_small_pictures_are_enlarged_by_whole_factors_only():
    assert Picture("x", 28, 28).shown_width(100, 100) == 84
    assert Picture("x", 112, 28).shown_width(100, 100) == 100
    assert Picture("x", 1000, 500).shown_width(420, 420) == 420
    assert Picture("x", 300, 900).shown_width(420, 450) == 150


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (56, 28), (300, 200)])
def test_half_blocks_fit_the_terminal(size):
    rows = terminal_rows(picture(*size).data, max_columns=40, max_rows=10)
    assert rows.shape[0] % 2 == 0
    assert 1 <= rows.shape[1] <= 40
    assert rows.shape[0] <= 20
