"""--lang, else MANAKO_LANG, else the locale."""

from __future__ import annotations

import pytest

from manako.cli.language import language_of
from manako.core.errors import InputError


@pytest.mark.parametrize(
    ("args", "environment", "expected"),
    [
        ([], {}, "en"),
        ([], {"LANG": "ja_JP.UTF-8"}, "ja"),
        ([], {"LANG": "de_DE.UTF-8"}, "en"),
        ([], {"LC_ALL": "C", "LANG": "ja_JP.UTF-8"}, "en"),
        ([], {"MANAKO_LANG": "ja", "LANG": "en_US.UTF-8"}, "ja"),
        (["--lang", "en"], {"MANAKO_LANG": "ja"}, "en"),
        (["view", "x", "--lang=ja"], {}, "ja"),
        (["generate", "m", "--", "--lang", "ja"], {}, "en"),
    ],
)
def test_the_first_that_says_so_decides(
    args: list[str], environment: dict[str, str], expected: str
) -> None:
    assert language_of(args, environment) == expected


@pytest.mark.parametrize(
    ("args", "environment"), [(["--lang", "fr"], {}), ([], {"MANAKO_LANG": "fr"})]
)
def test_an_unknown_language_is_refused(args: list[str], environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="'fr'"):
        language_of(args, environment)
