"""Chat templates are code from outside: rendered in a sandbox, with limits on time and output.

The environment is what `transformers` gives a template (`utils/chat_template_utils.py`, 5.23:
trimmed blocks, loop controls, `tojson`, `raise_exception`, `strftime_now`, the `generation` tag).
On top of Jinja's immutable sandbox, every loop round and macro call checks a deadline, string
growth is bounded, and the clock is pinned.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from manako.core.errors import TemplateError

if TYPE_CHECKING:
    import jinja2

MAX_RENDER_SECONDS = 2.0
MAX_OUTPUT_CHARACTERS = 8_000_000
PINNED_CLOCK = "2026-01-01T00:00:00"
"""What `strftime_now` tells every template, so that tokens do not depend on the day."""

CHECK_FILTER = "check_deadline "
"""With a blank, so that no template can name it. It takes the context, so it is never folded."""

Messages = Sequence[Mapping[str, Any]]


class ChatTemplate:
    """A checkpoint's chat template. Picklable: it is compiled where it is first used."""

    def __init__(self, source: str, *, clock: str = PINNED_CLOCK, bos: str = "", eos: str = ""):
        self.source = source
        self.clock = clock
        self.special = {"bos_token": bos, "eos_token": eos}

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_compiled"}

    def render(self, messages: Messages, *, add_generation_prompt: bool, **options: Any) -> str:
        """The text of `messages`. Raises `TemplateError` when the template refuses, runs longer
        than `MAX_RENDER_SECONDS` or writes more than `MAX_OUTPUT_CHARACTERS`."""
        import jinja2

        _deadline.ends = time.monotonic() + MAX_RENDER_SECONDS
        variables = {
            **self.special,
            **options,
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            pieces, written = [], 0
            for piece in self._compiled.generate(variables):
                written += len(piece)
                _check(written)
                pieces.append(piece)
            return "".join(pieces)
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template refuses: {error}") from error
        except TemplateError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise TemplateError(f"the chat template fails: {error}") from error
        except (RecursionError, OverflowError, MemoryError, ArithmeticError) as error:
            raise TemplateError(f"the chat template runs away: {error}") from error

    def names(self, word: str) -> bool:
        """Whether the template's own text contains `word`."""
        return word in self.source

    @cached_property
    def _compiled(self) -> jinja2.Template:
        import jinja2

        try:
            return _environment(self.clock).from_string(self.source)
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template is no valid Jinja: {error}") from error


_deadline = threading.local()


def _check(length: int = 0) -> str:
    if time.monotonic() > _deadline.ends:
        raise TemplateError(
            f"the chat template ran longer than {MAX_RENDER_SECONDS:g} s and was stopped",
            next_step="look into the checkpoint's chat_template.jinja: it may loop forever",
        )
    if length > MAX_OUTPUT_CHARACTERS:
        raise TemplateError(
            f"the chat template wrote more than {MAX_OUTPUT_CHARACTERS:,} characters"
        )
    return ""


def _environment(clock: str) -> jinja2.Environment:
    import jinja2.ext
    import jinja2.sandbox
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    class Watched(NodeTransformer):
        """Puts a check into every loop and macro body, and bounds string joining."""

        def visit_For(self, node: nodes.For) -> nodes.Node:
            return self._checked(node)

        def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
            return self._checked(node)

        def _checked(self, node: Any) -> nodes.Node:
            node = self.generic_visit(node)
            # A filter compiles to a plain call; a call would go through the sandbox's own checks.
            call = nodes.Filter(nodes.Const(0), CHECK_FILTER, [], [], None, None)
            node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno))
            return node  # type: ignore[no-any-return]

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
            node = self.generic_visit(node)  # type: ignore[assignment]
            target = nodes.EnvironmentAttribute("join_checked")
            call = nodes.Call(target, list(node.nodes), [], None, None)
            return call.set_lineno(node.lineno)

    class Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**", "+", "%"])

        def _parse(self, source: str, name: Any, filename: Any) -> nodes.Template:
            tree = Watched().visit(super()._parse(source, name, filename))
            return tree.set_environment(self)  # type: ignore[no-any-return]

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check(_grown_length(operator, left, right))
            return super().call_binop(context, operator, left, right)

        def join_checked(self, *values: Any) -> str:
            joined = [str(value) for value in values]
            _check(sum(map(len, joined)))
            return "".join(joined)

    environment = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _generation_tag()],
    )
    environment.filters["tojson"] = _to_json
    environment.filters[CHECK_FILTER] = jinja2.pass_context(lambda context, length: _check(length))
    for name in ("center", "indent", "format", "wordwrap", "replace"):
        environment.filters[name] = _bounded(name, environment.filters[name])
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = datetime.fromisoformat(clock).strftime
    return environment


def _generation_tag() -> type[jinja2.ext.Extension]:
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}` marks answers for other tools; here it is text."""

        tags = frozenset({"generation"})  # type: ignore[assignment]

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)  # type: ignore[no-any-return]

    return Generation


def _grown_length(operator: str, left: Any, right: Any) -> int:
    if operator == "*":
        for sized, count in ((left, right), (right, left)):
            if isinstance(sized, str | list | tuple) and isinstance(count, int):
                return len(sized) * max(count, 0)
    if operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
        return len(left) + len(right)
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * max(right, 0)
    if operator == "%" and isinstance(left, str):
        return len(left) + max((int(n) for n in _numbers(left)), default=0)
    return 0


def _numbers(text: str) -> list[str]:
    import re

    return re.findall(r"\d+", text)


def _bounded(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose numeric arguments cannot blow a string up."""
    from functools import wraps

    @wraps(original)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, int):
                _check(value)
            if name == "format" and isinstance(value, str):
                _check(max((int(n) for n in _numbers(value)), default=0))
        result = original(*args, **kwargs)
        _check(len(result) if isinstance(result, str) else 0)
        return result

    return bounded


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)
