"""LLaVA-OneVision opened: pictures in tiles (`sheets.py`), and videos, whose frames are one tile each.

A frame is resized to a tile without keeping its shape. The model halves the tokens along each side
of every frame, an odd one rounded up, and ends the whole video with one row end. Its forward takes
videos of equally many frames alone; `nn/patches.py` lets it take them one after another, with
their `frames_per_video`. Source: transformers 5.24, `models/llava_onevision/` (Apache-2.0).

Legend: F frames of all videos, C channels, t a tile's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.example import ImageInput
from manako.families._shared.checkpoint_files import check_agreement
from manako.families._shared.media import frame_size, read_video_settings
from manako.families._shared.pixels import resize_torch_aa
from manako.families._shared.processor import ImageCost
from manako.families._shared.sheets import BICUBIC, SheetProcessor


@dataclass(frozen=True, kw_only=True)
class OneVisionProcessor(SheetProcessor):
    """A checkpoint folder of LLaVA-OneVision."""

    def video_cost(self, sizes: Sequence[tuple[int, int]], times: Sequence[float]) -> ImageCost:
        """grid: frames, and rows and columns of tokens in each. Time is not told."""
        frame_size(sizes)
        frames, side = len(sizes), -(-self.settings.side // 2)
        return ImageCost(
            size=(self.settings.tile, self.settings.tile),
            grid=(frames, side, side),
            tokens=frames * side**2 + 1,
            patches=frames * self.settings.side**2,
            rows=side,
            columns=side,
            times=tuple(times),
        )

    def prepare_video(
        self, frames_HWC: Sequence[NDArray[np.uint8]], cost: ImageCost
    ) -> NDArray[Any]:
        """uint8 [F, C, t, t]."""
        mode = self.pixel_rule.resample
        frames = [resize_torch_aa(frame_HWC, *cost.size, mode=mode) for frame_HWC in frames_HWC]
        return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))

    def video_inputs(self, videos: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """Pixels [1, F, C, t, t], as transformers takes one video."""
        pixels = np.concatenate([video.pixels for video in videos])[None]
        counts = np.array([video.grid[0] for video in videos], dtype=np.int64)
        return {self.pixel_rule.video_key: pixels, "frames_per_video": counts}


def check_video_settings(folder: Path, image_config: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where frames of videos would be made otherwise than a tile is."""
    found = read_video_settings(folder)
    expected = {"rescale_factor": 1 / 255, "resample": BICUBIC, **image_config}
    names = ("size", "image_mean", "image_std", "rescale_factor", "resample")
    check_agreement(
        folder,
        *((f"{name} for videos", found[name], expected[name]) for name in names if name in found),
    )


def video_token_id(config: Mapping[str, Any]) -> int:
    """Of config.json, in the published spelling or in that of transformers 5."""
    return int(config["video_token_index" if "video_token_index" in config else "video_token_id"])
