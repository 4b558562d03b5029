"""Masks and ids with published tokenizers and templates, over 500 drawn conversations of each.

Tokenizers: see scripts/real_assets.py. Templates: of TRL's package, read where it lies. Only what
the file says is used; the weights of these models are nowhere near.
"""

from __future__ import annotations

import importlib.util
import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talks import COUNT, talks
from transformers import PreTrainedTokenizerFast

from manako.core.conversation import Conversation
from manako.core.errors import RowError
from manako.families._shared.layout import Layout, LayoutMaker
from manako.families._shared.render import Renderer
from manako.families._shared.template import ChatTemplate
from manako.families._shared.text_tokenizer import TextTokenizer
from manako.verify.law01_template_tokens import _as_transformers

KINDS = {
    "qwen2_vl": ("qwen2_5", "qwen2_5_vl", "<|image_pad|>", None, "<|im_end|>", "", 151655),
    "qwen2_5_vl": ("qwen2_5", "qwen2_5_vl", "<|image_pad|>", None, "<|im_end|>", "", 151655),
    "qwen3_vl": ("qwen3", "qwen3_vl", "<|image_pad|>", None, "<|im_end|>", "", 151655),
    "gemma3": (
        "gemma3", "gemma3", "<start_of_image>", "<image_soft_token>", "<end_of_turn>", "<bos>", 262144,
    ),
}  # fmt: skip
"""Family → tokenizer, TRL's template, image mark, image token, end of turn, start, id of the token."""
REFUSALS = ("template_changes_words", "no_words")
GEMMA_PICTURE = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"


class Kind:
    """A family's text half with the published files."""

    def __init__(self, name: str, real: Path) -> None:
        tokenizer, template, self.mark, token, end, self.bos, self.image_id = KINDS[name]
        self.text = TextTokenizer(real / tokenizer / "tokenizer.json")
        self.source = published(template)
        self.training = published(f"{template}_training")
        self.renderer = Renderer(ChatTemplate(self.source, bos=self.bos))
        end_id = self.text.id_of(end)
        assert end_id is not None
        self.end_id = end_id
        self.maker = LayoutMaker(
            self.renderer, self.text, image_mark=self.mark, image_token=token, end_ids=[end_id]
        )
        special = [token.content for token in self.text.added().values() if token.special]
        self.control = [*special[:40], self.mark]
        self.reference = PreTrainedTokenizerFast(tokenizer_file=str(self.text.file))

    def texts(self, row: Conversation) -> tuple[str, ...]:
        """What takes the place of each picture's mark."""
        return (GEMMA_PICTURE,) * len(row.images) if self.maker.image_token != self.mark else ()

    def written(self, row: Conversation) -> str:
        """The rendering with pictures as text; a mark that a content spells stays."""
        rendering = self.renderer.render(row)
        texts = list(self.texts(row))
        written = ""
        for piece in rendering.pieces:
            if not isinstance(piece, str):
                written += rendering.words[piece].text
                continue
            head, *rest = piece.split(self.mark)
            written += head + "".join((texts.pop(0) if texts else self.mark) + r for r in rest)
        return written

    def rows(self) -> Iterator[tuple[Conversation, Layout]]:
        """Conversations that the template takes as they are, with their tokens."""
        for row in talks(self.control, with_pictures=True):
            try:
                yield row, self.maker.training(row, self.texts(row))
            except RowError as error:
                if error.reason not in REFUSALS:
                    raise


def published(name: str) -> str:
    found = importlib.util.find_spec("trl")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request: pytest.FixtureRequest, real: Path) -> Kind:
    return Kind(request.param, real)


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def spells(kind: Kind, row: Conversation) -> bool:
    words = "".join(message.text for message in row.messages)
    return any(token in words for token in kind.control)


def test_the_image_token_has_its_published_id(kind: Kind) -> None:
    assert kind.text.id_of(str(kind.maker.image_token)) == kind.image_id


def test_ids_are_those_of_the_whole_text_where_no_control_token_is_spelled(kind: Kind) -> None:
    compared = 0
    for row, layout in kind.rows():
        if spells(kind, row) or any(m.text.startswith("\n") for m in row.messages):
            continue
        text = kind.written(row)
        assert list(layout.ids) == kind.reference(text, add_special_tokens=False)["input_ids"], (
            row.id
        )
        compared += 1
    assert compared > COUNT / 2


def test_spelled_control_tokens_stay_text(kind: Kind) -> None:
    """As many images as pictures and as many ends of turn as the template writes; decoded, the text
    is the rendering."""
    spelled = 0
    for row, layout in kind.rows():
        ids = list(layout.ids)
        assert ids.count(kind.image_id) == len(row.images), row.id
        assert nfc(kind.text.decode(ids)) == nfc(kind.written(row)), row.id
        is_plain = Conversation(tuple(m for m in row.messages if m.role != "system"), id=row.id)
        least = len(is_plain.messages)
        assert least <= ids.count(kind.end_id) <= least + 1, row.id
        spelled += spells(kind, row)
    assert spelled > COUNT / 6


def test_masks_are_what_the_training_template_marks(kind: Kind) -> None:
    """By characters; TRL marks the line break after the end of turn too, which nobody answers. In
    history a token may join the prompt's line break with those of an answer."""
    compared = 0
    for row, layout in kind.rows():
        messages = [_as_transformers(kind.renderer, message) for message in row.messages]
        marked = marked_by(kind, messages)
        trained = [nfc(run) for run in runs(kind.text, layout)]
        last = len(trained) - 1
        trained = [
            run if number == last else run.lstrip("\n") for number, run in enumerate(trained)
        ]
        marked = [m if number == last else m.lstrip("\n") for number, m in enumerate(marked)]
        assert [run.rstrip("\n") for run in trained] == [nfc(m).rstrip("\n") for m in marked], (
            row.id
        )
        compared += 1
    assert compared > COUNT * 0.9


def test_offsets_lie_on_the_words(kind: Kind) -> None:
    """Each content's tokens, decoded, hold its words: nothing of a neighbour is trained with them."""
    for row, layout in kind.rows():
        answers = [message.text.strip() for message in row.messages if message.role == "assistant"]
        end = kind.text.decode([kind.end_id])
        found = [run.removesuffix(end).strip() for run in runs(kind.text, layout)]
        assert [nfc(each) for each in found] == [nfc(each) for each in answers], row.id


def marked_by(kind: Kind, messages: list[dict[str, Any]]) -> list[str]:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, spans = render_jinja_template(
        [messages],
        chat_template=kind.training,
        return_assistant_tokens_mask=True,
        bos_token=kind.bos,
    )
    return [rendered[0][start:end] for start, end in spans[0]]


def runs(text: TextTokenizer, layout: Layout) -> Iterator[str]:
    pairs = zip(layout.ids, layout.trained, strict=True)
    for trained, tokens in itertools.groupby(pairs, key=lambda pair: pair[1]):
        if trained:
            yield text.decode([token for token, _ in tokens])
