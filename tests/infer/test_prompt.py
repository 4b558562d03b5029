from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manako.core.conversation import Conversation, Image, Message, Text, Video
from manako.core.errors import (
    ImageError,
    InputError,
    MissingFileError,
    TooLongError,
)
from manako.infer.open import Model
from manako.infer.prompt import prompt_of
from manako.infer.reply import Asking


@pytest.mark.parametrize("empty", ["", "  \n", [], [""], [" ", ""], Conversation(())])
def test_an_empty_prompt_is_refused(empty: object) -> None:
    with pytest.raises(InputError, match="empty"):
        prompt_of(empty)


def test_a_conversation_that_ends_with_an_answer_is_refused() -> None:
    turns = (Message("user", (Text("a"),)), Message("assistant", (Text("b"),)))
    with pytest.raises(InputError, match="ends with an assistant turn"):
        prompt_of(Conversation(turns))


@pytest.mark.parametrize("named", ["cat.jpg", "/data/絵.PNG", "https://example.org/a.webp"])
def test_a_string_that_names_a_picture_is_not_taken_for_text(named: str) -> None:
    with pytest.raises(InputError, match="looks like the path of a picture") as caught:
        prompt_of([named, "What is this?"])
    assert "Path(" in caught.value.next_step


def test_a_string_that_names_a_film_is_not_taken_for_text() -> None:
    with pytest.raises(InputError, match="a picture or a video"):
        prompt_of(["clip.mp4", "What happens?"])


def test_a_film_is_answered_by_its_path(model: Model, tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "clip.mkv"), "w") as film:
        stream = film.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = 56, 56, "yuv420p"
        for level in range(8):
            pixels = np.full((56, 56, 3), 30 * level, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode(None))
    by_path = model.generate_content([tmp_path / "clip.mkv", "何が"], max_new_tokens=4)
    video = Video.from_file(tmp_path / "clip.mkv")
    assert len(video.frames) == 4
    assert model.generate_content([video, "何が"], max_new_tokens=4).token_ids == by_path.token_ids


def test_words_about_a_picture_file_stay_text() -> None:
    assert prompt_of("open cat.jpg").messages[0].text == "open cat.jpg"
    assert prompt_of([Text("cat.jpg")]).messages[0].text == "cat.jpg"


def test_a_missing_or_corrupt_picture_is_an_error_that_names_it(
    model: Model, tmp_path: Path
) -> None:
    with pytest.raises(MissingFileError, match=r"nothing\.png"):
        model.generate_content([tmp_path / "nothing.png", "a"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        model.generate_content([broken, "a"])
    with pytest.raises(ImageError, match="empty"):
        model.generate_content([Image(b""), "a"])


def test_a_film_whose_frames_are_no_pictures_is_refused(model: Model) -> None:
    film = Video((Image(b"x"),), (0.0,))
    with pytest.raises(ImageError, match=r"picture|image"):
        model.generate_content([film, "a"])


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(model: Model) -> None:
    with pytest.raises(TooLongError, match=r"context 2,048"):
        model.generate_content("a" * 5000)


def test_an_error_of_a_batch_names_the_prompt(model: Model) -> None:
    with pytest.raises(InputError, match="prompt 1: the last turn"):
        model.generate_batch(["fine", ""], max_new_tokens=1)
    broken = Conversation((Message("user", (Image(b"no picture"),)),), id="row-7")
    with pytest.raises(ImageError, match=r"prompt 1 \(row row-7\): "):
        model.generate_batch(["fine", broken], max_new_tokens=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"max_new_tokens": True},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_p": 0},
        {"top_p": 1.1},
        {"stop": ("",)},
        {"stop": (3,)},
        {"seed": -1},
        {"seed": 0.5},
    ],
)
def test_settings_are_checked_by_name(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        Asking(**wrong)  # type: ignore[arg-type]
