"""Write the parts of docs/ that are taken from the code: the recipe's fields, and the laws.

python scripts/doc_tables.py
"""

import dataclasses
import importlib
import inspect
import itertools
import re
import textwrap
import typing

from blocks import ROOT, table, write_block
from manako.core.recipe import Evaluation, Recipe, Source, Stage
from manako.verify.runner import laws

TRAINING = ROOT / "docs" / "training.md"
LAWS = ROOT / "docs" / "laws.md"
FIELD = re.compile(r"(?P<names>\w+(?:, \w+)*): (?P<text>.+)")


def main() -> None:
    """Rewrite every generated block."""
    write_block(TRAINING, "generated:recipe", recipe_table())
    write_block(LAWS, "generated:laws", laws_text())


def recipe_table() -> str:
    """Every field of a recipe: kind and default from the dataclass, words from its docstring.

    Fields that share an entry of the docstring share a row.
    """
    meanings = documented(Recipe)
    hints = typing.get_type_hints(Recipe)
    rows = []
    for text, group in itertools.groupby(
        dataclasses.fields(Recipe), lambda field: meanings[field.name]
    ):
        fields = list(group)
        names = ", ".join(f"`{field.name}`" for field in fields)
        kinds = ", ".join(dict.fromkeys(_kind(hints[field.name]) for field in fields))
        defaults = ", ".join(dict.fromkeys(_default(field) for field in fields))
        rows.append([names, kinds, defaults, text])
    return table(["field", "kind", "default", "what it is"], rows)


def documented(kind: type) -> dict[str, str]:
    """What a dataclass's docstring says of its fields; fields that share an entry share its text."""
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
        if match := FIELD.fullmatch(line):
            names = match["names"].split(", ")
            meanings |= dict.fromkeys(names, match["text"])
        elif line.startswith(" ") and names:
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
        else:
            names = []
    return meanings


def laws_text() -> str:
    """A section a law, from the head of its file."""
    return "\n\n".join(_law(number) for number in range(1, len(laws()) + 1))


def _law(number: int) -> str:
    law = laws()[number - 1]
    module = importlib.import_module(law.check.__module__)
    first, *rest = inspect.cleandoc(module.__doc__ or "").split("\n\n")
    statement = " ".join(first.split()).removeprefix(f"Law {number}: ")
    words = [" ".join(paragraph.split()) for paragraph in rest]
    body = [
        textwrap.fill(text, 100, break_on_hyphens=False) for text in [_capital(statement), *words]
    ]
    return "\n\n".join([f"## {number}. {_capital(law.title)}", *body])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _kind(hint: object) -> str:
    names = {Source: "source", Stage: "stage", Evaluation: "evaluation"}
    if hint in names:
        return names[hint]  # type: ignore[index]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(_shown(value) for value in args)
    if origin is tuple:
        return f"list of {_kind(args[0])}"
    if args and type(None) in args:
        return _kind(next(arg for arg in args if arg is not type(None)))
    if args:
        return "fields"
    return {str: "text", int: "whole number", float: "number", bool: "yes or no"}[hint]  # type: ignore[index]


def _default(field: "dataclasses.Field[typing.Any]") -> str:
    if field.default_factory is not dataclasses.MISSING:
        return ", ".join(f"{key}: {value}" for key, value in field.default_factory().items())
    if field.default is dataclasses.MISSING:
        return "**must be given**"
    if field.default is None or field.default == ():
        return "none"
    return _shown(field.default)


def _shown(value: object) -> str:
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


if __name__ == "__main__":
    main()
