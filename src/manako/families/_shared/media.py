"""What families that take videos beside pictures share: the frames' size, files of settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manako.core.errors import ImageError
from manako.core.files import read_json

VIDEO_FILE = "video_preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"


def frame_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(width, height) of every frame of a video. Raises `ImageError` where they differ."""
    if len(set(sizes)) > 1:
        raise ImageError(
            f"the frames of a video differ in size: {sorted(set(sizes))[:4]}",
            reason="video",
            next_step="bring all frames to one size, or give them as pictures",
        )
    return sizes[0]


def read_video_settings(folder: Path) -> dict[str, Any]:
    """A checkpoint's settings for videos; empty where it has none: those of pictures hold then.

    Since transformers 5 they may stand in `processor_config.json`, which goes first.
    """
    for name in (PROCESSOR_FILE, VIDEO_FILE):
        if (folder / name).is_file():
            whole = read_json(folder / name)
            found = whole.get("video_processor") if name == PROCESSOR_FILE else whole
            if found:
                return dict(found)
    return {}
