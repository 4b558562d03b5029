"""The conversation: a plain value that every room speaks.

Frozen, compared by content. It knows no tokenizer, no model and no storage id. An image stays the
bytes that came in until somebody needs pixels; its width and height come from its header.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from manako.core.errors import ImageError, InputError, MissingFileError, NotInThisVersion

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv")
DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


@dataclass(frozen=True)
class Text:
    """A stretch of text, exactly as written."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise InputError(f"text must be a str, found {type(self.text).__name__}")


@dataclass(frozen=True)
class Image:
    """An encoded picture: `data` is the file's bytes, `path` the name it came under, if any."""

    data: bytes = field(repr=False)
    path: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            raise ImageError(f"image data must be bytes, found {type(self.data).__name__}")

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels after EXIF orientation, read from the header."""
        from manako.core.images import read_size

        return read_size(self.data, name=self.path)

    @property
    def width(self) -> int:
        return self.size[0]

    @property
    def height(self) -> int:
        return self.size[1]

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @classmethod
    def of(cls, source: Any) -> Image:
        """An image from a path, bytes, PIL image, numpy array (H, W[, 3|4], uint8) or data URL.

        PIL images and arrays are stored as PNG (lossless). Raises `MissingFileError` when a path
        does not exist, `ImageError` when `source` is nothing of the above.
        """
        if isinstance(source, Image):
            return source
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(bytes(source))
        if isinstance(source, str):
            return cls._from_string(source)
        if isinstance(source, Path):
            return cls._from_path(source)
        return cls(_to_png(source))

    @classmethod
    def _from_string(cls, source: str) -> Image:
        if match := DATA_URL.match(source):
            try:
                return cls(base64.b64decode(source[match.end() :], validate=True))
            except binascii.Error as error:
                raise ImageError(f"the data URL holds no valid base64: {error}") from error
        if source.startswith(("http://", "https://")):
            raise NotInThisVersion(
                f"an image by URL ({source[:80]}) is not in this version",
                next_step="download the picture and give its path",
            )
        return cls._from_path(Path(source))

    @classmethod
    def _from_path(cls, path: Path) -> Image:
        try:
            if path.is_file():
                return cls(path.read_bytes(), path=str(path))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise ImageError(
                    f"image file {path} cannot be read: {error.strerror}",
                    reason="image_unreadable",
                ) from error
        raise MissingFileError(
            f"no such image file: {str(path)[:200]}",
            next_step="check the path; text is never guessed",
        )


def _to_png(source: Any) -> bytes:
    from PIL import Image as PillowImage

    if type(source).__module__.split(".")[0] == "numpy":
        try:
            source = PillowImage.fromarray(source)
        except (TypeError, ValueError) as error:
            raise ImageError(f"the array is no picture (H, W[, 3|4], uint8): {error}") from error
    if not isinstance(source, PillowImage.Image):
        raise ImageError(
            f"cannot make an image of a {type(source).__name__}",
            next_step="give a path, bytes, a PIL image, a numpy array or a data URL",
        )
    buffer = io.BytesIO()
    source.save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Video:
    """Frames of a film with their times in seconds, in order; families that take none say so."""

    frames: tuple[Image, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.times) or not self.frames:
            raise InputError(
                f"a video needs one time per frame, found {len(self.frames)} frames "
                f"and {len(self.times)} times"
            )
        if any(later < earlier for earlier, later in pairwise(self.times)):
            raise InputError(f"a video's times go back: {self.times[:8]}")

    @classmethod
    def from_file(cls, path: str | Path, *, fps: float = 2.0, max_frames: int = 64) -> Video:
        """Frames of a film's file, `fps` a second and `max_frames` at most, evenly spread.

        Needs PyAV: raises `MissingDependencyError` with the install line. Raises `MissingFileError`,
        and `ImageError` for a file that holds no film.
        """
        from manako.core.video import read_film

        frames, times = read_film(Path(path), fps=fps, max_frames=max_frames)
        return cls(frames, times)


Part = Text | Image | Video
PART_TYPES: frozenset[type] = frozenset({Text, Image, Video})


@dataclass(frozen=True)
class Message:
    """One turn. `train` overrides the default: assistant turns are trained, nothing else is."""

    role: Role
    content: tuple[Part, ...]
    train: bool | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"role {self.role!r} is not one of {', '.join(ROLES)}")
        if type(self.content) is not tuple or not PART_TYPES.issuperset(map(type, self.content)):
            object.__setattr__(self, "content", parts_of(self.content))
        if self.train and self.role != "assistant":
            raise InputError(f"train=True on a {self.role} turn: only assistant turns are trained")

    @property
    def is_trained(self) -> bool:
        return self.role == "assistant" if self.train is None else self.train

    @property
    def text(self) -> str:
        """All text of the turn, joined without separator."""
        return "".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.content if isinstance(part, Image))


def parts_of(content: Any) -> tuple[Part, ...]:
    """Parts from a string, one part, or a list that mixes strings (text), images and videos.

    In a list a `str` is always text; only data URLs, `Path`s, bytes, PIL images and arrays become
    images, so that a mistyped path never turns into text or the reverse. A `Path` that ends as one
    of `VIDEO_SUFFIXES` becomes a video.
    """
    if not isinstance(content, list | tuple | Iterator):
        content = (content,)  # bytes and arrays can be iterated too, and are one picture each
    return tuple(_part_of(item) for item in content)


def _part_of(item: Any) -> Part:
    if isinstance(item, Text | Image | Video):
        return item
    if isinstance(item, str):
        return Image.of(item) if DATA_URL.match(item) else Text(item)
    if isinstance(item, Path) and item.suffix.lower() in VIDEO_SUFFIXES:
        return Video.from_file(item)
    return Image.of(item)


@dataclass(frozen=True)
class Conversation:
    """Turns in order. `meta` is a JSON-like mapping of what has no field of its own."""

    messages: tuple[Message, ...]
    id: str = ""
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(self.messages))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Conversation, (self.messages, self.id, self.source, dict(self.meta))

    def __hash__(self) -> int:
        return hash((self.messages, self.id, self.source))

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(
            part for message in self.messages for part in message.content if isinstance(part, Image)
        )

    @property
    def media(self) -> tuple[Image | Video, ...]:
        """Pictures and videos, in the order in which they stand."""
        parts = (part for message in self.messages for part in message.content)
        return tuple(part for part in parts if isinstance(part, Image | Video))

    @property
    def videos(self) -> tuple[Video, ...]:
        return tuple(part for part in self.media if isinstance(part, Video))

    @property
    def last_trained(self) -> int | None:
        """Index of the last turn that is trained, None when there is none."""
        return next(
            (i for i in reversed(range(len(self.messages))) if self.messages[i].is_trained), None
        )

    @classmethod
    def of(cls, content: Any) -> Conversation:
        """A Conversation from one, or from the parts of a single user turn."""
        if isinstance(content, Conversation):
            return content
        if isinstance(content, Sequence) and content and isinstance(content[0], Message):
            return cls(tuple(cast("Sequence[Message]", content)))
        return cls((Message("user", parts_of(content)),))
