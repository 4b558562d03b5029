"""Videos of the Qwen families: the size of their frames, how time is told, patches over two frames.

A patch reaches over `temporal` frames; where the last has too few, its last frame is repeated.
Rules of transformers 5.24 (Apache-2.0), `models/qwen2_vl/video_processing_qwen2_vl.py`,
`models/qwen3_vl/video_processing_qwen3_vl.py`, and the three processors, without `cap_pixels_per_frame`:
no published checkpoint asks for it. Frames are given, so nothing is sampled here.

How time is told:
- `grids` (Qwen2-VL): each grid of frames is one step of the time axis.
- `seconds` (Qwen2.5-VL): a grid's step is its seconds × `tokens_per_second`, rounded down.
- `texts` (Qwen3-VL): a line such as `<1.5 seconds>` stands before each grid, and the time axis holds.
  5.24 leaves the template's own vision marks around the whole; before 5 they were taken away.

In 5.24, text after a video goes on from the longer side of its frames, whatever its last moment is;
before 5 it went on from the largest position of all three axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError, ImageError
from manako.core.files import read_json
from manako.families._shared.checkpoint_files import check_agreement
from manako.families._shared.media import VIDEO_FILE, frame_size
from manako.families._shared.pixels import cut_patches, resize_torch_aa
from manako.families._shared.processor import ImageCost
from manako.families._shared.sizes import qwen_size
from manako.families._shared.sizes._rule import refused
from manako.families._shared.sizes.resized import MAX_ASPECT_RATIO

if TYPE_CHECKING:
    from manako.families._shared.qwen import ImageSettings

TimeRule = Literal["grids", "seconds", "texts"]


def video_cost(
    sizes: Sequence[tuple[int, int]],
    times: Sequence[float],
    settings: ImageSettings,
    rule: TimeRule,
) -> ImageCost:
    """What a video becomes. Raises `ImageError` where its frames differ in size, or the reference
    cannot take it."""
    width, height = _frame_size(*frame_size(sizes), len(sizes), settings, rule)
    rows, columns = height // settings.factor, width // settings.factor
    grids = -(-len(sizes) // settings.temporal)
    patches = (height // settings.patch, width // settings.patch)
    return ImageCost(
        size=(width, height),
        grid=(grids, *patches),
        tokens=grids * rows * columns,
        patches=grids * patches[0] * patches[1],
        rows=rows,
        columns=columns,
        times=tuple(times),
    )


def _frame_size(
    width: int, height: int, frames: int, settings: ImageSettings, rule: TimeRule
) -> tuple[int, int]:
    """(width, height) of each frame: limits are a frame's own, or those of all frames together."""
    smallest = settings.video_min_pixels or settings.min_pixels
    largest = settings.video_max_pixels or settings.max_pixels
    if rule != "texts":
        return qwen_size(
            width, height, factor=settings.factor, min_pixels=smallest, max_pixels=largest
        )
    return _shared_size(width, height, frames, settings, smallest, largest)


def _shared_size(
    width: int, height: int, frames: int, settings: ImageSettings, smallest: int, largest: int
) -> tuple[int, int]:
    """Source: `smart_resize` of Qwen3-VL's video processor."""
    factor = settings.factor
    if frames < settings.temporal:
        raise ImageError(
            f"a video of {frames} frames is too short for this model, which wants "
            f"{settings.temporal} at least",
            reason="video",
            next_step="give a single frame as a picture",
        )
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise refused(width, height, f"has an aspect ratio above {MAX_ASPECT_RATIO}")
    rounded = [round(side / factor) * factor for side in (width, height)]
    volume = round(frames / settings.temporal) * settings.temporal * rounded[0] * rounded[1]
    if volume > largest:
        beta = math.sqrt(frames * height * width / largest)
        rounded = [
            max(factor, math.floor(side / beta / factor) * factor) for side in (width, height)
        ]
    elif volume < smallest:
        beta = math.sqrt(smallest / (frames * height * width))
        rounded = [math.ceil(side * beta / factor) * factor for side in (width, height)]
    return rounded[0], rounded[1]


def cut_video(
    frames_HWC: Sequence[NDArray[np.uint8]], cost: ImageCost, settings: ImageSettings, resample: str
) -> NDArray[Any]:
    """uint8 [N, k, C, p, p]: grid after grid, its patches in the order of a picture's."""
    cut = [
        cut_patches(
            resize_torch_aa(frame, *cost.size, mode=resample),
            patch=settings.patch,
            merge=settings.merge,
        )
        for frame in frames_HWC
    ]
    cut += cut[-1:] * (-len(cut) % settings.temporal)
    return np.concatenate(
        [np.stack(grid, axis=1) for grid in _grids_of(cut, settings.temporal)],
    )


def _grids_of(frames: Sequence[Any], temporal: int) -> list[Sequence[Any]]:
    return [frames[start : start + temporal] for start in range(0, len(frames), temporal)]


def seconds_per_grid(times: Sequence[float], temporal: int) -> float:
    """Seconds from one grid of frames to the next, of frames that are evenly spaced."""
    return temporal * (times[-1] - times[0]) / max(1, len(times) - 1)


def time_steps(
    times: Sequence[float], grids: int, temporal: int, tokens_per_second: float | None
) -> NDArray[np.int32]:
    """int32 [grids]: positions on the time axis. The product is float32, as in the reference."""
    if tokens_per_second is None or not times:
        return np.arange(grids, dtype=np.int32)
    step = np.float32(tokens_per_second) * np.float32(seconds_per_grid(times, temporal))
    return (np.arange(grids, dtype=np.float32) * step).astype(np.int32)


def grid_texts(times: Sequence[float], temporal: int) -> list[str]:
    """`<1.5 seconds>` for each grid: the middle of its first and last frame."""
    padded = [*times, *[times[-1]] * (-len(times) % temporal)]
    return [f"<{(grid[0] + grid[-1]) / 2:.1f} seconds>" for grid in _grids_of(padded, temporal)]


def read_limits(folder: Path, image_config: Mapping[str, Any]) -> dict[str, int]:
    """Limits in pixels for videos, of `VIDEO_FILE`; none where a checkpoint has no such file: those
    of pictures hold then. Raises `CheckpointError` where it contradicts the picture settings."""
    if not (folder / VIDEO_FILE).is_file():
        return {}
    found = read_json(folder / VIDEO_FILE)
    names = ("patch_size", "merge_size", "temporal_patch_size", "image_mean", "image_std")
    check_agreement(
        folder,
        *((name, found[name], image_config[name]) for name in names if name in found),
        files=(VIDEO_FILE, "preprocessor_config.json"),
    )
    if found.get("cap_pixels_per_frame"):
        raise CheckpointError(
            f"{folder}: {VIDEO_FILE} asks for cap_pixels_per_frame, which these families are known "
            "without"
        )
    size = found.get("size") or {}
    return {
        "video_min_pixels": int(found.get("min_pixels") or size["shortest_edge"]),
        "video_max_pixels": int(found.get("max_pixels") or size["longest_edge"]),
    }
