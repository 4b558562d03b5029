from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import InputError
from manako.core.images import decode_rgb
from manako.core.record import read_record
from manako.evaluate.runner import evaluate


@dataclass(frozen=True)
class Said:
    text: str
    finish_reason: str = "stop"


@dataclass
class Fake:
    """Answers by a rule over the conversation, and remembers what it was asked."""

    rule: Callable[[Conversation], str]
    asked: list[Conversation] = field(default_factory=list)

    def generate_batch(
        self,
        contents: Sequence[Conversation],
        *,
        max_new_tokens: int,
        batch_size: int,
        progress: Callable[[int, int], object] | None,
    ) -> list[Said]:
        self.asked += contents
        if progress:
            progress(len(contents), len(contents))
        return [Said(self.rule(content)) for content in contents]


def picture(red: int, width: int = 4) -> Image:
    import numpy as np

    return Image.of(np.full((4, width, 3), red, dtype=np.uint8))


def reader(conversation: Conversation) -> str:
    """Reads the brightness of the first picture, as a perfect model would."""
    return str(decode_rgb(conversation.images[0].data)[0, 0, 0])


def rows(kinds: Sequence[str] = ("read",), count: int = 20) -> list[Conversation]:
    made = []
    for kind in kinds:
        for i in range(count):
            language = "ja" if i % 2 else "en"
            turns = (
                Message("user", (picture(i), Text(f"{kind} {i % 4}"))),
                Message("assistant", (Text(str(i)),)),
            )
            made.append(Conversation(turns, id=f"{kind}/{i}", source=f"forms/{kind}/{language}"))
    return made


def test_a_model_that_reads_is_right_and_its_controls_are_not() -> None:
    found = evaluate(Fake(reader), rows(("read", "count")))
    assert found.accuracy == 1.0
    assert found.overall.share.low < 1.0
    assert found.overall.controls == {"blank": 0.0, "shuffled": 0.0}
    assert list(found.by_kind) == ["read", "count"]
    assert found.by_kind["read"].share.n == 20
    assert found.by_kind["read"].majority == 1 / 20
    assert set(found.by_language) == {"en", "ja"}
    assert found.leaks() == []


def test_a_model_that_guesses_shows_in_the_controls() -> None:
    """It never looks: real, blank and shuffled pictures score alike, and `leaks` says so."""
    found = evaluate(Fake(lambda c: c.messages[0].text.split()[-1]), rows())
    assert found.accuracy == found.overall.controls["blank"] == 4 / 20
    leaks = found.leaks()
    assert len(leaks) == 2
    assert "read: blank 0.200" in leaks[0]
    assert found.leaks(margin=0.5) == []


def test_every_prediction_is_kept_beside_what_the_controls_said() -> None:
    found = evaluate(Fake(reader), rows())
    third = found.predictions[3]
    assert (third.id, third.kind, third.expected, third.answer) == ("read/3", "read", "3", "3")
    assert third.correct
    assert third.controls["blank"] == ("255", False)
    assert third.controls["shuffled"][0] not in ("3", "255")
    assert [p.number for p in found.predictions] == list(range(20))


def test_prompts_that_are_alike_are_asked_once() -> None:
    model = Fake(reader)
    told: list[tuple[int, int]] = []
    evaluate(model, rows(), progress=lambda *now: told.append(now))
    assert len({prompt.messages for prompt in model.asked}) == len(model.asked)
    white = [prompt for prompt in model.asked if reader(prompt) == "255"]
    assert len(white) == 4, "20 questions in 4 wordings, all on the same white paper"
    assert told == [(len(model.asked), len(model.asked))]


def test_questions_without_pictures_have_no_controls() -> None:
    turns = (Message("user", (Text("1+1?"),)), Message("assistant", (Text("2"),)))
    found = evaluate(Fake(lambda _: "２ "), [Conversation(turns, source="sums")])
    assert found.accuracy == 1.0
    assert found.overall.controls == {}
    assert found.by_language == {}


