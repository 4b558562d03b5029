"""From what a person gives to a conversation that can be asked; what cannot be is said here."""

from __future__ import annotations

import re
from typing import Any

from manako.core.conversation import Conversation, Message, Text, parts_of
from manako.core.errors import InputError, TooLongError

PICTURE_PATH = re.compile(
    r"\S+\.(jpe?g|png|webp|gif|bmp|tiff?|ppm|mp4|mov|webm|mkv)", re.IGNORECASE
)


def prompt_of(content: Any) -> Conversation:
    """A conversation that ends where the model is to answer.

    `content` is a string, a picture, a video, a list of them in any order, a list of Messages or a
    Conversation. Raises `InputError` when there is nothing to answer or a string is the name of a
    picture; `ImageError` and `MissingFileError` for pictures.
    """
    if not isinstance(content, Conversation):
        refuse_bare_paths(content)
    conversation = Conversation.of(content)
    if not conversation.messages:
        raise InputError("the prompt is empty", next_step="give at least a text or a picture")
    _check_last(conversation.messages[-1])
    return conversation


def user_turn(content: Any) -> Message:
    """One user turn from a string, a picture, or a list of both in any order."""
    refuse_bare_paths(content)
    turn = Message("user", parts_of(content))
    _check_last(turn)
    return turn


def refuse_bare_paths(content: Any) -> None:
    """A string is always text: refuse one that was surely meant to name a picture, because the
    model would be shown the name and answer something."""
    for item in content if isinstance(content, list | tuple) else (content,):
        if isinstance(item, str) and PICTURE_PATH.fullmatch(item):
            raise InputError(
                f"{item[:200]!r} is given as text, but looks like the path of a picture or a video",
                next_step=f"for what it shows: pathlib.Path({item[:200]!r}), or @{item[:200]} on the "
                f"command line; for the words: manako.Text(...)",
            )


def check_length(prompt_tokens: int, context_tokens: int) -> None:
    """Raise `TooLongError` where the prompt leaves no room for one token of an answer."""
    if prompt_tokens >= context_tokens:
        raise TooLongError(
            f"the prompt has {prompt_tokens:,} tokens, the model's context {context_tokens:,}",
            reason="too_long",
            next_step="ask with fewer or smaller pictures, or less text",
        )


def _check_last(turn: Message) -> None:
    if turn.role == "assistant":
        raise InputError(
            "the conversation ends with an assistant turn: there is nothing to answer",
            next_step="leave that turn out, or add a user turn",
        )
    is_blank = all(isinstance(part, Text) and not part.text.strip() for part in turn.content)
    if is_blank:
        raise InputError(
            f"the last turn ({turn.role}) is empty",
            next_step="give at least a text or a picture",
        )
