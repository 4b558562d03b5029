"""`manako models tokens`: what a picture costs, in one model or in all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manako.catalogue.cards import Card, ImageRule, cards, find_card
from manako.catalogue.facts import is_recalled, without_recalled
from manako.core.errors import ImageError, InputError, MissingFileError
from manako.families._shared.sizes import RULES, check_settings, image_tokens

SIZE = re.compile(r"(\d{1,6})\s*[x×*]\s*(\d{1,6})")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture by its size in pixels. `name`: as it was asked for."""

    name: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one picture costs: `tokens`, or why the model refuses it.

    context_share: of the model's context, where that is known.
    """

    picture: Picture
    tokens: int | None = None
    context_share: float | None = None
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the pictures cost in one model. `rule` is None where it is not known.

    settings: all of the rule's, after what the caller put in their place. is_recalled: whether
    nobody has looked the card's settings up; one that the caller gave is nobody's memory.
    """

    card: Card
    rule: str | None = None
    settings: Mapping[str, int]
    is_recalled: bool = False
    costs: tuple[Cost, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        context = self.card.context
        return {
            "id": self.card.id,
            "takes_pictures": self.card.takes_pictures,
            "rule": self.rule,
            "settings": dict(self.settings),
            "settings_recalled": self.is_recalled,
            "context": context.value if context else None,
            "context_recalled": is_recalled(context),
            "pictures": [
                {
                    "picture": cost.picture.name,
                    "width": cost.picture.width,
                    "height": cost.picture.height,
                    "tokens": cost.tokens,
                    "context_share": cost.context_share,
                    "refused": cost.refused,
                }
                for cost in self.costs
            ],
        }


def picture_costs(
    models: Sequence[str],
    pictures: Sequence[str],
    settings: Mapping[str, int],
    *,
    is_strict: bool = False,
) -> list[Costs]:
    """What each picture costs in each model; without models, in all that have a card.

    pictures: `1240x1754`, or `@page.png`. settings: stand in the place of the rules' own.
    is_strict: without rules and contexts that are recalled. Raises `InputError` for a model
    without a card, what is neither size nor picture, and a setting that the rule of a named model
    (or, without names, every rule) lacks.
    """
    read = [read_picture(text) for text in pictures]
    found = [find_card(name) for name in models] or list(cards())
    if not models:
        _check_known_somewhere(settings)
    if is_strict:
        found = [without_recalled(card) for card in found]
    return [_costs(card, read, _chosen(card, settings, is_named=bool(models))) for card in found]


def read_picture(text: str) -> Picture:
    """`1240x1754`, or `@` and a file, whose header is read."""
    from manako.core.images import read_size

    if text.startswith("@"):
        file = Path(text[1:]).expanduser()
        if not file.is_file():
            raise MissingFileError(f"there is no picture {file}")
        width, height = read_size(file.read_bytes(), name=str(file))
        return Picture(name=file.name, width=width, height=height)
    size = SIZE.fullmatch(text.strip())
    if size is None:
        hint = f"@{text} for the file of that name" if Path(text).is_file() else "@page.png"
        raise InputError(
            f"--image {text!r} is no size",
            next_step=f"give a size in pixels such as 1240x1754, or {hint}",
        )
    width, height = int(size[1]), int(size[2])
    if not width or not height:
        raise InputError(f"--image {text!r}: a picture has at least one pixel each way")
    return Picture(name=f"{width}×{height}", width=width, height=height)


def parse_settings(assignments: Iterable[str]) -> dict[str, int]:
    """`max_pixels=1003520` as settings. Raises `InputError` for a value that is no whole number."""
    found: dict[str, int] = {}
    for text in assignments:
        name, _, value = (part.strip() for part in text.partition("="))
        digits = value.replace(",", "").replace("_", "")
        if not name or not digits.isdecimal():
            raise InputError(f"--set {text!r}: expected name=number, such as max_pixels=1003520")
        found[name] = int(digits)
    return found


def _check_known_somewhere(settings: Mapping[str, int]) -> None:
    known = sorted({name for rule in RULES.values() for name in rule.settings})
    if unknown := [name for name in settings if name not in known]:
        raise InputError(
            f"no image-token rule has a setting {unknown[0]!r}",
            next_step=f"there are {', '.join(known)}",
        )


def _chosen(card: Card, settings: Mapping[str, int], *, is_named: bool) -> Mapping[str, int]:
    """The settings that hold for a card: all for one that was named, else those it has."""
    if card.image_rule is None:
        return {}
    known = RULES[card.image_rule.rule].settings
    return settings if is_named else {k: v for k, v in settings.items() if k in known}


def _costs(card: Card, pictures: Sequence[Picture], chosen: Mapping[str, int]) -> Costs:
    rule = card.image_rule
    if rule is None:
        return Costs(card=card, settings={})
    check_settings(rule.rule, chosen)
    settings = {**RULES[rule.rule].settings, **rule.settings, **chosen}
    return Costs(
        card=card,
        rule=rule.rule,
        settings=settings,
        is_recalled=is_recalled(rule) and not _replaces(rule, chosen),
        costs=tuple(_cost(card, rule.rule, picture, settings) for picture in pictures),
    )


def _replaces(rule: ImageRule, chosen: Mapping[str, int]) -> bool:
    """Whether the caller has given every setting of the card."""
    return bool(rule.settings) and set(rule.settings) <= set(chosen)


def _cost(card: Card, rule: str, picture: Picture, settings: Mapping[str, int]) -> Cost:
    try:
        tokens = image_tokens(rule, picture.width, picture.height, settings)
    except ImageError as error:
        return Cost(picture=picture, refused=error.message)
    share = tokens / card.context.value if card.context else None
    return Cost(picture=picture, tokens=tokens, context_share=share)
