"""The processor that families with a chat template share: text here, geometry in the family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from manako.core.conversation import Conversation, Image, Message, Text, Video
from manako.core.errors import BatchError, ImageError, InputError, RecipeError, RowError
from manako.core.example import Example, ImageInput, IntArray, Lengths, Pack
from manako.core.family import PixelRule, Seen
from manako.core.images import decode_rgb
from manako.families._shared.checkpoint_files import (
    copy_image_files,
    copy_text_files,
    sha256_of,
)
from manako.families._shared.layout import Layout, LayoutMaker
from manako.families._shared.media import in_written_order
from manako.families._shared.text_tokenizer import TextTokenizer


@dataclass(frozen=True)
class ImageCost:
    """What one picture of a given size becomes, or one video of such frames.

    size: (width, height) in pixels that the model sees. grid: the family's own grid of the
    picture. tokens: places that its vectors take. patches: what the vision tower works on.
    rows, columns: the grid of tokens over `size`, to be drawn.
    times: of a video, seconds from its start to each frame that the model sees; else empty.
    """

    size: tuple[int, int]
    grid: tuple[int, ...]
    tokens: int
    patches: int
    rows: int
    columns: int
    times: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChatProcessor:
    """Text half of a Processor. A family subclasses it and adds the geometry of its pictures:
    `costs` or `cost`, `prepare` or `cut`, `image_ids`, `image_inputs`, and where it differs
    `image_text`, `positions`, `token_inputs`, `attention_inputs`, `with_pixel_limits`, `save`; one
    that takes videos, which has `required_video_inputs`: `video_cost`, `prepare_video`,
    `video_inputs` (or `media_inputs` of both), and `video_text` with `video_runs` or `video_ids`.

    settings: a frozen dataclass of picture settings, read from the checkpoint.
    """

    family: str
    folder: Path
    pixel_rule: PixelRule
    image_token_id: int | None
    end_ids: tuple[int, ...]
    tokenizer: TextTokenizer
    maker: LayoutMaker
    required_inputs: tuple[str, ...]
    required_video_inputs: tuple[str, ...] = ()
    video_token_id: int | None = None
    settings: Any = None

    def cost(self, width: int, height: int) -> ImageCost:
        """Of a picture that is alone in its conversation. Raises `ImageError` for a size that the
        reference cannot take."""
        raise InputError(f"family {self.family} takes no pictures")

    def costs(self, sizes: Sequence[tuple[int, int]]) -> list[ImageCost]:
        """Of all pictures of a conversation, by (width, height); in some families the number of
        pictures decides how each is cut."""
        return [self.cost(width, height) for width, height in sizes]

    def prepare(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, C, h, w] (float32 only where the reference normalises before it resizes): the
        picture resized and cut the way the model wants it."""
        return self.cut(self.resize(pixels_HWC, cost), cost)

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] at the size the model sees."""
        from manako.families._shared.pixels import resize_torch_aa

        return resize_torch_aa(pixels_HWC, *cost.size, mode=self.pixel_rule.resample)

    def cut(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """The resized picture as one entry: uint8 [1, 3, H, W]."""
        return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))[None]

    def image_text(self, cost: ImageCost) -> str | None:
        """The text that takes the place of the template's mark for a picture before tokens are
        made; it holds the image token once for each of `image_runs`. None: the mark stays."""
        return None

    def image_texts(self, conversation: Conversation) -> tuple[str, ...]:
        """`image_text` of each picture; empty where the marks stay."""
        return self.join_texts(conversation, self._costs(conversation))

    def join_texts(self, conversation: Conversation, costs: Sequence[ImageCost]) -> tuple[str, ...]:
        """`image_text` or `video_text` of each, fitted to what stands beside it."""
        texts = [self.video_text(c) if c.times else self.image_text(c) for c in costs]
        if not any(texts):
            return ()
        marks = [self.maker.video_mark if c.times else self.maker.image_mark for c in costs]
        return tuple(text or mark or "" for text, mark in zip(texts, marks, strict=True))

    def image_runs(self, cost: ImageCost) -> list[list[int]]:
        """Token ids that take the place of each image token of one picture."""
        return [self.image_ids(cost)]

    def image_ids(self, cost: ImageCost) -> list[int]:
        """Token ids that stand for one picture."""
        assert self.image_token_id is not None
        return [self.image_token_id] * cost.tokens

    def video_cost(self, sizes: Sequence[tuple[int, int]], times: Sequence[float]) -> ImageCost:
        """Of a video, by its frames' (width, height) and times in seconds. Raises `ImageError` for
        one that the reference cannot take."""
        raise InputError(f"family {self.family} takes no videos")

    def prepare_video(
        self, frames_HWC: Sequence[NDArray[np.uint8]], cost: ImageCost
    ) -> NDArray[Any]:
        """Frames as decoded → what `ImageInput.pixels` of a video says."""
        raise InputError(f"family {self.family} takes no videos")

    def video_text(self, cost: ImageCost) -> str | None:
        """`image_text` of a video; it holds the token whose places the video takes once for each
        of `video_runs`."""
        return None

    def video_runs(self, cost: ImageCost) -> list[list[int]]:
        """Token ids that take the place of each such token of one video."""
        assert self.video_token_id is not None
        return [[self.video_token_id] * cost.tokens]

    def video_inputs(self, videos: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """Model inputs that carry the videos of a pack (at least one)."""
        return {self.pixel_rule.video_key: np.concatenate([video.pixels for video in videos])}

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """Model inputs that carry the pictures of a pack (at least one)."""
        return {self.pixel_rule.key: np.concatenate([image.pixels for image in images])}

    def media_inputs(self, media: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """Model inputs that carry pictures and videos, each kind under keys of its own."""
        videos = [medium for medium in media if medium.is_video]
        images = [medium for medium in media if not medium.is_video]
        return {
            **(self.image_inputs(images) if images else {}),
            **(self.video_inputs(videos) if videos else {}),
        }

    def token_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        """Model inputs of one entry per token besides ids and positions, each [1, T]."""
        return {}

    def attention_inputs(self, pack: Pack) -> dict[str, Any]:
        """`segments`: the boundaries of the conversations."""
        return {"segments": tuple(pack.segments.tolist())}

    def positions(self, example: Example) -> IntArray:
        """int32 [1, T]: 0, 1, 2, …"""
        return np.arange(example.tokens, dtype=np.int32)[None]

    def with_pixel_limits(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Self:
        """Most families have no such limits. Raises `RecipeError` where one is asked for."""
        if min_pixels is None and max_pixels is None:
            return self
        raise RecipeError(
            f"family {self.family} has no picture limits: its checkpoint says what a picture costs",
            next_step="leave min_pixels and max_pixels out",
        )

    def with_settings(self, **changes: Any) -> Self:
        """The same processor with other picture settings."""
        return replace(self, settings=replace(self.settings, **changes))

    def save(self, folder: Path) -> None:
        """Tokenizer, template and picture settings, as they came."""
        copy_text_files(self.folder, folder)
        copy_image_files(self.folder, folder)

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing, where files are read as published."""
        return ()

    @property
    def image_fingerprint(self) -> str:
        return f"{self.settings} {self.pixel_rule}"

    @property
    def fingerprint(self) -> Mapping[str, str]:
        template = self.maker.renderer.template
        return {
            "tokenizer": sha256_of(self.tokenizer.file.read_bytes()),
            "template": sha256_of((template.source + template.clock).encode()),
            "images": self.image_fingerprint,
        }

    def measure(self, conversation: Conversation) -> Lengths:
        """Lengths of `encode(conversation)` from text and image headers alone."""
        costs = self._costs(conversation)
        layout = self.maker.training(conversation, self.join_texts(conversation, costs))
        runs = [self._runs(cost) for cost in costs]
        ids = len(layout.ids) + sum(len(run) - 1 for each in runs for run in each)
        image_tokens = sum(_span_tokens(layout, runs))
        return Lengths(
            text_tokens=ids - image_tokens,
            image_tokens=image_tokens,
            trained_tokens=sum(layout.trained),
            vision_patches=sum(cost.patches for cost in costs),
        )

    def encode(self, conversation: Conversation) -> Example:
        """Training tokens, which of them are trained, and pixels."""
        costs = self._costs(conversation)
        layout = self.maker.training(conversation, self.join_texts(conversation, costs))
        return self._example(conversation, costs, layout)

    def encode_prompt(self, conversation: Conversation) -> Example:
        """What the model is asked, with the head of the answer; nothing is trained."""
        costs = self._costs(conversation)
        layout = self.maker.prompt(conversation, self.join_texts(conversation, costs))
        return self._example(conversation, costs, layout)

    def parse(self, token_ids: Sequence[int]) -> Message:
        """The assistant message of generated ids, cut before the first end-of-turn token."""
        ids = [int(i) for i in token_ids]
        stop = next((place for place, i in enumerate(ids) if i in self.end_ids), len(ids))
        return Message("assistant", (Text(self.tokenizer.decode(ids[:stop])),))

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as text; bytes that are no whole character come out as U+FFFD."""
        return [self.tokenizer.decode([int(i)], at="inside") for i in token_ids]

    def see(self, image: Image) -> Seen:
        """The picture as resized, with its token grid."""
        cost = self.cost(*image.size)
        pixels = self.resize(decode_rgb(image.data, name=image.path), cost)
        return Seen(pixels=pixels, rows=cost.rows, columns=cost.columns)

    def model_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        """input_ids [1, T], position_ids [A, 1, T] (A = 1: [1, T]), pictures and token inputs.

        Raises `BatchError` when a key that the model needs would be missing.
        """
        positions = [self.positions(example) for example in pack.examples]
        joined = np.concatenate(positions, axis=1).astype(np.int64)
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": pack.input_ids[None].astype(np.int64),
            "position_ids": joined[:, None] if len(joined) > 1 else joined,
            **self.token_inputs(pack),
        }
        if pack.images:
            inputs.update(self.media_inputs(pack.images))
        self.require(inputs)
        return inputs

    def require(self, inputs: Mapping[str, Any]) -> None:
        """Raise `BatchError` when ids hold image or video tokens but a key the model needs for
        them is missing."""
        ids = inputs.get("input_ids")
        if ids is None:
            raise BatchError("the model's inputs lack 'input_ids'")
        for kind, token_id, keys in (
            ("image", self.image_token_id, self.required_inputs),
            ("video", self.video_token_id, self.required_video_inputs),
        ):
            if token_id is None or not bool((ids == token_id).any()):
                continue
            if missing := [key for key in keys if inputs.get(key) is None]:
                raise BatchError(
                    f"the model's inputs lack {', '.join(repr(key) for key in missing)}, which "
                    f"family {self.family} needs where there are {kind} tokens",
                    next_step="make the inputs with processor.model_inputs(pack)",
                )

    def _costs(self, conversation: Conversation) -> list[ImageCost]:
        if conversation.images and self.image_token_id is None:
            raise RowError(
                f"row {conversation.id}: family {self.family} is a text model and takes no "
                f"pictures, but the conversation has {len(conversation.images)}",
                row_id=conversation.id,
                reason="takes_no_images",
                next_step="choose a vision-language model, or leave the pictures out",
            )
        self._refuse_videos(conversation)
        try:
            pictures = iter(self.costs([image.size for image in conversation.images]))
            return [
                next(pictures)
                if isinstance(medium, Image)
                else self.video_cost([frame.size for frame in medium.frames], medium.times)
                for medium in in_written_order(conversation, self.maker)
            ]
        except ImageError as error:
            if not conversation.id:
                raise
            named = f"row {conversation.id}: {error.message}"
            raise ImageError(named, reason=error.reason, next_step=error.next_step) from error

    def _refuse_videos(self, conversation: Conversation) -> None:
        if conversation.videos and not self.required_video_inputs:
            raise RowError(
                f"row {conversation.id}: family {self.family} takes no videos, but the "
                f"conversation has {len(conversation.videos)}",
                row_id=conversation.id,
                reason="takes_no_videos",
                next_step="give frames as pictures, or choose a family that takes videos",
            )

    def _runs(self, cost: ImageCost) -> list[list[int]]:
        return self.video_runs(cost) if cost.times else self.image_runs(cost)

    def _example(
        self, conversation: Conversation, costs: Sequence[ImageCost], layout: Layout
    ) -> Example:
        ids: list[int] = []
        trained: list[bool] = []
        images = []
        places = iter(layout.image_places)
        place = 0
        runs = [self._runs(cost) for cost in costs]
        spans = _span_tokens(layout, runs)
        media = in_written_order(conversation, self.maker)
        for medium, cost, own, tokens in zip(media, costs, runs, spans, strict=True):
            starts = []
            for run in own:
                mark = next(places)
                ids += layout.ids[place:mark]
                trained += layout.trained[place:mark]
                starts.append(len(ids))
                ids += run
                trained += [False] * len(run)
                place = mark + 1
            images.append(self._image_input(medium, cost, starts[0], tokens))
        ids += layout.ids[place:]
        trained += layout.trained[place:]
        return Example(
            input_ids=np.array(ids, dtype=np.int32),
            trained=np.array(trained, dtype=np.bool_),
            images=tuple(images),
            id=conversation.id,
            notes=layout.notes,
        )

    def _image_input(
        self, medium: Image | Video, cost: ImageCost, start: int, tokens: int
    ) -> ImageInput:
        return ImageInput(
            pixels=self._pixels(medium, cost),
            grid=cost.grid,
            start=start,
            tokens=tokens,
            size=cost.size,
            patches=cost.patches,
            times=cost.times,
        )

    def _pixels(self, medium: Image | Video, cost: ImageCost) -> NDArray[Any]:
        if isinstance(medium, Image):
            return self.prepare(decode_rgb(medium.data, name=medium.path), cost)
        frames = [decode_rgb(frame.data, name=frame.path) for frame in medium.frames]
        return self.prepare_video(frames, cost)


def _span_tokens(layout: Layout, runs: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """Tokens of each picture's or video's span: its runs and what stands between them."""
    found, first = [], 0
    for each in runs:
        places = layout.image_places[first : first + len(each)]
        between = places[-1] - places[0] - (len(each) - 1)
        found.append(between + sum(map(len, each)))
        first += len(each)
    return found
