"""Films made here with PyAV are read again: which frames, when, and the right way up."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from manako.core.conversation import Conversation, Message, Text, Video, parts_of
from manako.core.errors import ImageError, InputError, MissingDependencyError, MissingFileError
from manako.core.images import decode_rgb
from manako.core.video import chosen

CODECS = {".mp4": "mpeg4", ".mov": "mpeg4", ".mkv": "ffv1", ".webm": "libvpx-vp9"}


def write_film(
    path: Path, *, frames: int, rate: int = 10, size: tuple[int, int] = (64, 48)
) -> Path:
    """A film whose frame k is grey of level 8·k, with a white left upper corner."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream(CODECS[path.suffix], rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 8 * number, np.uint8)
            pixels[:16, :16] = 255
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode(None))
    return path


def levels(video: Video) -> list[int]:
    """Which frame each picture was."""
    pixels = [decode_rgb(frame.data) for frame in video.frames]
    return [round(float(picture[-16:, -16:].mean()) / 8) for picture in pixels]


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_frames_and_times_of_every_container(tmp_path: Path, suffix: str) -> None:
    film = write_film(tmp_path / f"clip{suffix}", frames=20)
    video = Video.from_file(film, fps=2)
    assert levels(video) == [0, 6, 13, 19]
    assert video.times == pytest.approx((0.0, 0.6, 1.3, 1.9), abs=0.002)
    assert video.frames[0].size == (64, 48)


def test_the_number_of_frames_is_bounded(tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.mkv", frames=20)
    assert levels(Video.from_file(film, fps=100)) == list(range(20))
    assert levels(Video.from_file(film, fps=10, max_frames=3)) == [0, 10, 19]
    assert levels(Video.from_file(film, fps=0.1)) == [0]


@pytest.mark.parametrize("total", [1, 2, 7, 240, 1001])
@pytest.mark.parametrize("fps", [0.5, 2.0, 30.0])
def test_frames_are_chosen_as_qwen3_does(total: int, fps: float) -> None:
    """Its formula with a frame rate of 25, but that it takes four frames at least."""
    count = min(max(int(total * fps / 25), 1), 768, total)
    expected = np.linspace(0, total - 1, count).round().astype(int).tolist()
    assert chosen([number / 25 for number in range(total)], fps=fps, max_frames=768) == expected


def test_a_phone_s_film_stands_upright(tmp_path: Path) -> None:
    """Its header says: turn by 90 degrees clockwise. The white corner goes to the right."""
    film = write_film(tmp_path / "clip.mp4", frames=2)
    data = film.read_bytes()
    place = data.index(b"tkhd") + 4 + 40
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    film.write_bytes(data[:place] + quarter + data[place + 36 :])
    video = Video.from_file(film, fps=10)
    assert video.frames[0].size == (48, 64)
    picture = decode_rgb(video.frames[0].data)
    assert picture[:12, -12:].mean() > 230
    assert picture[:12, :12].mean() < 30


def test_a_path_in_a_list_becomes_a_video(tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.MP4".lower(), frames=4)
    parts = parts_of([film, "何が起きますか"])
    assert isinstance(parts[0], Video)
    assert Conversation((Message("user", parts),)).videos == (parts[0],)
    assert parts[1] == Text("何が起きますか")


def test_without_pyav_the_install_line_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_film(tmp_path / "clip.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError) as caught:
        Video.from_file(film)
    assert "pip install 'manako[video]'" in caught.value.next_step


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no such video file.*gone\.mp4"):
        Video.from_file(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(ImageError, match="no video that can be read") as caught:
        Video.from_file(tmp_path / "text.mp4")
    assert caught.value.reason == "video_unreadable"
    film = write_film(tmp_path / "clip.mp4", frames=2)
    for changes in ({"fps": 0}, {"max_frames": 0}):
        with pytest.raises(InputError, match="above 0"):
            Video.from_file(film, **changes)  # type: ignore[arg-type]


def test_a_film_without_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        film.mux(stream.encode(sound))
        film.mux(stream.encode(None))
    with pytest.raises(ImageError, match="no video that can be read"):
        Video.from_file(path)


def test_a_film_whose_end_is_missing_is_refused(tmp_path: Path) -> None:
    """An mp4 says at its end where its frames stand."""
    film = write_film(tmp_path / "clip.mp4", frames=20)
    film.write_bytes(film.read_bytes()[:-400])
    with pytest.raises(ImageError, match="no video that can be read"):
        Video.from_file(film)


def test_times_that_go_back_are_refused(tmp_path: Path) -> None:
    frames = Video.from_file(write_film(tmp_path / "clip.mkv", frames=2), fps=10).frames
    with pytest.raises(InputError, match="times go back"):
        Video(frames, (1.0, 0.5))


def test_frames_are_lossless(tmp_path: Path) -> None:
    video = Video.from_file(write_film(tmp_path / "clip.mkv", frames=2), fps=10)
    from PIL import Image as Pillow

    assert Pillow.open(io.BytesIO(video.frames[0].data)).format == "PNG"
