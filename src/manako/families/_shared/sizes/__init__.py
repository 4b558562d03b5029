"""How many tokens a picture costs in every family, as integer functions of its size.

Counted are the positions that hold the picture: its vectors, and the ends of rows inside its grid
where the model has such (Pixtral, LLaVA-NeXT, NVILA, Molmo2). The marks around a picture and
between its tiles, one to three tokens each, are text and not counted.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from manako.core.errors import ImageError, InputError
from manako.families._shared.sizes import (
    canvases,
    fixed,
    idefics,
    minicpm,
    resized,
    rows,
    sheets,
    tiles,
)
from manako.families._shared.sizes._rule import Rule
from manako.families._shared.sizes.resized import qwen_size

RULES: Mapping[str, Rule] = {
    rule.name: rule
    for file in (fixed, resized, rows, tiles, sheets, idefics, canvases, minicpm)
    for rule in file.RULES
}

__all__ = ["RULES", "Rule", "check_settings", "image_tokens", "qwen_size"]


def image_tokens(
    rule: str, width: int, height: int, settings: Mapping[str, int] | None = None
) -> int:
    """Tokens that a picture of `width` × `height` pixels costs by a rule.

    Settings that are not given have the rule's published values. Raises `InputError` for an
    unknown rule or setting, `ImageError` for a size that the reference refuses.
    """
    settings = settings or {}
    check_settings(rule, settings)
    if width < 1 or height < 1:
        raise ImageError(f"a picture of {width} × {height} pixels is empty", reason="size")
    return RULES[rule].count(width, height, **settings)


def check_settings(rule: str, settings: Mapping[str, int]) -> None:
    """Raises `InputError` naming a rule or setting that there is not, or a value beyond bounds."""
    if rule not in RULES:
        near = difflib.get_close_matches(rule, RULES, n=3) or sorted(RULES)
        raise InputError(f"no image-token rule {rule!r}", next_step=f"one of {', '.join(near)}")
    found = RULES[rule]
    for name, value in settings.items():
        if name not in found.settings:
            raise InputError(
                f"rule {rule} has no setting {name!r}",
                next_step=f"its settings are {', '.join(found.settings)}",
            )
        if name in found.flags and value not in (0, 1):
            raise InputError(f"{name} of rule {rule} is {value!r}; expected 0 or 1")
        if name not in found.flags and value < 1:
            raise InputError(f"{name} of rule {rule} is {value!r}; expected 1 or more")
