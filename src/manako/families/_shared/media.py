"""What families that take videos beside pictures share: order, the frames' size, files of settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation, Image, Video
from manako.core.errors import ImageError
from manako.core.files import read_json

if TYPE_CHECKING:
    from manako.families._shared.layout import LayoutMaker

VIDEO_FILE = "video_preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"


def in_written_order(conversation: Conversation, maker: LayoutMaker) -> tuple[Image | Video, ...]:
    """Pictures and videos as the template writes their marks: some write the pictures of a turn
    first. Where it writes another number of marks, they stay as they are, and the layout is refused.
    """
    images, videos = conversation.images, conversation.videos
    marks = [mark for mark in (maker.image_mark, maker.video_mark) if mark]
    if not (images and videos) or len(set(marks)) < 2:
        return conversation.media
    pattern = re.compile("|".join(map(re.escape, marks)))
    pieces = maker.renderer.render(conversation, may_lose=True).pieces
    written = [m[0] for piece in pieces if isinstance(piece, str) for m in pattern.finditer(piece)]
    kinds: tuple[Sequence[Image | Video], ...] = (images, videos)
    if [written.count(mark) for mark in marks] != [len(kind) for kind in kinds]:
        return conversation.media
    left = dict(zip(marks, map(iter, kinds), strict=True))
    return tuple(next(left[mark]) for mark in written)


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
