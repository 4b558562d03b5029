"""Asks a model every question of a set, with its pictures and without, and counts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from manako.core.conversation import Conversation, Message
from manako.core.errors import InputError
from manako.core.record import write_record
from manako.evaluate.controls import CONTROLS
from manako.evaluate.questions import Question, read_questions
from manako.evaluate.scorers import Share, accuracy, exact_match, majority

RECORD_NAME = "answers.jsonl"
LEAK_MARGIN = 0.05
"""How far a control may stand above the most frequent answer before it says that pictures are not
needed: five points, above what drawing 150 questions moves it."""


class Answering(Protocol):
    """What is evaluated: `infer.model.Model`, or anything that answers many prompts."""

    def generate_batch(
        self,
        contents: Any,
        *,
        max_new_tokens: int,
        batch_size: int,
        progress: Callable[[int, int], object] | None,
    ) -> Sequence[Any]:
        """Replies with `text` and `finish_reason`, in the prompts' order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One question's answer, right or wrong, beside what the controls answered."""

    number: int
    id: str
    kind: str
    language: str
    cluster: int
    expected: str
    answer: str
    correct: bool
    finish_reason: str
    controls: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    """Name of the control → its answer, and whether that was right."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Questions of one kind, or all.

    majority: share that the most frequent answer of each kind gets (of each kind and language,
    where answers are words: the question's language is no secret). controls: share that each
    control gets on the questions it could ask (`control_n`).
    """

    share: Share
    majority: float
    controls: Mapping[str, float]
    control_n: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {
            "n": self.share.n,
            "pictures": self.share.clusters,
            "accuracy": self.share.value,
            "low": self.share.low,
            "high": self.share.high,
            "majority": self.majority,
            **self.controls,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The outcome: scores of all questions and of each kind, and every prediction."""

    overall: Score
    by_kind: Mapping[str, Score]
    by_language: Mapping[str, Score]
    predictions: tuple[Prediction, ...] = field(repr=False)
    seconds: float

    @property
    def accuracy(self) -> float:
        return self.overall.share.value

    def leaks(self, margin: float = LEAK_MARGIN) -> list[str]:
        """Controls that beat the most frequent answer of their kind by more than `margin`: there,
        answers can be guessed without the picture."""
        return [
            f"{kind}: {name} {rate:.3f}, most frequent answer {score.majority:.3f}"
            for kind, score in self.by_kind.items()
            for name, rate in score.controls.items()
            if rate > score.majority + margin
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `result.json`, without the predictions."""
        controls = {
            name: {
                "accuracy": rate,
                "n": self.overall.control_n[name],
                "by_kind": {
                    kind: score.controls[name]
                    for kind, score in self.by_kind.items()
                    if name in score.controls
                },
            }
            for name, rate in self.overall.controls.items()
        }
        majorities = {kind: score.majority for kind, score in self.by_kind.items()}
        return {
            "accuracy": self.accuracy,
            "accuracy_low": self.overall.share.low,
            "accuracy_high": self.overall.share.high,
            "test_questions": self.overall.share.n,
            "test_pictures": self.overall.share.clusters,
            "by_kind": {kind: score.as_dict() for kind, score in self.by_kind.items()},
            "by_language": {name: score.as_dict() for name, score in self.by_language.items()},
            "controls": controls,
            "majority": {"accuracy": self.overall.majority, "by_kind": majorities},
            "evaluation_seconds": self.seconds,
        }

    def write(self, folder: Path) -> Path:
        """Write the record `answers.jsonl` into `folder`: one `score` event with the figures, one
        `answer` event a question, without pictures; its path."""
        path = folder / RECORD_NAME
        answers = ({"kind": "answer", **_answer_event(p)} for p in self.predictions)
        write_record(path, "eval", [{"kind": "score", **self.as_dict()}, *answers])
        return path


def evaluate(
    model: Answering,
    rows: Sequence[Conversation],
    *,
    batch_size: int = 32,
    max_new_tokens: int = 32,
    controls: Sequence[str] = ("blank", "shuffled"),
    progress: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Exact match of greedy answers with the last assistant turn of each row.

    controls: of `evaluate.controls`. `progress(done, total)` counts prompts; prompts that are alike
    (white paper makes many so) are asked once. Raises `InputError` for rows without a reference,
    and what the model raises for prompts it cannot take.
    """
    if unknown := set(controls) - set(CONTROLS):
        raise InputError(
            f"controls {', '.join(sorted(unknown))} are unknown; known: {', '.join(CONTROLS)}"
        )
    started = time.perf_counter()
    questions = read_questions(rows)
    asked: dict[str, dict[int, Conversation]] = {"": {q.number: q.prompt for q in questions}}
    asked |= {name: CONTROLS[name](questions) for name in controls}
    replies = _ask(model, asked, batch_size, max_new_tokens, progress)
    predictions = tuple(_prediction(question, replies) for question in questions)
    kinds = list(dict.fromkeys(question.kind for question in questions))
    by_kind = {kind: _score([p for p in predictions if p.kind == kind]) for kind in kinds}
    languages = [p.language for p in predictions]
    return Evaluation(
        overall=_score(predictions),
        by_kind=by_kind,
        by_language={
            name: _score([p for p in predictions if p.language == name])
            for name in dict.fromkeys(languages)
            if all(languages)
        },
        predictions=predictions,
        seconds=time.perf_counter() - started,
    )


def _ask(
    model: Answering,
    asked: Mapping[str, Mapping[int, Conversation]],
    batch_size: int,
    max_new_tokens: int,
    progress: Callable[[int, int], object] | None,
) -> dict[str, dict[int, Any]]:
    """Replies by control (the empty name is the real thing) and question number."""
    place: dict[tuple[Message, ...], int] = {}
    prompts: list[Conversation] = []
    for prompt in (prompt for group in asked.values() for prompt in group.values()):
        if place.setdefault(prompt.messages, len(prompts)) == len(prompts):
            prompts.append(prompt)
    replies = model.generate_batch(
        prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
    )
    return {
        name: {number: replies[place[prompt.messages]] for number, prompt in group.items()}
        for name, group in asked.items()
    }


def _prediction(question: Question, replies: Mapping[str, Mapping[int, Any]]) -> Prediction:
    reply = replies[""][question.number]
    beside = {
        name: found[question.number].text
        for name, found in replies.items()
        if name and question.number in found
    }
    return Prediction(
        number=question.number,
        id=question.id,
        kind=question.kind,
        language=question.language,
        cluster=question.cluster,
        expected=question.expected,
        answer=reply.text,
        correct=exact_match(reply.text, question.expected),
        finish_reason=reply.finish_reason,
        controls={
            name: (text, exact_match(text, question.expected)) for name, text in beside.items()
        },
    )


def _score(predictions: Sequence[Prediction]) -> Score:
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for prediction in predictions:
        for name, (_, is_right) in prediction.controls.items():
            outcomes[name].append(is_right)
    groups = _guessing_groups(predictions)
    frequent = sum(len(expected) * majority(expected) for expected in groups)
    return Score(
        share=accuracy([p.correct for p in predictions], [p.cluster for p in predictions]),
        majority=frequent / len(predictions),
        controls={name: sum(found) / len(found) for name, found in outcomes.items()},
        control_n={name: len(found) for name, found in outcomes.items()},
    )


def _guessing_groups(predictions: Sequence[Prediction]) -> list[list[str]]:
    """Expected answers, grouped by what a question tells without its picture: its kind, and its
    language where answers are words, which differ between languages (赤 or red)."""
    answers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for prediction in predictions:
        answers[prediction.kind][prediction.language].append(prediction.expected)
    groups: list[list[str]] = []
    for by_language in answers.values():
        lists = list(by_language.values())
        joined = [answer for found in lists for answer in found]
        groups += lists if all(map(_is_word, joined)) else [joined]
    return groups


def _is_word(answer: str) -> bool:
    return any(character.isalpha() for character in answer)


def _answer_event(prediction: Prediction) -> dict[str, Any]:
    """`group` is the kind of question: `kind` is the record's word for the kind of event."""
    event = asdict(prediction)
    event["group"] = event.pop("kind")
    event["controls"] = {
        name: {"answer": answer, "correct": is_right}
        for name, (answer, is_right) in prediction.controls.items()
    }
    return event
