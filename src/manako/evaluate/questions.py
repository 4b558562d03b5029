"""Rows of a data set as questions: prompt, reference, kind, and which pictures belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manako.core.conversation import Conversation
from manako.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question. `cluster` is the same number for questions that share a picture, directly or
    through others; a question without a picture is a cluster of its own."""

    number: int
    id: str
    kind: str
    language: str
    prompt: Conversation
    expected: str
    cluster: int


def read_questions(rows: Sequence[Conversation]) -> list[Question]:
    """Questions of canonical rows whose last turn, an assistant's, is the reference.

    Kind and language come from the row's source: `forms/read_one/ja` is kind `read_one` in `ja`; a
    source without slashes is the kind itself. Raises `InputError` for a row without a reference.
    """
    if not rows:
        raise InputError("there are no questions to evaluate")
    clusters = _clusters(rows)
    return [_question(number, row, clusters[number]) for number, row in enumerate(rows)]


def _question(number: int, row: Conversation, cluster: int) -> Question:
    called = f"row {row.id or number}"
    last = row.messages[-1] if row.messages else None
    if last is None or last.role != "assistant" or len(row.messages) < 2:
        raise InputError(
            f"{called} has no reference answer: its last turn is "
            f"{'missing' if last is None else last.role}",
            next_step="the last of at least two turns must be the assistant's right answer",
        )
    if last.images or not last.text.strip():
        raise InputError(f"{called}: the reference answer must be text")
    place = row.source.split("/")
    return Question(
        number=number,
        id=row.id,
        kind=(place[1] if len(place) > 1 else row.source) or "all",
        language=place[2] if len(place) > 2 else "",
        prompt=Conversation(row.messages[:-1], id=row.id, source=row.source, meta=row.meta),
        expected=last.text,
        cluster=cluster,
    )


def _clusters(rows: Sequence[Conversation]) -> list[int]:
    """Number of each row's cluster: the first row that it is connected to by shared pictures."""
    parent = list(range(len(rows)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first_with: dict[str, int] = {}
    for number, row in enumerate(rows):
        for image in row.images:
            a, b = root(first_with.setdefault(image.sha256, number)), root(number)
            parent[max(a, b)] = min(a, b)
    return [root(number) for number in range(len(rows))]
