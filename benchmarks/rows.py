"""Made-up conversations as they come in practice: photos and pages, text in two languages.

Photos are crops of the two that ship with scikit-learn, as JPEG; pages are printed text, as PNG.
Sizes, pictures per conversation and turns follow a usual mix of visual questions and documents:
0.75 million pixels and 1.4 pictures on average, two turns. The same seed gives the same rows.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from manako.core.conversation import Conversation, Image, Message, Part, Text
from manako.core.row import row_of
from manako.data.writer import write_store

PICTURES, PICTURE_WEIGHTS = (0, 1, 2, 3), (0.1, 0.5, 0.3, 0.1)
ENGLISH_TEXT = (
    "the sign above the door shows a small red number next to three people who wait for their bus "
    "while rain falls on the roof of an old house and the form below asks for a name address date "
    "of birth and two signatures in total there are seven rows with prices between five and ninety"
)
JAPANESE_TEXT = (
    "この 写真 には 赤い 看板 と 三人 の 人 が 写って います 。 右 の 表 には 合計 金額 と 日付 "
    "が 書かれて いて 、 左下 に 署名 の 欄 が あります 。 雨 の 中 で バス を 待つ 人 と 古い 家"
)
ENGLISH, JAPANESE = ENGLISH_TEXT.split(), JAPANESE_TEXT.split()
LINE_PIXELS, MARGIN_PIXELS = 26, 60


def make_rows(count: int, *, seed: int = 0) -> Iterator[Conversation]:
    """`count` conversations; every number of pictures from none to three."""
    draw = random.Random(seed)
    for number in range(count):
        pictures = draw.choices(PICTURES, PICTURE_WEIGHTS)[0]
        yield _conversation(f"row-{number}", pictures, draw)


def write_rows(folder: Path, count: int, *, seed: int = 0) -> Path:
    """The rows in canonical form in `folder`."""
    with write_store(folder) as writer:
        for conversation in make_rows(count, seed=seed):
            writer.add(row_of(conversation))
    return folder


def make_checkpoint(folder: Path, *, family: str = "qwen2_vl", **changes: Any) -> Path:
    """A tiny model whose tokenizer knows the words of these rows, or those of `corpus`."""
    from manako.core.family import families

    draw = random.Random(0)
    corpus = [sentence(draw, 40) for _ in range(400)]
    families().items[family].make_tiny(folder, **{"corpus": corpus, "vocabulary": 1200, **changes})
    return folder


def sentence(draw: random.Random, words: int) -> str:
    """So many words of one of the two languages."""
    if draw.random() < 0.5:
        return " ".join(draw.choices(ENGLISH, k=words))
    return "".join(draw.choices(JAPANESE, k=words))


def _conversation(name: str, pictures: int, draw: random.Random) -> Conversation:
    messages: list[Message] = []
    shown: list[Part] = [_picture(draw) for _ in range(pictures)]
    for turn in range(draw.choice((1, 1, 2, 2, 3, 4))):
        asked = (*(shown if turn == 0 else ()), Text(sentence(draw, draw.randint(5, 25))))
        answer = sentence(draw, min(300, 3 + int(draw.lognormvariate(3.2, 0.9))))
        messages += [Message("user", asked), Message("assistant", (Text(answer),))]
    return Conversation(tuple(messages), id=name, source="made up")


def _picture(draw: random.Random) -> Image:
    buffer = io.BytesIO()
    if draw.random() < 0.6:
        _photo(draw).save(buffer, "JPEG", quality=draw.randint(82, 93))
    else:
        _page(draw).save(buffer, "PNG")
    return Image(buffer.getvalue())


@cache
def _photos() -> tuple[Pillow.Image, ...]:
    from sklearn.datasets import load_sample_images

    return tuple(Pillow.fromarray(pixels) for pixels in load_sample_images().images)


def _photo(draw: random.Random) -> Pillow.Image:
    photo = draw.choice(_photos())
    width, height = draw.choice(((640, 480), (800, 600), (1024, 768), (1024, 683), (720, 1080)))
    scale = min(photo.width / width, photo.height / height) * draw.uniform(0.6, 1.0)
    box_width, box_height = width * scale, height * scale
    left = draw.uniform(0, photo.width - box_width)
    top = draw.uniform(0, photo.height - box_height)
    box = (left, top, left + box_width, top + box_height)
    return photo.resize((width, height), Pillow.Resampling.BICUBIC, box=box)


def _page(draw: random.Random) -> Pillow.Image:
    width, height = draw.choice(((744, 1052), (827, 1169), (1000, 1414), (1169, 827)))
    page = Pillow.new("RGB", (width, height), (draw.randint(235, 255),) * 3)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(draw.randint(16, 22))
    for top in range(MARGIN_PIXELS, height - MARGIN_PIXELS, LINE_PIXELS):
        if draw.random() < 0.85:
            text = " ".join(draw.choices(ENGLISH, k=draw.randint(4, width // 75)))
            pen.text((MARGIN_PIXELS, top), text, fill=(draw.randint(0, 60),) * 3, font=font)
    return page
