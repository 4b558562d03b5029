"""What a Sarashina-Vision checkpoint does with pictures and prompts.

Sizes, order of patches and limits are Qwen2-VL's (`qwen.py`), the pixels are not: a picture is
normalised first and resized afterwards, as floats, by a bicubic filter without antialiasing, so
pixels are float32 here. Positions are those of a text model.

Source: preprocessor_config.json and model card of sbintuitions/sarashina2.2-vision-3b (MIT). Its
`resample` is in the file and not used.

Legend: H height, W width, C channels, p patch side, N patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.conversation import Conversation
from manako.core.errors import CheckpointError, TemplateError
from manako.core.example import Example, IntArray, Pack
from manako.core.family import Family, PixelRule
from manako.core.known_facts import check_facts
from manako.families._shared.checkpoint_files import (
    change_image_settings,
    copy_image_files,
    copy_text_files,
    read_config,
    read_eos_token,
    read_image_settings,
)
from manako.families._shared.opening import open_chat
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.qwen import QwenProcessor, read_settings
from manako.families._shared.render import Renderer
from manako.families._shared.template import ChatTemplate
from manako.families._shared.text_tokenizer import TextTokenizer

PROCESSOR = "Sarashina2VisionImageProcessor"
HALVES = (0.5, 0.5, 0.5)
UNPROVEN = "unproven: normalised, then resized, with mean and std other than sarashina2.2-vision-3b"
"""Note of an example with pictures whose checkpoint has values that the rule is not known for."""
TOWER = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
"""Qwen2-VL's, which a published `vision_config` leaves out."""
MARKS = {
    "start_image_token_index": "<|prefix|>",
    "image_token_index": "<|file|>",
    "end_image_token_index": "<|suffix|>",
}
"""Tokens around and of a picture, by the field of config.json that has their ids."""
BLOCK = "<|prefix|><|file|><|suffix|>"
WITH_PICTURES = (
    "{%- set flat = namespace(messages=[], pictures=0, spoken=false) -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set flat.messages = flat.messages + [message] -%}"
    "{%- else -%}"
    "{%- set said = namespace(text='') -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}"
    "{%- set said.text = said.text + part['text'] -%}"
    "{%- elif flat.spoken or said.text -%}"
    "{{- raise_exception('it puts pictures in front of the first words, and nowhere else') -}}"
    "{%- else -%}"
    "{%- set flat.pictures = flat.pictures + 1 -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set message = {'role': message['role'], 'content': said.text} -%}"
    "{%- set flat.messages = flat.messages + [message] -%}"
    "{%- endif -%}"
    "{%- set flat.spoken = flat.spoken or message['role'] != 'system' -%}"
    "{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
    "{%- set written %}SOURCE{% endset -%}"
    f"{{{{- written | replace('{BLOCK}', '{BLOCK}' * (flat.pictures or 1), 1) -}}}}"
)
"""A template that takes words alone and writes one picture in front, for messages with pictures:
for n of them that block stands n times, as llm-jp-eval-mm (Apache-2.0) runs these checkpoints."""


@dataclass(frozen=True, kw_only=True)
class SarashinaProcessor(QwenProcessor):
    """Sarashina-Vision opened on a checkpoint folder."""

    def prepare(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """float32 [N, C, p, p], normalised; the second frame is made on the device."""
        values_CHW = self._resized(pixels_HWC, cost)
        return _cut(values_CHW, patch=self.settings.patch, merge=self.settings.merge)

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], to be looked at: what the model sees, rounded and kept within bytes."""
        rule = self.pixel_rule
        values_HWC = self._resized(pixels_HWC, cost).transpose(1, 2, 0)
        levels = (values_HWC * np.array(rule.std) + np.array(rule.mean)) / rule.scale
        return np.asarray(np.clip(levels.round(), 0, 255), dtype=np.uint8)

    def _resized(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.float32]:
        """float32 [C, H, W] at the size the model sees; values may overshoot."""
        import torch
        from torch.nn import functional

        from manako.nn.batch import normalise

        still = replace(self.pixel_rule, temporal_copies=0)
        picture = torch.from_numpy(np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)))[None]
        resized = functional.interpolate(
            normalise(picture, still),
            size=cost.size[::-1],
            mode="bicubic",
            align_corners=False,
            antialias=False,
        )
        return resized[0].numpy()

    def positions(self, example: Example) -> IntArray:
        """int32 [1, T]: 0, 1, 2, …: a picture's vectors count as text does."""
        return ChatProcessor.positions(self, example)

    def token_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        return ChatProcessor.token_inputs(self, pack)

    @property
    def is_proven(self) -> bool:
        """Whether pictures are prepared with the values that the rule was compared with."""
        rule = self.pixel_rule
        return rule.mean == rule.std == HALVES and abs(rule.scale * 255 - 1) < 1e-6

    def encode(self, conversation: Conversation) -> Example:
        return self._noted(super().encode(conversation))

    def encode_prompt(self, conversation: Conversation) -> Example:
        return self._noted(super().encode_prompt(conversation))

    def _noted(self, example: Example) -> Example:
        if self.is_proven or not example.images:
            return example
        return replace(example, notes=(*example.notes, UNPROVEN))

    def save(self, folder: Path) -> None:
        """Tokenizer and template files as they came, picture limits as they are in force, in every
        spelling that the file has of them."""
        copy_text_files(self.folder, folder)
        copy_image_files(self.folder, folder)
        low, high = self.settings.min_pixels, self.settings.max_pixels
        size = read_image_settings(folder).get("size")
        sides = {"size": {**size, "shortest_edge": low, "longest_edge": high}} if size else {}
        change_image_settings(folder, min_pixels=low, max_pixels=high, **sides)


