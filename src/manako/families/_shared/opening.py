"""What opening a checkpoint folder has in common: tokenizer, template, end of turn, image token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import CheckpointError
from manako.families._shared.checkpoint_files import open_tokenizer, read_end_ids, read_template
from manako.families._shared.layout import LayoutMaker
from manako.families._shared.render import Renderer

if TYPE_CHECKING:
    from manako.core.family import Family
    from manako.families._shared.text_tokenizer import TextTokenizer


def open_chat(
    folder: Path,
    family: Family,
    *,
    image_token_id: int | None,
    image_mark: str | None = None,
    video_token_id: int | None = None,
    video_mark: str | None = None,
    template: str | None = None,
    end_token: str | None = None,
    breaks: Sequence[str] = (),
    spoken: Sequence[str] = (),
) -> dict[str, Any]:
    """The fields of a `ChatProcessor` that are read alike in every family, pictures' aside.

    image_token_id: of config.json; None for a text model. image_mark: what the template writes
    for a picture, where that is not the image token. video_token_id: of the token that it writes
    for a video, in a family that takes videos; video_mark: what stands for a video where that is
    text and no token, also in a template that has no rule for one. template: for checkpoints that carry none.
    end_token: ends an answer, beside those that the checkpoint names; put after the last answer
    where the template writes none. breaks, spoken: as `LayoutMaker` has them. Raises
    `CheckpointError` where files are missing or disagree.
    """
    tokenizer = open_tokenizer(folder)
    image_token = _token(folder, tokenizer, image_token_id)
    end_ids = read_end_ids(folder, tokenizer, end_token=end_token)
    maker = LayoutMaker(
        Renderer(read_template(folder, otherwise=template), video_text=video_mark),
        tokenizer,
        image_mark=image_mark or image_token,
        image_token=image_token,
        video_mark=video_mark or _token(folder, tokenizer, video_token_id),
        end_ids=end_ids,
        end_token=end_token if end_token and tokenizer.id_of(end_token) is not None else None,
        breaks=breaks,
        spoken=spoken,
    )
    return {
        "family": family.name,
        "folder": folder,
        "image_token_id": image_token_id,
        "end_ids": end_ids,
        "tokenizer": tokenizer,
        "maker": maker,
        "required_inputs": family.required_inputs,
        "required_video_inputs": family.required_video_inputs,
        "video_token_id": video_token_id,
    }


def _token(folder: Path, tokenizer: TextTokenizer, token_id: int | None) -> str | None:
    if token_id is None:
        return None
    token = tokenizer.tokenizer.id_to_token(token_id)
    if token is None:
        raise CheckpointError(
            f"{folder}: config.json names token {token_id} for pictures or videos, which "
            "tokenizer.json does not have",
            next_step="take both files from the same revision of the model",
        )
    return str(token)
