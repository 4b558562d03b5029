"""The processor that families with a chat template share: text here, geometry in the family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import BatchError, ImageError, InputError
from manako.core.example import Example, ImageInput, IntArray, Lengths, Pack
from manako.core.family import PixelRule, Seen
from manako.core.images import decode_rgb
from manako.families._shared.checkpoint_files import sha256_of
from manako.families._shared.layout import Layout, LayoutMaker, TextTokenizer


@dataclass(frozen=True)
class ImageCost:
    """What one picture of a given size becomes: `size` is (width, height) in pixels as resized."""

    size: tuple[int, int]
    grid: tuple[int, ...]
    tokens: int
    patches: int
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class ChatProcessor:
    """Text half of a Processor. A family subclasses it and adds the geometry of its pictures:
    `cost`, `cut`, `image_ids`, `positions`, `image_inputs`, `with_pixel_limits`, `save`."""

    family: str
    folder: Path
    pixel_rule: PixelRule
    image_token_id: int
    end_ids: tuple[int, ...]
    tokenizer: TextTokenizer
    maker: LayoutMaker
    required_inputs: tuple[str, ...]

    def cost(self, width: int, height: int) -> ImageCost:
        raise InputError(f"family {self.family} takes no images")

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] at the size the model sees."""
        from manako.families._shared.pixels import resize_torch_aa

        return resize_torch_aa(pixels_HWC, *cost.size, mode=self.pixel_rule.resample)

    def cut(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """The resized picture cut the way the model wants it."""
        raise InputError(f"family {self.family} takes no images")

    def image_ids(self, cost: ImageCost) -> list[int]:
        """Token ids that stand for one picture."""
        return [self.image_token_id] * cost.tokens

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """Model inputs that carry the pictures of a pack (at least one)."""
        raise InputError(f"family {self.family} takes no images")

    def token_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        """Model inputs of one entry per token besides ids and positions, each [1, T]."""
        return {}

    def positions(self, example: Example) -> IntArray:
        """int32 [1, T]: 0, 1, 2, …"""
        return np.arange(example.tokens, dtype=np.int32)[None]

    @property
    def image_fingerprint(self) -> str:
        return repr(self.pixel_rule)

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
        layout = self.maker.training(conversation)
        costs = self._costs(conversation)
        image_tokens = sum(len(self.image_ids(cost)) for cost in costs)
        return Lengths(
            text_tokens=len(layout.ids) - len(layout.image_places),
            image_tokens=image_tokens,
            trained_tokens=sum(layout.trained),
            vision_patches=sum(cost.patches for cost in costs),
        )

    def encode(self, conversation: Conversation) -> Example:
        """Training tokens, which of them are trained, and pixels."""
        return self._example(conversation, self.maker.training(conversation))

    def encode_prompt(self, conversation: Conversation) -> Example:
        """What the model is asked, with the head of the answer; nothing is trained."""
        return self._example(conversation, self.maker.prompt(conversation))

    def parse(self, token_ids: Sequence[int]) -> Message:
        """The assistant message of generated ids, cut before the first end-of-turn token."""
        ids = [int(i) for i in token_ids]
        stop = next((place for place, i in enumerate(ids) if i in self.end_ids), len(ids))
        return Message("assistant", (Text(self.tokenizer.decode(ids[:stop])),))

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as text; bytes that are no whole character come out as U+FFFD."""
        return [self.tokenizer.decode([int(i)]) for i in token_ids]

    def see(self, image: Image) -> Seen:
        """The picture as resized, with its token grid."""
        cost = self.cost(*image.size)
        return Seen(pixels=self._resized(image, cost), rows=cost.rows, columns=cost.columns)

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
            inputs.update(self.image_inputs(pack.images))
        self.require(inputs)
        return inputs

    def require(self, inputs: Mapping[str, Any]) -> None:
        """Raise `BatchError` when ids hold image tokens but a key the model needs is missing."""
        ids = inputs.get("input_ids")
        if ids is None:
            raise BatchError("the model's inputs lack 'input_ids'")
        if not bool((ids == self.image_token_id).any()):
            return
        if missing := [key for key in self.required_inputs if inputs.get(key) is None]:
            raise BatchError(
                f"the model's inputs lack {', '.join(repr(key) for key in missing)}, which family "
                f"{self.family} needs where there are image tokens",
                next_step="make the inputs with processor.model_inputs(pack)",
            )

    def _costs(self, conversation: Conversation) -> list[ImageCost]:
        return [self._cost_of(image, conversation.id) for image in conversation.images]

    def _cost_of(self, image: Image, row_id: str) -> ImageCost:
        try:
            return self.cost(*image.size)
        except ImageError as error:
            if not row_id:
                raise
            raise ImageError(f"row {row_id}: {error.message}", next_step=error.next_step) from error

    def _example(self, conversation: Conversation, layout: Layout) -> Example:
        ids: list[int] = []
        trained: list[bool] = []
        images = []
        place = 0
        costs = self._costs(conversation)
        for image, cost, mark in zip(conversation.images, costs, layout.image_places, strict=True):
            ids += layout.ids[place:mark]
            trained += layout.trained[place:mark]
            expansion = self.image_ids(cost)
            images.append(self._image_input(image, cost, len(ids), expansion))
            ids += expansion
            trained += [False] * len(expansion)
            place = mark + 1
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
        self, image: Image, cost: ImageCost, start: int, expansion: list[int]
    ) -> ImageInput:
        return ImageInput(
            pixels=self.cut(self._resized(image, cost), cost),
            grid=cost.grid,
            start=start,
            tokens=len(expansion),
            size=cost.size,
        )

    def _resized(self, image: Image, cost: ImageCost) -> NDArray[np.uint8]:
        return self.resize(decode_rgb(image.data, name=image.path), cost)
