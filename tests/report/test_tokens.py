import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from manako.report.tokens import MARKS, UNSEEN, safe, shown_tokens, visible


@settings(deadline=None)
@given(st.text())
def test_every_character_can_be_seen(text):
    assert all(unicodedata.category(character) not in UNSEEN for character in visible(text))


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=list(UNSEEN))))
def test_seen_characters_are_left_alone(text):
    kept = "".join(c for c in text if c not in MARKS)
    assert visible(kept) == kept
    assert safe(kept) == kept


def test_blanks_line_ends_and_hidden_characters_are_marked():
    assert visible("a b\n\t\u3000") == "a·b⏎⇥□"
    assert visible("\u200b\u202e\x1b[31m") == "⟨U+200B⟩⟨U+202E⟩⟨U+001B⟩[31m"


def test_running_text_keeps_lines_and_blanks_but_no_escape():
    assert safe("一 行\r\n二\u3000行\x1b]0;x\x07") == "一 行\n二\u3000行⟨U+001B⟩]0;x⟨U+0007⟩"


def test_places_go_on_after_image_runs():
    tokens = [
        {"id": 1, "text": "a", "trained": False},
        {"image": 0, "id": 9, "count": 72},
        {"id": 2, "text": "b\n", "trained": True},
    ]
    shown = shown_tokens(tokens)
    assert [(t.start, t.count, t.state) for t in shown] == [
        (0, 1, "untrained"),
        (1, 72, "image"),
        (73, 1, "trained"),
    ]
    assert shown[2].ends_line
