import re
import string
from pathlib import Path

import pytest

import manako.report
from manako.core.errors import InputError
from manako.core.verdict import State
from manako.report.summary import STATES
from manako.report.texts import LABELS, LANGS, labels
from manako.samples.questions import KINDS

ROOM = Path(manako.report.__file__).parent
LITERAL = re.compile(r"""(?<![\w.])t\(\s*["']([^"']+)["']""")
NAMED = re.compile(r"""(?<![\w.])t\.named\(\s*["']([^"']+)["']""")


def sources():
    files = [*ROOM.glob("*.py"), *ROOM.glob("templates/*.jinja")]
    return "\n".join(file.read_text("utf-8") for file in files)


def fields(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", LABELS)
def test_every_label_stands_in_every_language_with_the_same_fields(key):
    texts = LABELS[key]
    assert len(texts) == len(LANGS)
    assert all(text.strip() for text in texts)
    assert len({frozenset(fields(text)) for text in texts}) == 1


def test_every_label_that_is_asked_for_exists():
    asked = set(LITERAL.findall(sources()))
    assert len(asked) > 50
    assert asked <= set(LABELS)


def test_no_label_is_left_over():
    text = sources().replace((ROOM / "texts.py").read_text("utf-8"), "")
    plain = {key for key in LABELS if "." not in key}
    unused = {key for key in plain if f'"{key}"' not in text and f"'{key}'" not in text}
    assert not unused
    groups = {key.split(".")[0] for key in LABELS if "." in key}
    assert groups == set(NAMED.findall(text))


def test_names_that_the_package_writes_have_labels():
    for group, names in {
        "group": KINDS,
        "verdict": State.__args__,
        "run": STATES,
        "part": ("vision", "projector", "language"),
        "role": ("system", "user", "assistant", "tool"),
        "how": ("full", "lora", "frozen"),
    }.items():
        assert {f"{group}.{name}" for name in names} <= set(LABELS)


def test_names_from_data_are_shown_as_they_are():
    assert labels("ja").named("role", "user") == "ユーザー"
    assert labels("en").named("role", "narrator") == "narrator"
    assert labels("en").named("role", "{x}") == "{x}"


def test_an_unknown_language_is_refused_by_name():
    with pytest.raises(InputError, match="'fr'; expected ja or en"):
        labels("fr")
