"""What a person types becomes the parts of a prompt: text, and pictures and videos where they stand.

An `@` marks a picture or a video, `@@` writes an @; one that does not exist is an error, never text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from manako.core.conversation import VIDEO_SUFFIXES, Image, Part, Text, Video
from manako.core.errors import InputError

MARK = "@"
IN_LINE = re.compile(r'@@|(?<!\S)@(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"@]\S*))')
"""In a line: `@@`, or a picture at the beginning of a word."""


def part_of(argument: str) -> Part:
    """One argument of `generate`: `@path` is a picture, `@@text` the text `@text`, else text.

    Raises `MissingFileError` for a picture that does not exist, `InputError` for a bare `@`.
    """
    if argument.startswith(MARK * 2):
        return Text(argument[1:])
    if argument.startswith(MARK):
        return picture(argument[1:])
    return Text(argument)


def parts_of_arguments(arguments: Iterable[str]) -> tuple[Part, ...]:
    """The arguments of `generate`, in order. Raises `InputError` too for a text that is nothing but
    the path of a picture: its @ was forgotten."""
    from manako.infer.prompt import refuse_bare_paths

    given = list(arguments)
    refuse_bare_paths([argument for argument in given if not argument.startswith(MARK)])
    return tuple(part_of(argument) for argument in given)


def parts_of_line(line: str) -> tuple[Part, ...]:
    """A line of `chat`: text with pictures where `@path` or `@"path with blanks"` stands.

    Blanks beside a picture only set it off and are left out. An @ inside a word
    (`name@example.org`) is text.
    """
    parts: list[Part] = []
    words, place = "", 0
    for match in IN_LINE.finditer(line):
        words += line[place : match.start()]
        place = match.end()
        if match[0] == MARK * 2:
            words += MARK
            continue
        parts += _text(words)
        words = ""
        parts.append(picture(match["bare"] if match["quoted"] is None else match["quoted"]))
    return (*parts, *_text(words + line[place:]))


def _text(words: str) -> list[Text]:
    stripped = words.strip()
    return [Text(stripped)] if stripped else []


def picture(path: str) -> Image | Video:
    """A picture or a video by its path; data URLs are taken too. A picture's header, and a video's
    frames, are read now, so that a file that is none is refused before a model is opened."""
    if not path:
        raise InputError("an @ without a path", next_step="write @picture.jpg, or @@ for an @")
    if path.lower().endswith(VIDEO_SUFFIXES):
        return Video.from_file(Path(path).expanduser())
    image = Image.of(path if path.startswith("data:") else Path(path).expanduser())
    _ = image.size
    return image
