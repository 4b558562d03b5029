"""`llms.txt`: what a code assistant must know to use Manako, written from the code itself.

Signatures, recipe fields, commands and exit codes are read from where they are defined, so the
text cannot say anything else than the code does. Shape: https://llmstxt.org.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from manako.core.recipe import Evaluation, Recipe, Source, Stage
from manako.verbs.exits import Exit

TEXTS = Path(__file__).parent.parent / "samples" / "init"
DOCUMENTED = re.compile(r"(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?P<words>.+)")
EXITS: Mapping[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "failed",
    Exit.WRONG_CALL: "the call or its input is wrong; the same call would fail again",
    Exit.STOPPED: "stopped and saved; the same call goes on",
    Exit.NOT_RUN: "a law could not be tried on this machine",
}


@dataclass(frozen=True, kw_only=True)
class CommandHelp:
    """A command as its help shows it. options: names and what they do."""

    usage: str
    about: str
    options: tuple[tuple[str, str], ...] = ()


def llms_text(commands: Sequence[CommandHelp], files: Mapping[str, str]) -> str:
    """The whole text. files: what lies in the project folder → what it is."""
    from manako import __version__

    rules = (TEXTS / "llms_rules.md").read_text(encoding="utf-8")
    absent = (TEXTS / "llms_absent.md").read_text(encoding="utf-8")
    parts = [
        "# Manako",
        f"> {_SUMMARY}",
        f"Version {__version__}. {_NO_GUESSING}",
        "\n".join(["## Files here", "", *(f"- [{n}]({n}): {words}" for n, words in files.items())]),
        rules.strip(),
        "\n".join(["## Python", "", *_python()]),
        "\n".join(["## Recipe", "", _RECIPE, "", *_fields(Recipe)]),
        *(
            "\n".join([f"### {title}", "", *_fields(kind)])
            for title, kind in (("Each of `data`", Source), ("Each of `stages`", Stage))
        ),
        "\n".join(["### `eval`", "", *_fields(Evaluation)]),
        "\n".join(["## Commands", "", *_commands(commands)]),
        "\n".join(["## Exit codes", "", *(f"- {int(e)}: {words}" for e, words in EXITS.items())]),
        absent.strip(),
    ]
    return "\n\n".join(parts) + "\n"


_SUMMARY = (
    "Feed, train, measure and run open vision-language models on your own machine: a Python package "
    "and the command `manako`."
)
_NO_GUESSING = (
    "What is not written here does not exist in this version: do not guess names of functions, "
    "options or fields."
)
_RECIPE = (
    "A YAML file. `Recipe.load(path)` reads it, `recipe.replace(field=value)` changes it. Required "
    "are `model`, `data` and `output_dir`; an unknown field is refused."
)


def _python() -> Iterator[str]:
    """Everything that `import manako` offers, then what an opened model can do."""
    import manako
    from manako.infer.chat import Chat
    from manako.infer.model import Model
    from manako.infer.reply import Asking, Reply

    for name in manako.__all__:
        yield _entry(f"manako.{name}", getattr(manako, name))
    for owner, kind in (("model", Model), ("chat", Chat)):
        for name, value in vars(kind).items():
            if not name.startswith("_") and inspect.isfunction(value):
                yield _entry(f"{owner}.{name}", value)
    yield "- `**settings`, the same everywhere, with their defaults:"
    yield from (f"  {line}" for line in _fields(Asking))
    yield "- a reply has:"
    yield from (f"  {line}" for line in _fields(Reply))


def _entry(name: str, value: Any) -> str:
    about = _first_paragraph(inspect.getdoc(value) or "")
    return f"- `{name}{_signature(value)}`: {about}"


class _Bare(str):
    """Written into a signature without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(value: Callable[..., Any]) -> str:
    """As it is called: without `self`, annotations without quotes; nothing for an error class."""
    if isinstance(value, type) and issubclass(value, Exception):
        return ""
    found = inspect.signature(value)
    kept = [
        p.replace(annotation=_Bare(p.annotation), default=_shown_default(p.default))
        for p in found.parameters.values()
        if p.name != "self"
    ]
    is_class = isinstance(value, type)
    returned = inspect.Signature.empty if is_class else _Bare(found.return_annotation)
    return str(found.replace(parameters=kept, return_annotation=returned))


def _shown_default(value: Any) -> Any:
    """A default as it is; one that is made anew, or is a function, as `...`."""
    is_plain = value is inspect.Parameter.empty or isinstance(
        value, str | int | float | tuple | types.NoneType
    )
    return value if is_plain else _Bare("...")


def _fields(kind: type[Any]) -> Iterator[str]:
    """A dataclass's fields: name, type, default, and what its docstring says of them."""
    hints = typing.get_type_hints(kind)
    meaning = _meanings(inspect.getdoc(kind) or "")
    for field in dataclasses.fields(kind):
        words = meaning.get(field.name, "")
        told = f": {words}" if words else ""
        yield f"- `{field.name}` ({_type(hints[field.name])}{_default(field)}){told}"


def _meanings(doc: str) -> dict[str, str]:
    """`a, b: words` of a docstring, where each is on a line of its own or follows in the same."""
    found: dict[str, str] = {}
    for sentence in _statements(doc):
        if match := DOCUMENTED.fullmatch(sentence):
            found |= dict.fromkeys(match["names"].split(", "), match["words"])
    return found


def _statements(doc: str) -> list[str]:
    """The lines of a docstring, lines that go on joined to the one that they go on from."""
    statements: list[str] = []
    for line in doc.splitlines():
        starts = DOCUMENTED.match(line) is not None or not line.strip()
        if starts or not statements:
            statements.append(line.strip())
        else:
            statements[-1] = f"{statements[-1]} {line.strip()}"
    return [statement for statement in statements if statement]


def _type(hint: Any) -> str:
    """A type as a recipe's reader would say it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(_choice(value) for value in args)
    if origin in (typing.Union, types.UnionType):
        return " | ".join("nothing" if a is type(None) else _type(a) for a in args)
    if origin is tuple:
        return f"list of {_type(args[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of {_type(args[0])} to {_type(args[1])}"
    if origin is not None:
        return f"list of {_type(args[0])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true | false"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _choice(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"; default {_plain(field.default_factory())}"
    return "" if field.default is dataclasses.MISSING else f"; default {_plain(field.default)}"


def _plain(value: Any) -> str:
    """A default as YAML would have it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[]" if not value else str(list(value))
    return str(value) if value != "" else "empty"


def _commands(commands: Sequence[CommandHelp]) -> Iterator[str]:
    for found in commands:
        yield f"- `{found.usage}`: {found.about}"
        yield from (f"  - `{names}`: {words}" for names, words in found.options)


def _first_paragraph(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split())
