"""Plain values (YAML, JSON) to frozen dataclasses and back, checked field by field."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from manako.core.errors import RecipeError

T = TypeVar("T")
YAML_LINE_ENDS = frozenset("\x85\u2028\u2029")


def build(kind: type[T], values: Any, *, where: str) -> T:
    """An instance of the dataclass `kind` from a mapping.

    Raises `RecipeError` for a mapping that is none, an unknown field (naming the nearest valid
    one), a missing field, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: expected fields, found {_shown(values)}")
    hints, fields = _fields_of(typing.cast("typing.Hashable", kind))
    for name in values:
        if name not in fields:
            raise _unknown_field(where, str(name), list(fields))
    missing = [name for name, f in fields.items() if name not in values and _is_required(f)]
    if missing:
        raise RecipeError(f"{where}: missing {', '.join(missing)}")
    return kind(
        **{
            name: _converted(hints[name], value, where=_at(where, name))
            for name, value in values.items()
        }
    )


@functools.cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Type and field by name; `Figure[int]` has the fields of `Figure`, with int for its T."""
    base = get_origin(kind) or kind
    hints = typing.get_type_hints(base)
    given = dict(zip(getattr(base, "__parameters__", ()), get_args(kind), strict=False))
    hints = {name: given.get(hint, hint) for name, hint in hints.items()}
    return hints, {f.name: f for f in dataclasses.fields(base)}


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def parse_yaml(text: str, *, where: str) -> Any:
    """Plain values from YAML. Raises `RecipeError` for all that is none."""
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        # All but the first: PyYAML on values that look like a date, a number or a deep nest.
        raise RecipeError(f"{where} is no YAML: {error}") from error


def write_yaml(values: Any) -> str:
    """Plain values as YAML that `parse_yaml` reads back unchanged, Japanese as it is.

    YAML 1.1 takes three rare characters (U+0085, U+2028, U+2029) for line ends and folds them into
    blanks unless they are escaped, which only double quotes allow.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes such strings."""

    def quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = '"' if YAML_LINE_ENDS.intersection(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, quoted)
    written: str = yaml.dump(values, Dumper=Dumper, allow_unicode=True, sort_keys=False)
    return written


def parse_assignment(assignment: str, values: dict[str, Any]) -> None:
    """Put `key=value` into nested plain values; `a.b=1` and `data.0.weight=2` reach inside."""
    path, found, text = assignment.partition("=")
    if not found or not path.strip():
        raise RecipeError(f"--set {assignment!r}: expected key=value")
    value = parse_yaml(text, where=f"--set {assignment!r}: the value")
    *parents, last = path.strip().split(".")
    target: Any = values
    for key in parents:
        target = _child(target, key, assignment)
    _put(target, last, value, assignment)


def _child(target: Any, key: str, assignment: str) -> Any:
    if isinstance(target, list):
        return target[_index(target, key, assignment)]
    if isinstance(target, dict):
        child = target.setdefault(key, {})
        if child is None:
            child = target[key] = {}
        return child
    raise RecipeError(f"--set {assignment!r}: {key!r} has nothing inside")


def _put(target: Any, key: str, value: Any, assignment: str) -> None:
    if isinstance(target, list):
        target[_index(target, key, assignment)] = value
    elif isinstance(target, dict):
        target[key] = value
    else:
        raise RecipeError(f"--set {assignment!r}: {key!r} has no place to go")


def _index(target: list[Any], key: str, assignment: str) -> int:
    if not (key.isascii() and key.isdigit()) or int(key) >= len(target):
        raise RecipeError(
            f"--set {assignment!r}: {key!r} is no position in a list of {len(target)}"
        )
    return int(key)


def _converted(hint: Any, value: Any, *, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _converted_union(hint, value, where=where)
    if origin is Literal:
        return _converted_literal(get_args(hint), value, where=where)
    if dataclasses.is_dataclass(origin):
        return build(hint, value, where=where)
    if origin is tuple:
        return _converted_tuple(hint, value, where=where)
    if origin is not None and issubclass(origin, Mapping):
        return _converted_mapping(hint, value, where=where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where=where)
    return _converted_scalar(hint, value, where=where)


def _converted_union(hint: Any, value: Any, *, where: str) -> Any:
    if value is None and type(None) in get_args(hint):
        return None
    (inner,) = [arg for arg in get_args(hint) if arg is not type(None)]
    return _converted(inner, value, where=where)


def _converted_literal(choices: tuple[Any, ...], value: Any, *, where: str) -> Any:
    for choice in choices:
        if value == choice and isinstance(value, bool) == isinstance(choice, bool):
            return choice  # Python takes 1 for True
    words = [_word(choice) for choice in choices]
    raise RecipeError(
        f"{where} is {_shown(value)}; expected {' | '.join(words)}" + _nearest(str(value), words)
    )


def _word(choice: Any) -> str:
    """A choice as YAML has it."""
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _converted_tuple(hint: Any, value: Any, *, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{where}: expected a list, found {_shown(value)}")
    inner = get_args(hint)[0]
    return tuple(_converted(inner, v, where=f"{where}[{i}]") for i, v in enumerate(value))


def _converted_mapping(hint: Any, value: Any, *, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: expected fields, found {_shown(value)}")
    _, inner = get_args(hint)
    return {str(k): _converted(inner, v, where=f"{where}.{k}") for k, v in value.items()}


def _converted_scalar(hint: Any, value: Any, *, where: str) -> Any:
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)  # `vision: 1e-5` is a number to YAML, a setting to us
    if hint is float:
        return _converted_number(value, where=where)
    if hint is Any or (isinstance(value, hint) and (hint is bool or not isinstance(value, bool))):
        return value
    raise RecipeError(f"{where} is {_shown(value)}; expected {hint.__name__}")


def _converted_number(value: Any, *, where: str) -> float:
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)  # YAML 1.1 reads 1e-4 as a string
    if not math.isfinite(number):
        raise RecipeError(f"{where} is {_shown(value)}; expected a finite number")
    return number


def _unknown_field(where: str, name: str, known: list[str]) -> RecipeError:
    return RecipeError(
        f"{where}: unknown field {name!r}" + _nearest(name, known),
        next_step=f"known fields: {', '.join(known)}",
    )


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _is_required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _at(where: str, name: str) -> str:
    return name if where == "recipe" else f"{where}.{name}"


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"
