"""Everything the command line says, in Japanese and English side by side; a file per command.

Errors that Manako raises on purpose stay English: their words are searched for. A text with several
lines has its first line alone in lists of commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

from manako.core.discovery import discover


@cache
def all_texts() -> Mapping[str, tuple[str, str]]:
    """Key → (Japanese, English), of all files in this folder."""
    return {
        key: text
        for table in discover(__name__, "TEXTS").items.values()
        for key, text in table.items()
    }


class Texts:
    """The texts of one language; call it with a key and the values that the text names."""

    def __init__(self, lang: Literal["ja", "en"]) -> None:
        self.lang = lang
        self._place = 0 if lang == "ja" else 1

    def __call__(self, key: str, /, **values: object) -> str:
        text = all_texts()[key][self._place]
        return text.format(**values) if values else text