def test_one_picture_for_all_questions_makes_a_wide_interval_and_no_shuffling() -> None:
    turns = [
        (Message("user", (picture(7), Text(f"{i}"))), Message("assistant", (Text("7"),)))
        for i in range(10)
    ]
    found = evaluate(Fake(reader), [Conversation(turn) for turn in turns])
    assert found.overall.share.clusters == 1
    assert found.overall.share.low < 0.1
    assert set(found.overall.controls) == {"blank"}


def test_the_plain_dict_has_the_fields_of_result_json_and_is_json() -> None:
    values = evaluate(Fake(reader), rows(("read", "count"))).as_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["test_questions"] == 40
    assert values["accuracy_low"] < values["accuracy"] == values["accuracy_high"] == 1.0
    assert values["controls"]["shuffled"]["by_kind"] == {"read": 0.0, "count": 0.0}
    assert values["majority"] == {"accuracy": 0.05, "by_kind": {"read": 0.05, "count": 0.05}}
    assert set(values["by_kind"]["read"]) == {
        *("n", "pictures", "accuracy", "low", "high", "majority", "blank", "shuffled"),
    }


def test_report_reads_the_figures(tmp_path: Path) -> None:
    from manako.report.figures import read_scores

    scores = read_scores(evaluate(Fake(reader), rows(("read", "count"))).as_dict())
    assert scores is not None
    assert (scores.overall.n, scores.overall.blank, scores.overall.majority) == (40, 0.0, 0.05)
    read = scores.groups[0]
    assert (read.name, read.n, read.shuffled, read.high) == ("read", 20, 0.0, 1.0)


def test_the_record_holds_scores_and_every_answer(tmp_path: Path) -> None:
    found = evaluate(Fake(reader), rows())
    record = read_record(found.write(tmp_path / "evaluation"))
    (score,) = record.of_kind("score")
    assert score["accuracy"] == 1.0
    answers = record.of_kind("answer")
    assert [answer["id"] for answer in answers] == [f"read/{i}" for i in range(20)]
    assert answers[0]["group"] == "read"
    assert answers[0]["controls"]["blank"] == {"answer": "255", "correct": False}


def test_the_same_set_gives_the_same_outcome() -> None:
    def outcome() -> dict[str, Any]:
        values = evaluate(Fake(reader), rows()).as_dict()
        del values["evaluation_seconds"]
        return values

    assert outcome() == outcome()


def test_an_unknown_control_is_named() -> None:
    with pytest.raises(InputError, match="upside_down"):
        evaluate(Fake(reader), rows(), controls=("upside_down",))


def test_a_real_model_is_evaluated_through_its_own_processor(tiny_qwen: Path) -> None:
    from manako.infer.open import open_model

    model = open_model(tiny_qwen, device="cpu")
    made = rows(count=6)
    found = evaluate(model, made, max_new_tokens=3, batch_size=4)
    for prediction, asked in zip(found.predictions, made, strict=True):
        prompt = Conversation(asked.messages[:-1])
        assert prediction.answer == model.generate_content(prompt, max_new_tokens=3).text
        assert prediction.finish_reason == "length"


def test_evaluating_loads_no_framework() -> None:
    import subprocess
    import sys

    code = (
        "import sys, manako.evaluate.runner, manako.infer.open, manako.export, manako.infer.source\n"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_most_frequent_answer_is_that_of_a_language_where_answers_are_words() -> None:
    """A guess knows the question's language: 赤 or red, but never which of five colours."""
    from manako.evaluate.runner import Prediction, _score

    def predictions(answers: dict[str, list[str]]) -> list[Prediction]:
        return [
            Prediction(
                number=0, id="", kind="colour", language=language, cluster=0, expected=expected,
                answer="", correct=False, finish_reason="stop",
            )
            for language, expected_ones in answers.items()
            for expected in expected_ones
        ]  # fmt: skip

    words = predictions({"ja": ["赤", "赤", "青", "緑"], "en": ["red", "blue", "blue", "green"]})
    assert _score(words).majority == 0.5
    digits = predictions({"ja": ["1", "1", "2", "3"], "en": ["2", "2", "2", "3"]})
    assert _score(digits).majority == 0.5  # four times "2" of eight
