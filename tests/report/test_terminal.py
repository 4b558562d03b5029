import io

import pytest
from report_makers import conversation, encoded, write_samples
from rich.console import Console

from manako.core.record import read_record
from manako.report.events import sample_entry
from manako.report.terminal import print_sample

GREEN_BACKGROUND = "\x1b[30;42m"
BRIGHT_GREEN_BACKGROUND = "\x1b[30;102m"


def console(**options):
    return Console(file=io.StringIO(), width=80, legacy_windows=False, _environ={}, **options)


def printed(event, found=None, *, lang="ja", folder=None):
    found = found or console()
    print_sample(event, found, lang=lang, folder=folder)
    return found.file.getvalue()


@pytest.fixture
def event():
    return sample_entry(conversation(), number=4, encoded=encoded()).event


def test_piped_output_marks_trained_tokens_and_has_no_escape(event):
    text = printed(event)
    assert "\x1b" not in text
    assert "[[青<|end|>]]" in text
    assert "⟨画像 1 ×2⟩左の絵⟨画像 2 ×6⟩何ですか。" in text
    assert "#4 · row-1 · tests" in text
    assert "トークン 15 = 画像 8 + 学習しない 5 + 学習する 2" in text
    assert "画像 2  12 × 6 px → 18 × 12 px · 2 行 × 3 列 = 6 トークン" in text


def test_english_has_the_same_facts(event):
    text = printed(event, lang="en")
    assert "Tokens 15 = Image 8 + Not trained 5 + Trained 2" in text
    assert "⟨image 1 ×2⟩" in text


def test_trained_tokens_stand_on_green_where_there_is_colour(event):
    text = printed(event, console(force_terminal=True, color_system="standard"))
    assert any(f"{start}青" in text for start in (GREEN_BACKGROUND, BRIGHT_GREEN_BACKGROUND))
    assert "[[" not in text


def test_a_terminal_without_colour_still_shows_the_mask(event):
    text = printed(event, console(force_terminal=True, no_color=True))
    assert "[[青<|end|>]]" in text


def test_a_colour_terminal_shows_the_picture_itself(tmp_path):
    record = write_samples(tmp_path)
    event = read_record(record).events[0]
    colour = console(force_terminal=True, color_system="truecolor")
    assert "▀" in printed(event, colour, folder=tmp_path)
    assert "▀" not in printed(event, folder=tmp_path)


def test_a_picture_that_is_gone_is_said_not_raised(tmp_path):
    event = read_record(write_samples(tmp_path)).events[0]
    colour = console(force_terminal=True, color_system="truecolor")
    assert "no file pictures/" in printed(event, colour, folder=tmp_path / "elsewhere")


def test_markup_and_escapes_in_the_data_are_shown_not_obeyed():
    row = conversation(question="[bold]x[/bold]\x1b[2J\x1b]0;t\x07", answer="[link]", id="\x1b[1m")
    text = printed(sample_entry(row, number=0, encoded=encoded(("\x1b[5m", "[/]"))).event)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]x[/bold]⟨U+001B⟩[2J" in text
    assert "[[⟨U+001B⟩[5m[/]]]" in text


def test_without_tokens_turns_are_printed_alone():
    text = printed(sample_entry(conversation(), number=0).event, lang="en")
    assert "⟨Image 1⟩左の絵⟨Image 2⟩何ですか。" in text
    assert "Token strip" not in text


def test_a_refused_row_says_why():
    event = sample_entry(conversation(), number=0, refused="row row-1: too long").event
    assert "This row cannot be used: row row-1: too long" in printed(event, lang="en")


def test_line_ends_break_the_token_strip():
    event = sample_entry(conversation(), number=0, encoded=encoded(("一\n", "二\n", "三"))).event
    assert "[[一⏎\n二⏎\n三]]" in printed(event)
