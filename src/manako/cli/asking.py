"""What `generate` and `chat` share: the options of an answer, and opening the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from manako.cli.command import option
from manako.cli.screen import Screen

if TYPE_CHECKING:
    from manako.infer.open import Model
    from manako.infer.reply import Reply

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = (
    option("--revision", metavar="NAME", key="option.revision"),
    option("--adapter", metavar="DIR", key="option.adapter"),
    option("--system", metavar="TEXT", key="option.system"),
    option(
        "--max-new-tokens", type=int, default=256, show_default=True, key="option.max_new_tokens"
    ),
    option("--temperature", type=float, default=0.0, show_default=True, key="option.temperature"),
    option("--top-p", type=float, default=1.0, show_default=True, key="option.top_p"),
    option("--stop", multiple=True, metavar="TEXT", key="option.stop"),
    option("--seed", type=int, key="option.seed"),
)


def asking_options(function: F) -> F:
    """Give a command the options of an answer: `adapter`, `system`, and what `Asking` takes."""
    for add in reversed(OPTIONS):
        function = add(function)
    return function


def open_model(
    screen: Screen, source: str, adapter: str | None, revision: str | None = None
) -> Model:
    """Open a model, with a bar while it is downloaded, and say what was decided about it."""
    from manako.verbs.run import bring, load

    with screen.bar("model.download", model=source) as bar:
        folder = bring(source, revision, progress=bar)
    with screen.working("model.working"):
        model = load(folder, adapter=adapter)
    for note in model.notes:
        screen.err.print(note, style="dim", soft_wrap=True)
    return model


def as_dict(reply: Reply) -> dict[str, Any]:
    """A reply as plain values."""
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.usage.prompt_tokens,
        "completion_tokens": reply.usage.completion_tokens,
    }
