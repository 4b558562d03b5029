from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import InputError
from manako.core.images import decode_rgb
from manako.evaluate.controls import blank, shuffled
from manako.evaluate.questions import read_questions


def picture(number: int, width: int = 8, height: int = 4) -> Image:
    from PIL import Image as PillowImage

    buffer = io.BytesIO()
    PillowImage.new("RGB", (width, height), (number, 10, 20)).save(buffer, format="PNG")
    return Image(buffer.getvalue())


def row(*content: Any, answer: str = "a", kind: str = "read", id: str = "") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    turns = (Message("user", parts), Message("assistant", (Text(answer),)))
    return Conversation(turns, id=id, source=f"forms/{kind}/ja")


def test_a_row_becomes_prompt_reference_kind_and_language() -> None:
    (question,) = read_questions([row(picture(1), "何?", answer="３", kind="count", id="x")])
    assert (question.kind, question.language, question.expected) == ("count", "ja", "３")
    assert [turn.role for turn in question.prompt.messages] == ["user"]
    assert question.prompt.id == "x"


@pytest.mark.parametrize(
    ("source", "kind", "language"),
    [
        ("docvqa", "docvqa", ""),
        ("", "all", ""),
        ("forms/count", "count", ""),
        ("a/b/en", "b", "en"),
    ],
)
def test_the_kind_comes_from_the_source(source: str, kind: str, language: str) -> None:
    made = Conversation(row("a").messages, source=source)
    (question,) = read_questions([made])
    assert (question.kind, question.language) == (kind, language)


def test_a_row_without_a_reference_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"row x .*user"):
        read_questions([Conversation((Message("user", (Text("a"),)),), id="x")])
    with pytest.raises(InputError, match="row 1"):
        read_questions([row("a"), Conversation((Message("assistant", (Text("a"),)),))])
    with pytest.raises(InputError, match="no questions"):
        read_questions([])


def test_earlier_turns_belong_to_the_prompt() -> None:
    turns = (
        Message("user", (Text("a"),)),
        Message("assistant", (Text("b"),)),
        Message("user", (Text("c"),)),
        Message("assistant", (Text("d"),)),
    )
    (question,) = read_questions([Conversation(turns)])
    assert question.prompt.messages == turns[:3]
    assert question.expected == "d"


def test_questions_that_share_a_picture_are_one_cluster_also_through_others() -> None:
    a, b, c, d = (picture(i) for i in range(4))
    rows = [row(a, "?"), row(b, "?"), row(a, b, "?"), row(c, "?"), row("?"), row(d, c, "?")]
    clusters = [question.cluster for question in read_questions(rows)]
    assert clusters[0] == clusters[1] == clusters[2]
    assert clusters[3] == clusters[5]
    assert len(set(clusters)) == 3


def test_blank_pictures_are_white_paper_of_the_same_sizes_in_the_same_places() -> None:
    questions = read_questions([row("one", picture(1), "two", picture(2, 5, 7)), row("text")])
    found = blank(questions)
    assert list(found) == [0]
    parts = found[0].messages[0].content
    assert [type(part).__name__ for part in parts] == ["Text", "Image", "Text", "Image"]
    assert [image.size for image in found[0].images] == [(8, 4), (5, 7)]
    assert all((decode_rgb(image.data) == np.uint8(255)).all() for image in found[0].images)


sets = st.lists(
    st.tuples(
        st.sampled_from(["read", "count"]),
        st.lists(st.integers(0, 5), max_size=2),
        st.sampled_from([8, 12]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(sets)
def test_shuffled_pictures_are_never_of_ones_own_cluster(
    drawn: list[tuple[str, list[int], int]],
) -> None:
    rows = [
        row(*(picture(n, width) for n in numbers), f"q{i}", kind=kind)
        for i, (kind, numbers, width) in enumerate(drawn)
    ]
    questions = read_questions(rows)
    found = shuffled(questions)
    cluster_of = {i.sha256: q.cluster for q in questions for i in q.prompt.images}
    for question in questions:
        alike = [
            q
            for q in questions
            if q.kind == question.kind
            and len(q.prompt.images) == len(question.prompt.images)
            and q.cluster != question.cluster
        ]
        if not question.prompt.images or not alike:
            assert question.number not in found
            continue
        given_images = found[question.number].images
        assert len(given_images) == len(question.prompt.images)
        assert all(cluster_of[i.sha256] != question.cluster for i in given_images)
        sizes = [image.size for image in question.prompt.images]
        if any([i.size for i in q.prompt.images] == sizes for q in alike):
            assert [image.size for image in given_images] == sizes


def test_who_gets_whose_picture_does_not_hang_on_answers() -> None:
    rows = [row(picture(i), "?", answer=str(i)) for i in range(20)]
    others = [row(picture(i), "?", answer="same") for i in range(20)]
    assert shuffled(read_questions(rows)) == shuffled(read_questions(others))
    used = [prompt.images[0] for prompt in shuffled(read_questions(rows)).values()]
    assert len(set(used)) == 20
