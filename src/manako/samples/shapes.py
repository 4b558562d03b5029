"""Small drawn pictures with questions about them, in LLaVA's JSON: what `manako init` starts with.

Pillow draws them; no network and no scans are needed. Each picture shows one to three shapes of
one kind and colour. Every combination comes once, and one in five is held out: each of its colours,
shapes and numbers was seen, but never together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIDE_PIXELS = 84
"""Three tokens of 28 pixels each way."""
PAPER = (250, 248, 242)
PLACES = ((14, 14), (46, 14), (30, 46))
SHAPE_PIXELS = 26
COLOURS = {
    "red": ((214, 40, 40), "赤"),
    "blue": ((32, 78, 216), "青"),
    "green": ((24, 150, 60), "緑"),
    "orange": ((244, 140, 0), "オレンジ"),
    "purple": ((140, 40, 170), "紫"),
}
"""Name → pixels, Japanese name."""
SHAPES = {"circle": "丸", "square": "四角", "triangle": "三角"}
COUNTS = (1, 2, 3)
QUESTIONS = {
    "en": ("What colour are the shapes?", "What shape is it?", "How many shapes are there?"),
    "ja": ("図形は何色ですか。", "何の形ですか。", "図形はいくつありますか。"),
}
PAIR_QUESTIONS = {
    "en": ("<image>is the first, <image>is the second. Which has more shapes?", "first", "second"),
    "ja": (
        "<image>が一枚目、<image>が二枚目です。図形が多いのはどちらですか。",
        "一枚目",
        "二枚目",
    ),
}
TRAINING, HELD_OUT, PICTURES = "train.json", "heldout.json", "pictures"


@dataclass(frozen=True, slots=True)
class Drawing:
    """What one picture shows."""

    shape: str
    colour: str
    count: int

    @property
    def file(self) -> str:
        return f"{PICTURES}/{self.colour}-{self.shape}-{self.count}.png"

    @property
    def is_held_out(self) -> bool:
        """One colour for each shape and number, another one each time."""
        steps = list(SHAPES).index(self.shape) + self.count - COUNTS[0]
        return (list(COLOURS).index(self.colour) + steps) % len(COLOURS) == 0

    def answers(self, lang: str) -> tuple[str, str, str]:
        """To `QUESTIONS`, in their order."""
        if lang == "ja":
            return COLOURS[self.colour][1], SHAPES[self.shape], str(self.count)
        return self.colour, self.shape, str(self.count)


def write_shapes(folder: Path) -> tuple[int, int]:
    """Write `pictures/`, `train.json` and `heldout.json` into a folder; rows of the two files.

    The same bytes every time, with one version of Pillow.
    """
    drawings = list(_drawings())
    (folder / PICTURES).mkdir()
    for drawing in drawings:
        _draw(drawing, folder / drawing.file)
    held_out = [drawing for drawing in drawings if drawing.is_held_out]
    training = [drawing for drawing in drawings if not drawing.is_held_out]
    rows = [*_rows(training), *_pairs(training)]
    _write(folder / TRAINING, rows)
    _write(folder / HELD_OUT, list(_rows(held_out)))
    return len(rows), len(held_out) * len(QUESTIONS)


def _drawings() -> Iterator[Drawing]:
    for count in COUNTS:
        for shape in SHAPES:
            for colour in COLOURS:
                yield Drawing(shape, colour, count)


def _rows(drawings: Sequence[Drawing]) -> Iterator[dict[str, Any]]:
    """Three questions about each picture, in each language; each comes first equally often."""
    for number, drawing in enumerate(drawings):
        for place, (lang, questions) in enumerate(QUESTIONS.items()):
            pairs = list(zip(questions, drawing.answers(lang), strict=True))
            first = (number + place) % len(pairs)
            asked = [turn for pair in pairs[first:] + pairs[:first] for turn in _turns(*pair)]
            asked[0]["value"] = f"<image>\n{asked[0]['value']}"
            name = f"{Path(drawing.file).stem}-{lang}"
            yield {"id": name, "image": drawing.file, "conversations": asked}


def _pairs(drawings: Sequence[Drawing]) -> Iterator[dict[str, Any]]:
    """A question about two pictures, whose places in the text are marked."""
    fewest = [drawing for drawing in drawings if drawing.count == 1]
    most = [drawing for drawing in drawings if drawing.count == 3]
    for number, (few, many) in enumerate(zip(fewest, most, strict=False)):
        lang = ("ja", "en")[number % 2]
        question, first, second = PAIR_QUESTIONS[lang]
        is_first = number % 4 < 2
        images = [many.file, few.file] if is_first else [few.file, many.file]
        answer = first if is_first else second
        yield {
            "id": f"pair-{number + 1:02d}-{lang}",
            "image": images,
            "conversations": _turns(question, answer),
        }


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _draw(drawing: Drawing, path: Path) -> None:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), PAPER)
    pen = ImageDraw.Draw(picture)
    colour = COLOURS[drawing.colour][0]
    for left, top in PLACES[: drawing.count]:
        box = (left, top, left + SHAPE_PIXELS, top + SHAPE_PIXELS)
        match drawing.shape:
            case "circle":
                pen.ellipse(box, fill=colour)
            case "square":
                pen.rectangle(box, fill=colour)
            case _:
                corners = [(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) // 2, box[1])]
                pen.polygon(corners, fill=colour)
    picture.save(path, format="PNG")
