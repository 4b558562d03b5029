"""Small events, runs and a page reader for the tests of `report`."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from manako.core.conversation import Conversation, Image, Message
from manako.core.example import Example, ImageInput
from manako.core.family import Seen
from manako.core.record import RecordWriter
from manako.report.events import Encoded, prediction_entry, sample_entry, write_entries

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\" ' {{ 7*7 }} &amp; http://x.y/z"
IMAGE_ID, START_ID, END_ID = 9, 1, 2
VOID_TAGS = frozenset({"meta", "img", "br", "input", "hr", "link"})
CELL_TAGS = frozenset({"td", "th", "dt", "dd"})
SVG_TAGS = frozenset({"path", "circle", "rect", "line"})


def picture(width: int = 8, height: int = 4, shade: int = 200) -> Image:
    """A PNG with a gradient, so that no two sizes or shades have the same bytes."""
    pixels = np.full((height, width, 3), shade, np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width, dtype=np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, format="PNG")
    return Image(buffer.getvalue(), path=f"pictures/{width}x{height}.png")


def conversation(question: str = "何ですか。", answer: str = "青", **fields: Any) -> Conversation:
    """Two pictures with text between them, and one trained answer."""
    content = (picture(), "左の絵", picture(12, 6), question)
    messages = (Message("user", content), Message("assistant", answer))
    return Conversation(messages, **{"id": "row-1", "source": "tests", **fields})


def encoded(answer: Sequence[str] = ("青", "<|end|>")) -> Encoded:
    """`conversation()` as a made-up tokenizer cuts it: 2 and 6 image tokens, the answer trained."""
    texts = ["<|start|>", "user", "\n"]
    ids = [START_ID, 20, 21]
    starts = []
    for count, words in ((2, "左の絵"), (6, "何ですか。")):
        starts.append(len(ids))
        ids += [IMAGE_ID] * count + [30]
        texts += ["<|image|>"] * count + [words]
    prompt = len(ids)
    ids += [40 + place for place in range(len(answer))]
    texts += answer
    example = Example(
        input_ids=np.array(ids, np.int32),
        trained=np.arange(len(ids)) >= prompt,
        images=tuple(
            ImageInput(
                pixels=np.zeros((count, 3, 2, 2), np.uint8),
                grid=(1, rows, columns),
                start=start,
                tokens=count,
                size=size,
            )
            for start, count, rows, columns, size in (
                (starts[0], 2, 1, 2, (8, 4)),
                (starts[1], 6, 2, 3, (18, 12)),
            )
        ),
        id="row-1",
    )
    seen = [
        Seen(pixels=np.full((4, 8, 3), 90, np.uint8), rows=1, columns=2),
        Seen(pixels=np.full((12, 18, 3), 120, np.uint8), rows=2, columns=3),
    ]
    return Encoded(example, texts, seen)


def write_samples(folder: Path, **fields: Any) -> Path:
    """A record of one encoded and one plain sample; its path."""
    entries = [
        sample_entry(conversation(**fields), number=0, encoded=encoded()),
        sample_entry(conversation(**fields), number=5),
    ]
    return write_entries(folder, entries, verb="view", data="data/tests", rows=40, model="tiny")


def write_run(folder: Path, *, steps: int = 30) -> Path:
    """A finished run with everything that a report can show; its folder."""
    rng = random.Random(0)
    with RecordWriter(folder / "record.jsonl", verb="train") as record:
        record.write("setup", parts=PARTS, total_steps=steps, device="cpu", threads=2)
        for step in range(1, steps + 1):
            record.write("step", **step_fields(step, rng))
        record.write("eval", step=steps, loss=0.5)
        record.write("end", step=steps, state="finished", seconds=75.0)
    (folder / "recipe.yaml").write_text("model: models/tiny\ntrain: {language: 1e-3}\n", "utf-8")
    (folder / "state.json").write_text('{"state": "finished"}', "utf-8")
    (folder / "plan.json").write_text(json.dumps({"memory": PLANNED}), "utf-8")
    (folder / "result.json").write_text(json.dumps(RESULT), "utf-8")
    write_entries(folder / "evaluation", predictions(), verb="eval")
    write_samples(folder / "samples")
    return folder


def step_fields(step: int, rng: random.Random) -> dict[str, Any]:
    """The fields of a step event as training writes them."""
    return {
        "step": step,
        "epoch": step / 10,
        "loss": 3 / step + rng.random() / 10,
        "grad_norms": {"vision": rng.random(), "language": rng.random()},
        "learning_rates": {"vision": 1e-3, "language": 1e-3 / step},
        "tokens_per_second": 900 + 10 * rng.random(),
        "pack_fill": 0.97,
        "data_wait_seconds": 0.01,
        "seconds": 2.5,
        "memory_bytes": 500_000_000,
        "peak_memory_bytes": 600_000_000,
    }


def predictions() -> list[Any]:
    """Ten questions of two kinds, every fifth answered wrongly."""
    found = []
    for number in range(10):
        right = number % 5 != 4
        found.append(
            prediction_entry(
                Conversation((Message("user", (picture(shade=number), f"問{number}")),)),
                group="read_one" if number % 2 else "made <up>",
                expected=str(number),
                answer=str(number) if right else "x",
                correct=right,
            )
        )
    return found


PARTS = {
    "vision": {"how": "frozen", "learning_rate": 0.0, "parameters": 400, "trained": 0},
    "language": {"how": "full", "learning_rate": 1e-3, "parameters": 600, "trained": 600},
}
PLANNED = {
    "total_bytes": 200_000_000,
    "cpu_process_low_bytes": 500_000_000,
    "cpu_process_high_bytes": 700_000_000,
}
RESULT = {
    "accuracy": 0.8,
    "accuracy_low": 0.49,
    "accuracy_high": 0.94,
    "test_questions": 10,
    "seconds": 75.0,
    "peak_memory_bytes": 600_000_000,
    "by_kind": {
        "read_one": {"n": 5, "accuracy": 0.9, "low": 0.5, "high": 0.99, "majority": 0.2},
        "made <up>": {"n": 5, "accuracy": 0.7, "low": 0.3, "high": 0.9, "majority": 0.3},
    },
    "by_language": {
        "ja": {"n": 6, "accuracy": 0.83, "low": 0.4, "high": 0.97, "majority": 0.2, "blank": 0.2},
        "en": {"n": 4, "accuracy": 0.75, "low": 0.3, "high": 0.95, "majority": 0.3, "blank": 0.3},
    },
    "controls": {
        "blank": {"accuracy": 0.25, "by_kind": {"read_one": 0.21, "made <up>": 0.5}},
        "shuffled": {"accuracy": 0.22, "by_kind": {"read_one": 0.2, "made <up>": 0.3}},
    },
    "majority": {"accuracy": 0.25},
}


@dataclass
class Element:
    """A tag with its attributes and the text inside it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())


@dataclass
class Page(HTMLParser):
    """A page taken apart; raises `AssertionError` where tags do not close in order."""

    html: str
    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()
        assert not self._open, f"never closed: {[e.tag for e in self._open]}"

    @classmethod
    def read(cls, path: Path) -> Page:
        return cls(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag in CELL_TAGS:
            self.handle_data(" ")
        if tag not in VOID_TAGS:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID_TAGS:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str = "", *classes: str) -> list[Element]:
        """Elements of a tag that have all these classes."""
        return [e for e in self.elements if (not tag or e.tag == tag) and set(classes) <= e.classes]

    def one(self, tag: str, *classes: str) -> Element:
        found = self.all(tag, *classes)
        assert len(found) == 1, f"{len(found)} of <{tag} {classes}>"
        return found[0]

    @property
    def words(self) -> str:
        """All text that a person sees."""
        return self.one("body").text


def decode(url: str) -> PillowImage.Image:
    """The picture of a data URL, decoded to the last pixel."""
    head, _, data = url.partition(",")
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    found = PillowImage.open(io.BytesIO(base64.b64decode(data, validate=True)))
    found.load()
    return found
