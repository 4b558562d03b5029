"""A conversation turn by turn: its history is an ordinary Conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import InputError
from manako.infer.prompt import user_turn
from manako.infer.reply import Reply, Settings

if TYPE_CHECKING:
    from manako.infer.model import Model


class Chat:
    """Keeps what was said; a turn that fails, or is not read to its end, leaves no trace."""

    def __init__(self, model: Model, *, system: str | None = None) -> None:
        if system is not None and not (isinstance(system, str) and system.strip()):
            raise InputError(f"system must be None or a text, is {system!r}")
        self._model = model
        self._start = () if system is None else (Message("system", (Text(system),)),)
        self._turns: tuple[Message, ...] = ()

    @property
    def conversation(self) -> Conversation:
        """Everything said so far, the system turn first."""
        return Conversation((*self._start, *self._turns))

    def send(self, content: Any, **settings: Unpack[Settings]) -> Reply:
        """Say something (as for `generate_content`, with its settings) and get the answer."""
        turn = user_turn(content)
        reply = self._model.generate_content(self._with(turn), **settings)
        self._keep(turn, reply)
        return reply

    def stream(self, content: Any, **settings: Unpack[Settings]) -> Iterator[str]:
        """Like `send`, in pieces; the turn counts once the pieces are used up."""
        turn = user_turn(content)
        pieces = self._model.stream_content(self._with(turn), **settings)

        def given() -> Iterator[str]:
            yield from pieces
            self._keep(turn, pieces.reply)

        return given()

    def reset(self) -> None:
        """Forget everything but the system turn."""
        self._turns = ()

    def _with(self, turn: Message) -> Conversation:
        return Conversation((*self.conversation.messages, turn))

    def _keep(self, turn: Message, reply: Reply) -> None:
        self._turns = (*self._turns, turn, Message("assistant", (Text(reply.text),)))
