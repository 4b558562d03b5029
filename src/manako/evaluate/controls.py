"""Prompts with the wrong pictures: what a model scores on them, it knows without looking.

blank: every picture replaced by white paper of the same size.
shuffled: every question gets the pictures of another one, of the same kind and with pictures of
the same sizes where there is such a one, else of the same kind with as many pictures. No picture
of its own cluster is among them. Who gets whose is drawn from a seed and never looks at answers.
"""

from __future__ import annotations

import io
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache

from manako.core.conversation import Conversation, Image, Message
from manako.evaluate.questions import Question

SEED = 20260101


def blank(questions: Sequence[Question]) -> dict[int, Conversation]:
    """Question number → its prompt with white paper; questions without pictures are left out."""
    return {
        question.number: _with_images(question.prompt, [_paper(*i.size) for i in pictures])
        for question in questions
        if (pictures := question.prompt.images)
    }


def shuffled(questions: Sequence[Question]) -> dict[int, Conversation]:
    """Question number → its prompt with pictures of another cluster.

    Questions without pictures, and those whose kind has no other cluster with as many pictures,
    are left out.
    """
    found: dict[int, Conversation] = {}
    with_pictures = [question for question in questions if question.prompt.images]
    for key in (_kind_and_sizes, _kind_and_count):
        left = [question for question in with_pictures if question.number not in found]
        for question, other in _swapped(left, with_pictures, key):
            found[question.number] = _with_images(question.prompt, other.prompt.images)
    return found


CONTROLS: Mapping[str, Callable[[Sequence[Question]], dict[int, Conversation]]] = {
    "blank": blank,
    "shuffled": shuffled,
}


def _kind_and_sizes(question: Question) -> Hashable:
    return question.kind, tuple(image.size for image in question.prompt.images)


def _kind_and_count(question: Question) -> Hashable:
    return question.kind, len(question.prompt.images)


def _swapped(
    asking: Sequence[Question],
    giving: Sequence[Question],
    key: Callable[[Question], Hashable],
) -> list[tuple[Question, Question]]:
    """Each asking question with the one whose pictures it gets: of the next cluster in a drawn
    order among those that are alike by `key`; left out where there is no other cluster."""
    alike: dict[Hashable, dict[int, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for question in giving:
        alike[key(question)][question.cluster].append(question)
    following = {kind: _next_in_drawn_order(list(clusters)) for kind, clusters in alike.items()}
    taken: Counter[tuple[Hashable, int]] = Counter()
    pairs = []
    for question in asking:
        kind = key(question)
        other = following[kind][question.cluster]
        if other == question.cluster:
            continue
        others = alike[kind][other]
        pairs.append((question, others[taken[kind, other] % len(others)]))
        taken[kind, other] += 1
    return pairs


def _next_in_drawn_order(clusters: Sequence[int]) -> dict[int, int]:
    """Cluster → the one after it on a circle in drawn order; an only one comes after itself."""
    order = sorted(clusters)
    random.Random(SEED).shuffle(order)
    return dict(zip(order, [*order[1:], order[0]], strict=True))


def _with_images(prompt: Conversation, images: Sequence[Image]) -> Conversation:
    """The prompt with its pictures replaced, in order."""
    left = iter(images)
    turns = tuple(
        Message(
            turn.role,
            tuple(next(left) if isinstance(part, Image) else part for part in turn.content),
        )
        for turn in prompt.messages
    )
    return Conversation(turns, id=prompt.id, source=prompt.source, meta=prompt.meta)


@lru_cache(maxsize=256)
def _paper(width: int, height: int) -> Image:
    from PIL import Image as PillowImage

    buffer = io.BytesIO()
    PillowImage.new("RGB", (width, height), "white").save(buffer, format="PNG")
    return Image(buffer.getvalue())
