"""In which language a command speaks: `--lang`, else `MANAKO_LANG`, else the locale."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from manako.core.errors import InputError

Lang = Literal["ja", "en"]
LANGS: tuple[Lang, ...] = get_args(Lang)
OPTION = "--lang"
VARIABLE = "MANAKO_LANG"
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")


def language_of(args: Sequence[str], environment: Mapping[str, str] = os.environ) -> Lang:
    """The language for a call. Raises `InputError` for one that is not known.

    Read before the arguments are parsed, because help and errors are in that language too.
    """
    if (asked := _option(args)) is not None:
        return _known(asked, OPTION)
    if asked := environment.get(VARIABLE):
        return _known(asked, VARIABLE)
    locale = next((value for name in LOCALE if (value := environment.get(name))), "")
    return "ja" if locale.lower().startswith("ja") else "en"


def _option(args: Sequence[str]) -> str | None:
    """The value of the last `--lang`; what stands behind `--` is no option."""
    found = None
    for place, arg in enumerate(args):
        if arg == "--":
            break
        if arg == OPTION and place + 1 < len(args):
            found = args[place + 1]
        elif arg.startswith(f"{OPTION}="):
            found = arg.partition("=")[2]
    return found


def _known(asked: str, where: str) -> Lang:
    for lang in LANGS:
        if asked == lang:
            return lang
    raise InputError(f"{where} is {asked!r}; expected {' or '.join(LANGS)}")
