"""Videos of SmolVLM2: every frame one tile, and a text that tells how many there are and when.

Rules of transformers 5.24 (Apache-2.0), `models/smolvlm/video_processing_smolvlm.py` and
`replace_video_token` of `processing_smolvlm.py`. Frames are given, so nothing is sampled here.
Their times are all that is known of a video: where the reference has its length in seconds, the
text here says the time of the last frame, as the reference does where it has none.

Frames are resized by torch's Lanczos, pictures by Pillow's: the reference has no Pillow for videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import ImageError
from manako.families._shared.checkpoint_files import check_agreement
from manako.families._shared.lanczos import resize_torch_lanczos
from manako.families._shared.sizes.idefics import IDEFICS3_LONGEST, longest_side

VIDEO_MARK = "<video>"
"""What the reference's template writes for a video: text, in these checkpoints no token."""
SECONDS_PER_MINUTE = 60
UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
MOST_IN_WORDS = 999_999


def number_words(number: int) -> str:
    """`one hundred and twenty-eight`, as num2words writes it. Raises `ImageError` above
    `MOST_IN_WORDS`, where no model's context reaches."""
    if number > MOST_IN_WORDS:
        raise ImageError(f"a video of {number} frames is too long", reason="video")
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _below_thousand(rest)
    joint = ", " if rest >= 100 else " and "
    return f"{_below_thousand(thousands)} thousand" + (joint + _below_thousand(rest)) * bool(rest)


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _below_hundred(rest)
    return f"{UNITS[hundreds]} hundred" + f" and {_below_hundred(rest)}" * bool(rest)


def _below_hundred(number: int) -> str:
    tens, rest = divmod(number, 10)
    if number < len(UNITS):
        return UNITS[number]
    return TENS[tens] + f"-{UNITS[rest]}" * bool(rest)


def video_text(times: Sequence[float], frame: str) -> str:
    """The text of a video; frame: how one picture without tiles is written."""
    length = timedelta(seconds=int(times[-1]))
    told = "".join(f"\nFrame from {_clock(time)}:{frame}" for time in times)
    return (
        f"You are provided the following series of {number_words(len(times))} frames from a "
        f"{length} [H:MM:SS] video.\n{told}\n\n"
    )


def _clock(seconds: float) -> str:
    """Minutes and seconds; hours are minutes too."""
    minutes, rest = divmod(seconds, SECONDS_PER_MINUTE)
    return f"{int(minutes):02d}:{int(rest):02d}"


def cut_frames(
    frames_HWC: Sequence[NDArray[np.uint8]], *, tile: int, longest: int
) -> NDArray[np.uint8]:
    """uint8 [frames, 3, t, t]: the longest side first, then both onto the square."""
    return np.stack([_squared(frame, tile, longest).transpose(2, 0, 1) for frame in frames_HWC])


def _squared(frame_HWC: NDArray[np.uint8], tile: int, longest: int) -> NDArray[np.uint8]:
    height, width = frame_HWC.shape[:2]
    first = longest_side(width, height, min(longest, IDEFICS3_LONGEST))
    return resize_torch_lanczos(resize_torch_lanczos(frame_HWC, *first), tile, tile)


def video_longest(folder: Path, found: Mapping[str, Any], image_config: Mapping[str, Any]) -> int:
    """Longest side of a frame after the first resize, of a checkpoint's settings for videos; 0: it
    has none of its own, and that of pictures holds. Raises `CheckpointError` where they contradict
    those of pictures."""
    if not found:
        return 0
    names = ("max_image_size", "image_mean", "image_std", "resample", "rescale_factor")
    check_agreement(
        folder,
        *(
            (f"{name} for videos", found[name], image_config[name])
            for name in names
            if name in found and name in image_config
        ),
    )
    size = found.get("size") or found["video_sampling"]["video_size"]
    return int(size["longest_edge"])
