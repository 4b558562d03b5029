"""Free text in both languages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Words:
    """Free text in both languages."""

    en: str
    ja: str

    def in_(self, lang: str) -> str:
        return self.ja if lang == "ja" else self.en
