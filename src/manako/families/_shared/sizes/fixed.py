"""Models that squash every picture to one size."""

from __future__ import annotations

from manako.families._shared.sizes._rule import Rule


def fixed(width: int, height: int, *, tokens: int = 256) -> int:
    """The same for every picture.

    Gemma 3 and 3n: 256. LLaVA 1.5: 576. PaliGemma: 256, 1,024 or 4,096, by checkpoint.
    Source: the `image_seq_length` of their processors, transformers 5.24 (Apache-2.0).
    """
    del width, height
    return tokens


RULES = (Rule(name="fixed", count=fixed),)
