"""Run: open a model, ask it, talk with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.conversation import Conversation, Message, Part, Text

if TYPE_CHECKING:
    from manako.hub.files import Progress
    from manako.infer.open import Model
    from manako.infer.reply import Reply


def load(
    source: str | Path,
    revision: str | None = None,
    adapter: str | Path | None = None,
    *,
    accept_facts: Iterable[str] = (),
    progress: Progress | None = None,
) -> Model:
    """Open a model: a checkpoint folder, a run, a name on the Hub (`org/name`), or one that ships
    with Manako (`mini`).

    `revision` is a branch, tag or commit on the Hub; `adapter` a folder, or a name on the Hub, with
    adapter weights for the model; `accept_facts` names facts that hold whatever its files say, where
    an error says that they contradict what is known of the family; `progress` is told (bytes so far, bytes in all) of a download.
    Raises `MissingFileError` when there is no such folder, `CheckpointError` when it is no
    checkpoint of a known family, `AdapterError` when the adapter does not fit, `HubError` when the
    Hub does not give it; more is said at `infer.open.open_model`.
    """
    from manako.infer.open import open_model

    return open_model(
        source, revision=revision, adapter=adapter, accept_facts=accept_facts, progress=progress
    )


def bring(
    source: str | Path, revision: str | None = None, *, progress: Progress | None = None
) -> str | Path:
    """A name on the Hub as its folder in the cache, brought there first; anything else as it is."""
    from manako.infer.source import brought

    return brought(source, revision, progress=progress)


def register_models() -> tuple[str, ...]:
    """Tell transformers of the classes that Manako brings for families which it lacks, so that
    `AutoModelForImageTextToText.from_pretrained` reads them too. Returns their names.

    Opening a model with `load` does this for its own family.
    """
    from manako.core.family import families
    from manako.nn.checkpoint import model_class

    own = [f for f in families().items.values() if f.model_module.startswith("manako.")]
    return tuple(model_class(family).__name__ for family in own)


def generate(
    model: Model,
    parts: tuple[Part, ...],
    *,
    system: str | None = None,
    say: Callable[[str], object] | None = None,
    **settings: Any,
) -> Reply:
    """Answer one prompt. With `say`, pieces of the answer are handed over as they are written;
    `settings` are those of `Model.generate_content`."""
    prompt = Conversation((*_system(system), Message("user", parts)))
    if say is None:
        return model.generate_content(prompt, **settings)
    stream = model.stream_content(prompt, **settings)
    for piece in stream:
        say(piece)
    return stream.reply


def _system(text: str | None) -> tuple[Message, ...]:
    return () if text is None else (Message("system", (Text(text),)),)
