"""How facts of the catalogue are shown: what is recalled carries its mark, and a footnote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from manako.cli.screen import Screen


def known(fact: Any, show: Callable[[Any], str] | None = None) -> str:
    """A fact as text with its mark; nothing where it is not known."""
    from manako.catalogue.facts import mark_of

    if fact is None:
        return ""
    text = show(fact) if show else str(fact.value)
    return f"{text}{mark_of(fact)}" if text else ""


def settings_of(settings: Mapping[str, int]) -> str:
    """Settings of an image-token rule; `grids` is a code of digits, not an amount."""
    shown = (f"{name} {v}" if name == "grids" else f"{name} {v:,}" for name, v in settings.items())
    return ", ".join(shown)


def footnotes(screen: Screen, shown: Iterable[Any]) -> Iterator[str]:
    """What the marks among the shown texts mean; nothing where none stands."""
    from manako.catalogue.facts import RECALLED_MARK

    if any(RECALLED_MARK in str(text) for text in shown):
        yield screen.texts("facts.recalled", mark=RECALLED_MARK)


class Cited:
    """Shows facts with the number of their source, and lists the sources below."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._keys: list[str] = []
        self.marks: list[str] = []

    def __call__(self, fact: Any, show: Callable[[Any], str] | None = None) -> str:
        """A fact as text, with its mark and the number of its source; nothing where unknown."""
        text = known(fact, show)
        self.marks.append(text)
        return f"{text} {self.number(fact)}" if text else ""

    def text(self, note: Any) -> str:
        """A note in the language of the call."""
        return self(note, lambda found: found.in_(self._screen.lang))

    def number(self, fact: Any) -> str:
        """`[3]`: the place of the fact's source in the list."""
        if fact.by not in self._keys:
            self._keys.append(fact.by)
        return f"[{self._keys.index(fact.by) + 1}]"

    def lines(self) -> Iterator[str]:
        """The list of sources: how sure, what, where, when."""
        from manako.catalogue.facts import sources

        for place, key in enumerate(self._keys, start=1):
            source = sources()[key]
            how = self._screen.texts(f"facts.how.{source.how}")
            where = f" {source.url}" if source.url else ""
            yield f"[{place}] {how}: {source.title}{where} ({source.date})"
