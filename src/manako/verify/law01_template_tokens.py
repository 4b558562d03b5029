"""Law 1: tokens equal what the checkpoint's own chat template gives.

The bug it catches: a trainer that writes turns by its own code drifts from what the model will be
asked, and quality falls without an error.

Where a family's reference encodes prompt and answer apart (DeepSeek-VL2), so does the check.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any
from unittest.mock import patch

from manako.core.conversation import Conversation, Text
from manako.core.files import read_json
from manako.verify._subject import Law, Subject, demand


def _check(subject: Subject) -> str:
    tokenizer = _reference(subject)
    compared = 0
    for probe in subject.probes():
        asked = Conversation(probe.messages[:-1], id=probe.id)
        compared += _compare(subject, tokenizer, asked, prompt=True)
        compared += _compare(subject, tokenizer, probe, prompt=False)
    return f"{compared} tokens equal in {2 * len(subject.probes())} renderings"


def _reference(subject: Subject) -> Any:
    """The tokenizer as transformers opens it; one of unigram pieces from its tokenizer.json alone.

    The class that most such checkpoints name, `LlamaTokenizer`, makes a BPE of the same pieces in
    transformers 5 (5.23 and 5.24), which gives ids that its authors' tokenizer never gave.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from manako.nn.checkpoint import model_class

    model_class(subject.family)  # transformers looks a flat config.json up to choose a tokenizer
    folder = subject.family.text_folder(subject.folder)
    is_unigram = read_json(folder / "tokenizer.json")["model"].get("type") == "Unigram"
    opener: Any = PreTrainedTokenizerFast if is_unigram else AutoTokenizer
    return opener.from_pretrained(folder, local_files_only=True)


def _compare(subject: Subject, tokenizer: Any, conversation: Conversation, *, prompt: bool) -> int:
    processor: Any = subject.processor
    image_texts = processor.image_texts(conversation)
    layout = processor.maker.prompt if prompt else processor.maker.training
    ours = layout(conversation, image_texts)
    text = _rendered(processor, tokenizer, conversation, prompt=prompt)
    if not prompt:
        text = _as_trained(processor, tokenizer, conversation, text)
    text = processor.maker.written(text, image_texts)
    # As every processor of `transformers` does: the beginning of text is not written twice.
    starts = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    first, *others = processor.maker.pieces(text)
    reference = tokenizer(first, add_special_tokens=not starts)["input_ids"]
    for piece in others:
        reference += tokenizer(piece, add_special_tokens=False)["input_ids"]
    place = next(
        (i for i, (a, b) in enumerate(zip(ours.ids, reference, strict=False)) if a != b),
        min(len(ours.ids), len(reference)),
    )
    demand(
        list(ours.ids) == reference,
        f"{conversation.id}: token {place} is {list(ours.ids)[place : place + 1]}, the checkpoint's own "
        f"template and tokenizer give {reference[place : place + 1]}",
        next_step="compare tokenizer.json with tokenizer_config.json: they may be of two revisions",
    )
    return len(ours.ids)


def _rendered(processor: Any, tokenizer: Any, conversation: Conversation, *, prompt: bool) -> str:
    """By transformers; a template that asks for the day is told the pinned one on both sides."""
    from transformers.utils import chat_template_utils

    renderer = processor.maker.renderer

    class Pinned(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Pinned:
            return cls.fromisoformat(renderer.template.clock)

    with patch.object(chat_template_utils, "datetime", Pinned):
        text = tokenizer.apply_chat_template(
            [_as_transformers(renderer, message) for message in conversation.messages],
            chat_template=renderer.template.source,
            add_generation_prompt=prompt,
            tokenize=False,
            **renderer.options(conversation),
        )
    return str(text)


def _as_trained(processor: Any, tokenizer: Any, conversation: Conversation, text: str) -> str:
    """`text` as the last answer is asked for and ended, whatever the layout says it did.

    Where a template does not write history as it asks, the prompt of the last answer and then the
    text from that answer on; where it ends no turn, with the family's end token after the words.
    """
    answer = conversation.messages[-1].text.strip()
    asked = Conversation(conversation.messages[:-1], id=conversation.id)
    prompt = _rendered(processor, tokenizer, asked, prompt=True)
    if not text.startswith(prompt):
        text = prompt + text[text.rindex(answer) :]
    end = text.rindex(answer) + len(answer)
    closing = [processor.tokenizer.decode([token_id]) for token_id in processor.end_ids]
    if processor.maker.end_token and not any(token in text[end:] for token in closing):
        text = text[:end] + processor.maker.end_token + text[end:]
    return text


def _as_transformers(renderer: Any, message: Any) -> dict[str, Any]:
    contents = [part.text if isinstance(part, Text) else part for part in message.content]
    return renderer._message(message.role, contents)  # type: ignore[no-any-return]


LAW = Law(number=1, title="tokens equal the checkpoint's own template", check=_check)
