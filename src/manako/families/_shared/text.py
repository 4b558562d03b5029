"""What families of text models share: nothing but a tokenizer and a template is read.

Imported by family files at their head, so it loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from manako.core.errors import InputError
from manako.core.family import PixelRule

if TYPE_CHECKING:
    from manako.core.family import Family
    from manako.families._shared.processor import ChatProcessor

NO_PIXELS = PixelRule(mean=(), std=())
"""The rule of a model that is never handed a pixel."""

TEXT_ONLY: Mapping[int, str] = MappingProxyType(
    {
        5: "a text model: it takes no pictures",
        6: "a text model: it takes no pictures",
        13: "a text model: it needs no keys besides ids and positions",
    }
)
"""Laws that cannot apply to a text model, and why."""


def open_text(
    folder: Path,
    family: Family,
    *,
    template: str | None = None,
    end_token: str | None = None,
) -> ChatProcessor:
    """Open a text model's checkpoint folder; the keywords are those of `open_chat`.

    A conversation with a picture is refused by name (`RowError`, reason `takes_no_images`).
    Raises `CheckpointError` where files are missing or disagree.
    """
    from manako.families._shared.opening import open_chat
    from manako.families._shared.processor import ChatProcessor

    opened = open_chat(folder, family, image_token_id=None, template=template, end_token=end_token)
    return ChatProcessor(**opened, pixel_rule=NO_PIXELS)


def no_pictures(width: int, height: int, settings: Any) -> NoReturn:
    """The `image_tokens` of a text model. Raises `InputError`."""
    del settings
    raise InputError(
        f"a picture of {width} × {height} pixels costs nothing here: the family takes no pictures",
        next_step="choose a vision-language model",
    )
