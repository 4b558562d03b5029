"""Commands, groups and options whose help is looked up in the table of texts when it is shown."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from manako.cli.screen import current_screen
from manako.cli.texts import Texts

F = TypeVar("F", bound=Callable[..., Any])
HELP_NAMES = ("-h", "--help")


def texts_of(ctx: click.Context) -> Texts:
    """The texts in the language of this call."""
    return current_screen(ctx).texts


class Option(click.Option):
    """An option with its help under `key` in the table; `values` gives what that text names."""

    def __init__(
        self,
        *args: Any,
        key: str,
        values: Callable[[], dict[str, str]] = dict,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.key, self.values = key, values

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = texts_of(ctx)(self.key, **self.values())
        return super().get_help_record(ctx)


class _Localised(click.Command):
    """What commands and groups share: help in the language of the call, and examples below it."""

    key: str
    examples: Sequence[str]

    def get_short_help_str(self, limit: int = 45) -> str:
        texts = texts_of(click.get_current_context())
        return texts(self.key).split("\n", maxsplit=1)[0]

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        found = super().get_help_option(ctx)
        if found is not None:
            found.help = texts_of(ctx)("option.help")
        return found

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        usage = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, usage, f"{texts_of(ctx)('help.usage')}: ")

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        with formatter.indentation():
            for line in texts_of(ctx)(self.key).split("\n"):
                formatter.write_text(line)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        records = [option.get_help_record(ctx) for option in options]
        if rows := [record for record in records if record is not None]:
            with formatter.section(texts_of(ctx)("help.options")):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section(texts_of(ctx)("help.examples")):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Command(_Localised):
    """A command; every one takes `--json` and `--lang`, and its help shows an example."""

    def __init__(self, *args: Any, key: str, examples: Sequence[str], **settings: Any) -> None:
        settings["context_settings"] = {"help_option_names": list(HELP_NAMES)}
        super().__init__(*args, **settings)
        self.key, self.examples = key, examples
        self.params += [_json_option(), _lang_option()]

    def invoke(self, ctx: click.Context) -> Any:
        screen = current_screen(ctx)
        screen.is_json = bool(ctx.params.pop("as_json", False))
        ctx.params.pop("lang", None)
        return super().invoke(ctx)


class Group(_Localised, click.Group):
    """A group of commands."""

    command_class = Command

    def __init__(self, *args: Any, key: str, examples: Sequence[str] = (), **settings: Any) -> None:
        settings["context_settings"] = {"help_option_names": list(HELP_NAMES)}
        super().__init__(*args, **settings)
        self.key, self.examples = key, examples
        self.params.append(_lang_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str()) for name, command in commands if command]
        with formatter.section(texts_of(ctx)("help.commands")):
            formatter.write_dl(rows)
        super().format_options(ctx, formatter)


class FolderGroup(Group):
    """A group whose commands are the files of a package, each loaded when it is called.

    A file exports `COMMAND` and has the command's name, with a trailing underscore where Python
    keeps the name for itself. `order`: the commands named here come first, the others by name.
    """

    def __init__(self, *args: Any, package: str, order: Sequence[str] = (), **settings: Any):
        super().__init__(*args, **settings)
        self._package, self._order = package, tuple(order)

    def list_commands(self, ctx: click.Context) -> list[str]:
        folders = importlib.import_module(self._package).__path__
        modules = [module.name for module in pkgutil.iter_modules(folders)]
        names = sorted(name.rstrip("_") for name in modules if not name.startswith("_"))
        return sorted(names, key=self._place)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        is_there = importlib.util.find_spec(f"{self._package}.{name}")
        module = importlib.import_module(f"{self._package}.{name if is_there else f'{name}_'}")
        return module.COMMAND  # type: ignore[no-any-return]

    def _place(self, name: str) -> int:
        return self._order.index(name) if name in self._order else len(self._order)


def command(name: str, *, key: str, examples: Sequence[str]) -> Callable[[F], Command]:
    """Make a function the command `name`; its first argument is the screen."""

    def make(function: F) -> Command:
        return click.command(name, cls=Command, key=key, examples=examples)(with_screen(function))

    return make


def with_screen(function: F) -> F:
    """Hand the screen of the call to a function as its first argument."""

    @functools.wraps(function)
    def called(*args: Any, **values: Any) -> Any:
        return function(current_screen(click.get_current_context()), *args, **values)

    return called  # type: ignore[return-value]


def option(*names: str, key: str, **settings: Any) -> Callable[[F], F]:
    """An option of a command; its help stands under `key` in the table of texts."""
    return click.option(*names, cls=Option, key=key, **settings)


def _json_option() -> Option:
    return Option(["--json", "as_json"], is_flag=True, key="option.json")


def _lang_option() -> Option:
    """Read by `cli/language.py` before parsing; here so that it parses and shows in the help."""
    return Option(["--lang"], type=click.Choice(["ja", "en"]), expose_value=True, key="option.lang")