def _cut(values_CHW: NDArray[np.float32], *, patch: int, merge: int) -> NDArray[np.float32]:
    """[C, H, W] → [N, C, p, p] in the order of `pixels.cut_patches`, for values that are floats."""
    channels, height, width = values_CHW.shape
    rows, columns = height // patch // merge, width // patch // merge
    blocks = values_CHW.reshape(channels, rows, merge, patch, columns, merge, patch)
    return blocks.transpose(1, 4, 2, 5, 0, 3, 6).reshape(-1, channels, patch, patch)


def open_sarashina(folder: Path, family: Family) -> SarashinaProcessor:
    """Open a checkpoint folder of `family`. Raises `CheckpointError` where its files are missing or
    disagree, or say something else than the rule that is known."""
    config = read_config(folder)
    if reason := family.refusal(config):
        raise CheckpointError(
            f"{folder}: config.json is not of family {family.name}: {reason}",
            next_step="take config.json of a Sarashina-Vision checkpoint",
        )
    image_config = read_image_settings(folder)
    _check_steps(folder, image_config)
    ids = _read_marks(folder, config)
    opened = open_chat(
        folder,
        family,
        image_token_id=ids["image_token_index"],
        end_token=read_eos_token(folder),
    )
    _check_marks(folder, opened["tokenizer"], ids)
    opened["tokenizer"].holds_added = False
    opened["maker"].renderer = _with_pictures(opened["maker"].renderer)
    towered = {**config, "vision_config": {**TOWER, **config["vision_config"]}}
    return SarashinaProcessor(
        **opened,
        pixel_rule=_pixel_rule(image_config),
        settings=read_settings(folder, towered, image_config),
    )


def _check_steps(folder: Path, image_config: Mapping[str, Any]) -> None:
    """The rule that is known has every step, and belongs to one class of the authors' code."""
    facts: dict[str, object] = dict.fromkeys(
        ("do_convert_rgb", "do_rescale", "do_normalize", "do_resize"), True
    )
    check_facts(
        f"{folder}: preprocessor_config.json",
        *(
            (name, image_config.get(name, expected), expected)
            for name, expected in {**facts, "image_processor_type": PROCESSOR}.items()
        ),
    )


def _read_marks(folder: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """Ids of the tokens of `MARKS` as config.json has them."""
    for name, token in MARKS.items():
        if not isinstance(config.get(name), int):
            raise CheckpointError(
                f"{folder}: config.json says {name} {config.get(name)!r}; expected the id of "
                f"{token}",
                next_step="take config.json from the model's own repository",
            )
    return {name: int(config[name]) for name in MARKS}


def _check_marks(folder: Path, tokenizer: TextTokenizer, ids: Mapping[str, int]) -> None:
    added = tokenizer.added()
    for name, token_id in ids.items():
        found = tokenizer.tokenizer.id_to_token(token_id)
        if found != MARKS[name] or token_id not in added:
            kind = "its added token" if found == MARKS[name] else "the added token"
            raise CheckpointError(
                f"{folder}: config.json says {name} {token_id}, which is {found!r} in "
                f"tokenizer.json; expected {kind} {MARKS[name]!r} "
                f"(id {tokenizer.id_of(MARKS[name])})",
                next_step="take both files from the same revision of the model",
            )


def _with_pictures(renderer: Renderer) -> Renderer:
    """The same renderer, or one that puts pictures in front where the template takes words alone."""
    template = renderer.template
    if _takes_parts(template):
        return renderer
    source = WITH_PICTURES.replace("SOURCE", template.source.removesuffix("\n"))
    special = template.special
    return Renderer(
        ChatTemplate(
            source, clock=template.clock, bos=special["bos_token"], eos=special["eos_token"]
        )
    )


def _takes_parts(template: ChatTemplate) -> bool:
    """Whether the template writes the text of a list of parts, and not that list."""
    words = "\ue000"
    parts = [{"type": "image"}, {"type": "text", "text": words}]
    try:
        text = template.render([{"role": "user", "content": parts}], add_generation_prompt=False)
    except TemplateError:
        return False
    return text.count(words) == 1 and "'type'" not in text


def _pixel_rule(image_config: Mapping[str, Any]) -> PixelRule:
    return PixelRule(
        mean=tuple(image_config.get("image_mean", HALVES)),
        std=tuple(image_config.get("image_std", HALVES)),
        scale=float(image_config.get("rescale_factor", 1 / 255)),
        temporal_copies=int(image_config["temporal_patch_size"]),
        reference="float_interpolate",
    )
