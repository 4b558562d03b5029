"""Frames of a film's file, by PyAV (FFmpeg), which is loaded here alone.

Which frames: as many as the film has seconds × `fps`, at most `max_frames`, evenly spread from the
first to the last. That is the sampling of Qwen3-VL's video processor (transformers 5.24,
`models/qwen3_vl/video_processing_qwen3_vl.py`, Apache-2.0), but for its least number of four.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from manako.core.conversation import Image
from manako.core.errors import ImageError, InputError, MissingDependencyError, MissingFileError

RIGHT_ANGLE = 90
ROUNDING = 1e-6
"""Of a frame: sums of times fall short of whole numbers by less."""


def read_film(
    path: Path, *, fps: float, max_frames: int
) -> tuple[tuple[Image, ...], tuple[float, ...]]:
    """Frames as PNG (lossless), turned as the file says, and their times in seconds from the first.

    Raises `MissingDependencyError` without PyAV, `MissingFileError`, `InputError` for figures that
    give no frame, and `ImageError` for a file that holds no film or is broken.
    """
    if fps <= 0 or max_frames < 1:
        raise InputError(f"fps {fps:g} and max_frames {max_frames}: both must be above 0")
    if not path.is_file():
        raise MissingFileError(
            f"no such video file: {str(path)[:200]}",
            next_step="check the path; text is never guessed",
        )
    av = _library()
    try:
        times = _times(av, path)
        places = chosen(times, fps=fps, max_frames=max_frames)
        frames = _frames(av, path, set(places))
    except (av.FFmpegError, IndexError) as error:
        raise ImageError(
            f"{path} is no video that can be read: {error}", reason="video_unreadable"
        ) from error
    if len(frames) < len(places):
        raise ImageError(
            f"{path} is cut off: {len(frames)} of {len(places)} frames can be read",
            reason="video_unreadable",
        )
    return tuple(frames), tuple(times[place] - times[0] for place in places)


def chosen(times: list[float], *, fps: float, max_frames: int) -> list[int]:
    """Places of the frames to take, of a film whose frames are shown at `times` (seconds)."""
    total = len(times)
    if not total:
        raise IndexError("it has no frames")
    seconds = (times[-1] - times[0]) * total / max(1, total - 1)
    count = min(max(int(seconds * fps + ROUNDING), 1), max_frames, total)
    return [int(place) for place in np.linspace(0, total - 1, count).round()]


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            "reading a video file needs the package av (PyAV)",
            next_step="pip install 'manako[video]', or give frames: "
            "manako.Video(frames=(...), times=(...))",
        ) from error
    return av


def _times(av: Any, path: Path) -> list[float]:
    """When each frame is shown, in order; no frame is decoded."""
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        packets = film.demux(stream)
        return sorted(float(p.pts * stream.time_base) for p in packets if p.pts is not None)


def _frames(av: Any, path: Path, places: set[int]) -> list[Image]:
    found = []
    with av.open(str(path)) as film:
        for place, frame in enumerate(film.decode(film.streams.video[0])):
            if place in places:
                found.append(_picture(frame))
            if len(found) == len(places):
                break
    return found


def _picture(frame: Any) -> Image:
    from PIL import Image as Pillow

    turns = round(frame.rotation / RIGHT_ANGLE)
    pixels_HWC = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    buffer = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels_HWC)).save(buffer, "PNG", compress_level=1)
    return Image(buffer.getvalue())
