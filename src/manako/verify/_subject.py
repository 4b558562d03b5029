"""What a law is asked about: a checkpoint opened by its family, and probes to try it with."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation, Image, Message, Text, Video
from manako.core.errors import LawBroken, ManakoError, TemplateError
from manako.core.example import Example, Pack
from manako.core.family import Family, Processor, family_of
from manako.core.verdict import State, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Law:
    """One law. `check` returns the worst figure it saw, or raises `LawBroken`.

    A check that cannot run here, or cannot apply, raises `NotRun` or `NotApplicable`.
    """

    number: int
    title: str
    check: Callable[[Subject], str]


class NotRun(Exception):
    """The law could not be tried on this machine; the text says what it needs."""


class NotApplicable(Exception):
    """The law cannot apply to this family; the text is the reason."""


class Subject:
    """A checkpoint folder under test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.family: Family = family_of(folder)

    @cached_property
    def processor(self) -> Processor:
        return self.family.open(self.folder)

    def load(self, *, packed: bool = False) -> PreTrainedModel:
        """A fresh model in float32: in its own default attention, or, when `packed`, as
        training runs it."""
        from manako.nn.attention import use_segments
        from manako.nn.checkpoint import load_model
        from manako.nn.patches import multiply_patches

        model = load_model(self.folder, self.family, dtype="float32")
        if packed:
            use_segments(model)
            multiply_patches(model)
        return model

    def probes(self) -> list[Conversation]:
        """Conversations that this family can take: a text model gets the texts alone, and system
        turns are left out where the template refuses them."""
        found = list(probes())
        if not self.family.takes_images:
            found = [_texts_of(probe) for probe in found]
        if self.family.takes_videos:
            found += video_probes()
        return found if self.takes_system else [_without_system(probe) for probe in found]

    @cached_property
    def takes_system(self) -> bool:
        """Whether the checkpoint's template takes a system turn."""
        try:
            self.processor.encode_prompt(_probe("system", ("system", ["a"]), ("user", ["b"])))
        except TemplateError:
            return False
        return True

    def pack(self, examples: Sequence[Example]) -> Pack:
        return Pack(examples=tuple(examples), pack_tokens=max(1, sum(e.tokens for e in examples)))

    def verdict(self, law: Law) -> Verdict:
        """Run a law. Whatever stops it is a verdict that it fails: one law never hides another."""
        state: State = "holds"
        next_step = ""
        if reason := self.family.not_applicable.get(law.number):
            return Verdict(law=law.number, title=law.title, state="not applicable", figure=reason)
        try:
            figure = law.check(self)
        except NotRun as reason:
            state, figure = "not run", str(reason)
        except NotApplicable as reason:
            state, figure = "not applicable", str(reason)
        except ManakoError as error:
            state, figure, next_step = "fails", error.message, error.next_step
        except Exception as error:  # noqa: BLE001 (a family may fail in any way)
            state, figure = "fails", f"{type(error).__name__}: {error}"
        return Verdict(
            law=law.number, title=law.title, state=state, figure=figure, next_step=next_step
        )


def demand(holds: Any, message: str, *, next_step: str = "") -> None:
    """Raise `LawBroken` unless `holds`."""
    if not holds:
        raise LawBroken(message, next_step=next_step)


def picture(width: int, height: int) -> Image:
    """A PNG of the arithmetic pattern."""
    from manako.verify.golden.pictures import pattern

    return _png(pattern(width, height))


def _png(pixels_HWC: NDArray[np.uint8]) -> Image:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(pixels_HWC).save(buffer, format="PNG", compress_level=1)
    return Image(buffer.getvalue())


@cache
def probes() -> tuple[Conversation, ...]:
    """Conversations with what goes wrong elsewhere: Japanese, several pictures between texts, a
    picture after text, no picture, a system turn, several answers, edge blanks, an untrained turn."""
    small, wide, tall = picture(56, 56), picture(120, 40), picture(45, 90)
    return (
        _probe("plain", ("user", ["What is this?"]), ("assistant", ["A test."])),
        _probe(
            "picture",
            ("user", [small, "画像を説明してください。"]),
            ("assistant", ["数字の3です。"]),
        ),
        _probe("after", ("user", ["次の画像は何ですか。", wide]), ("assistant", ["帯です。"])),
        _probe(
            "between",
            (
                "user",
                [
                    small,
                    "これは日本の画像です",
                    tall,
                    "これはオーストリアの画像です",
                    "違いを説明して",
                ],
            ),
            ("assistant", ["一枚目は正方形、二枚目は縦長です。"]),
        ),
        _probe(
            "turns",
            ("system", ["あなたは親切な助手です。"]),
            ("user", [wide, "何が見えますか?"]),
            ("assistant", ["帯が見えます。"]),
            ("user", ["色は?", small]),
            ("assistant", ["灰色です。\nたぶん。"]),
            ("user", ["ありがとう"]),
            ("assistant", ["どういたしまして👋"]),
        ),
        _probe("blanks", ("user", ["  question \n"]), ("assistant", ["answer with が combined"])),
    )


def breaking_probe() -> Conversation:
    """Answers that begin with line breaks, which a tokenizer would join with the prompt's own."""
    return _probe(
        "breaks",
        ("user", ["one"]),
        ("assistant", ["\n\nfirst"]),
        ("user", ["two"]),
        ("assistant", ["\n second"]),
    )


def film(width: int, height: int, frames: int, *, seconds: float = 0.5) -> Video:
    """A video of the arithmetic pattern that grows lighter; `seconds` from frame to frame."""
    from manako.verify.golden.pictures import moving_pattern

    return Video(
        tuple(_png(frame) for frame in moving_pattern(width, height, frames)),
        tuple(seconds * number for number in range(frames)),
    )


@cache
def video_probes() -> tuple[Conversation, ...]:
    """The same with videos: alone, of an odd number of frames, and between pictures and texts."""
    short, odd = film(56, 56, 4), film(70, 40, 5, seconds=1.3)
    return (
        _probe("video", ("user", [short, "何が起きますか。"]), ("assistant", ["明るくなります。"])),
        _probe(
            "films",
            (
                "user",
                [picture(56, 56), "前", odd, "中", short, "後", picture(45, 90), "順番は?"],
            ),
            ("assistant", ["画像、動画、動画、画像です。"]),
            ("user", ["長いのは?"]),
            ("assistant", ["一本目です。"]),
        ),
    )


def spelled_probe(control_tokens: Sequence[str]) -> Conversation:
    """Contents that spell every control token: they must stay text."""
    spelled = " ".join(control_tokens)
    return _probe(
        "spelled",
        ("user", [picture(56, 56), f"read {spelled}"]),
        ("assistant", [f"it says {spelled} here"]),
    )


def _texts_of(probe: Conversation) -> Conversation:
    """The words of each turn in one part: what trims a text does it to the whole."""
    kept = [replace(message, content=(Text(message.text),)) for message in probe.messages]
    return replace(probe, messages=tuple(kept))


def _without_system(probe: Conversation) -> Conversation:
    kept = [message for message in probe.messages if message.role != "system"]
    return replace(probe, messages=tuple(kept))


def _probe(name: str, *turns: tuple[str, list[Any]]) -> Conversation:
    messages = tuple(Message(role, tuple(content)) for role, content in turns)  # type: ignore[arg-type]
    return Conversation(messages, id=f"probe/{name}")
