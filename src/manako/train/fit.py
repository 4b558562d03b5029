"""Rows that are longer than a pack: one policy, the same wherever a row is met.

`error` stops the run (the loader raises), `drop` records the row and goes on, `shrink_images`
lowers the picture limit of that row until it fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from manako.core.errors import NotInThisVersion, RecipeError, RowError

if TYPE_CHECKING:
    from manako.core.conversation import Conversation
    from manako.core.example import Example, Lengths
    from manako.core.family import Processor
    from manako.core.recipe import TooLong

SHRINK = 0.8
"""Each try leaves a picture this share of its pixels."""
MOST_TRIES = 40
"""0.8⁴⁰ of the largest picture that is decoded at all leaves about one token of any family."""


@dataclass(frozen=True)
class Fitted:
    """A processor's `measure` and `encode` under a policy for rows above `pack_tokens`.

    Picklable, as worker processes need it.
    """

    processor: Processor
    pack_tokens: int
    policy: TooLong

    def __post_init__(self) -> None:
        if self.policy == "trim_text":
            raise NotInThisVersion(
                "too_long: trim_text is not in this version",
                next_step="use error, drop or shrink_images",
            )

    def measure(self, conversation: Conversation) -> Lengths:
        """Lengths of `encode(conversation)`."""
        lengths = self.processor.measure(conversation)
        if lengths.tokens <= self.pack_tokens or self.policy == "error":
            return lengths
        return self._shrunk(conversation, lengths)[1]

    def encode(self, conversation: Conversation) -> Example:
        """The example as it is trained."""
        if self.policy != "shrink_images" or not conversation.images:
            return self.processor.encode(conversation)
        lengths = self.processor.measure(conversation)
        if lengths.tokens <= self.pack_tokens:
            return self.processor.encode(conversation)
        return self._shrunk(conversation, lengths)[0].encode(conversation)

    def _shrunk(self, conversation: Conversation, whole: Lengths) -> tuple[Processor, Lengths]:
        if self.policy == "shrink_images" and conversation.images:
            largest = max(image.width * image.height for image in conversation.images)
            for number in range(1, MOST_TRIES + 1):
                processor = self._with_limit(int(largest * SHRINK**number))
                if processor is None:
                    break
                lengths = processor.measure(conversation)
                if lengths.tokens <= self.pack_tokens:
                    return processor, lengths
        raise RowError(
            f"row {conversation.id} has {whole.tokens} tokens, above pack_tokens "
            f"{self.pack_tokens}",
            reason="too_long",
            row_id=conversation.id,
            next_step="raise pack_tokens",
        )

    def _with_limit(self, max_pixels: int) -> Processor | None:
        try:
            return self.processor.with_pixel_limits(min_pixels=1, max_pixels=max_pixels)
        except RecipeError:
            return None  # below one token there is nothing left to try
