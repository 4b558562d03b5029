"""@ is a picture, @@ an @, and a picture that is not there is never text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.cli.parts import part_of, parts_of_line
from manako.core.conversation import Image, Text, Video
from manako.core.errors import ImageError, InputError, MissingFileError

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f"
    "0005fe02fe0def46b80000000049454e44ae426082"
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "一枚目 a.png"
    path.write_bytes(PNG)
    return path


@given(st.text().filter(lambda text: not text.startswith("@")))
def test_an_argument_without_an_at_is_itself(text: str) -> None:
    assert part_of(text) == Text(text)


@given(st.text())
def test_two_ats_write_one(text: str) -> None:
    assert part_of(f"@@{text}") == Text(f"@{text}")


def test_an_at_is_a_picture(picture: Path) -> None:
    assert part_of(f"@{picture}") == Image(PNG)


def test_a_picture_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MissingFileError, match=r"nothing\.png"):
        part_of("@nothing.png")


def test_a_file_that_is_no_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(ImageError):
        part_of(f"@{tmp_path / 'words.png'}")


def test_an_at_before_a_film_is_a_video(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = Video((Image.of(picture),), (0.0,))
    asked: list[Path] = []
    monkeypatch.setattr(Video, "from_file", lambda path: asked.append(path) or film)
    assert part_of("@a/clip.mp4") == film
    assert parts_of_line("何? @a/clip.MOV")[1] == film
    assert asked == [Path("a/clip.mp4"), Path("a/clip.MOV")]


def test_a_film_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MissingFileError, match=r"no such video file: gone\.mp4"):
        part_of("@gone.mp4")


def test_a_bare_at_is_an_error() -> None:
    with pytest.raises(InputError, match="without a path"):
        part_of("@")


def test_pictures_stand_in_a_line_where_they_are_written(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("b.png").write_bytes(PNG)
    line = f'これは @"{picture.name}" 日本の @b.png オーストリアの画像です'
    assert parts_of_line(line) == (
        Text("これは"),
        Image(PNG),
        Text("日本の"),
        Image(PNG),
        Text("オーストリアの画像です"),
    )


def test_a_picture_alone_is_a_line(picture: Path) -> None:
    assert parts_of_line(f' @"{picture}" ') == (Image(PNG),)


@pytest.mark.parametrize("line", ["a@b.example", "問い合わせはa@b.exampleへ", "5 @ 100円"])
def test_an_at_in_running_text_stays_text(line: str) -> None:
    assert parts_of_line(line) == (Text(line),)


def test_two_ats_in_a_line_write_one() -> None:
    assert parts_of_line("@@name さん、a@@b") == (Text("@name さん、a@b"),)


@given(st.text(alphabet='ab @"\n日'))
def test_a_line_is_parts_or_a_missing_picture(line: str) -> None:
    try:
        parts = parts_of_line(line)
    except (MissingFileError, InputError):
        return
    joined = "".join(part.text for part in parts if isinstance(part, Text))
    assert joined.count("@") <= line.count("@")
    assert all(isinstance(part, Text) and part.text.strip() for part in parts)


def test_a_picture_whose_mark_was_forgotten_is_refused() -> None:
    from manako.cli.parts import parts_of_arguments

    with pytest.raises(InputError, match=r"cat\.jpg") as caught:
        parts_of_arguments(["cat.jpg", "what is this?"])
    assert "@cat.jpg" in caught.value.next_step
