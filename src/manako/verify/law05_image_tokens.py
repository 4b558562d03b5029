"""Law 5: predicted image tokens equal the actual ones, for every odd size.

The bug it catches: "Image features and image tokens do not match", hours into a run.
"""

from __future__ import annotations

from typing import Any

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import ImageError
from manako.verify._film import examples_of_sizes
from manako.verify._subject import Law, NotApplicable, Subject, demand, picture

SIZES = (
    (1, 1), (1, 2), (2, 1), (1, 4000), (4000, 1), (1, 200), (200, 1), (3, 500), (500, 3),
    (13, 27), (27, 28), (28, 28), (29, 28), (55, 57), (56, 56), (57, 111), (100, 99), (123, 321),
    (333, 100), (448, 447), (640, 33), (33, 640), (301, 299), (511, 257), (640, 480), (999, 7),
)  # fmt: skip
FORWARD_TOKENS = 64
"""Only small pictures are also sent through the vision tower."""


def _check(subject: Subject) -> str:
    if not subject.family.takes_images:
        raise NotApplicable("the family takes no images")
    import torch

    model = subject.load(packed=True)
    refused, checked, forwarded = [], 0, 0
    for width, height in SIZES:
        asked = Message("user", (picture(width, height), Text("?")))
        answer = Message("assistant", (Text("!"),))
        conversation = Conversation((asked, answer), id=f"{width}x{height}")
        try:
            predicted = subject.processor.measure(conversation)
        except ImageError:
            refused.append(f"{width}×{height}")
            continue
        example = subject.processor.encode(conversation)
        demand(
            example.lengths == predicted,
            f"{width} × {height}: predicted {predicted}, actual {example.lengths}",
        )
        processor: Any = subject.processor
        by_rule = subject.family.image_tokens(width, height, processor.settings)
        demand(
            by_rule == predicted.image_tokens,
            f"{width} × {height}: the rule says {by_rule}, the processor {predicted.image_tokens}",
        )
        if predicted.image_tokens <= FORWARD_TOKENS:
            with torch.no_grad():
                _forward(subject, model, example)
            forwarded += 1
        checked += 1
    if subject.family.takes_videos:
        films, refused_films = examples_of_sizes(subject)
        for example in films:
            if example.lengths.image_tokens <= FORWARD_TOKENS:
                with torch.no_grad():
                    _forward(subject, model, example)
                forwarded += 1
        checked += len(films)
        refused += refused_films
    named = f"; refused by name: {', '.join(refused)}" if refused else ""
    return f"{checked} sizes equal, {forwarded} of them sent through the model{named}"


def _forward(subject: Subject, model: Any, example: Any) -> None:
    import torch

    from manako.nn.batch import make_batch

    batch = make_batch(
        subject.pack([example]), subject.processor, device=model.device, dtype=torch.float32
    )
    try:
        logits = model(**batch.inputs).logits
    except ValueError as error:
        demand(False, f"{example.images[0].size}: the model refuses: {error}")
    demand(torch.isfinite(logits).all(), f"{example.images[0].size}: logits are not finite")


LAW = Law(number=5, title="predicted image tokens are the actual ones", check=_check)
