"""Laws 1 to 4 with the templates that were published, read from TRL's package and copied nowhere.

TRL carries the files as they stand on the Hub, and beside some a variant that marks what an answer
is (`{% generation %}`): an independent word on which characters are trained. TRL marks the line
break after the end of turn as well; law 3 ends at the end of turn, where an answer ends.
"""

from __future__ import annotations

import importlib.util
import itertools
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from manako.core.conversation import Conversation, Message, Text
from manako.core.family import families
from manako.core.files import read_json, write_json
from manako.verify._subject import Subject, picture, probes
from manako.verify.law01_template_tokens import _as_transformers
from manako.verify.runner import laws

PUBLISHED = {
    "gemma2": "gemma",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "idefics3": "idefics3",
    "llama": "llama3_1",
    "llava_next": "llava_next",
    "qwen2_vl": "qwen2_5_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "smolvlm": "smolvlm",
}
"""Family → TRL's name of the template its checkpoints carry."""
TRAINING = {"llama": "llama3"}
"""Where the variant that marks answers has another name than the template."""
HERE = sorted(set(PUBLISHED) & set(families().items))


def template(name: str) -> str | None:
    found = importlib.util.find_spec("trl")
    assert found is not None
    assert found.submodule_search_locations
    file = Path(found.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja"
    return file.read_text(encoding="utf-8") if file.is_file() else None


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Tiny checkpoints with the published template in place of the maker's."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("published") / name
            families().items[name].make_tiny(folder, seed=1)
            for file in ("chat_template.jinja", "chat_template.json"):
                (folder / file).unlink(missing_ok=True)
            settings = read_json(folder / "tokenizer_config.json")
            source = template(PUBLISHED[name])
            write_json(folder / "tokenizer_config.json", {**settings, "chat_template": source})
            made[name] = folder
        return made[name]

    return make


@pytest.mark.parametrize("law", laws()[:4], ids=lambda law: f"law{law.number:02}")
@pytest.mark.parametrize("name", HERE)
def test_a_law_holds_with_the_published_template(
    name: str, law: Any, published: Callable[[str], Path]
) -> None:
    verdict = Subject(published(name)).verdict(law)
    assert verdict.state == "holds", verdict


@pytest.mark.parametrize("name", HERE)
def test_the_maker_writes_what_the_published_template_writes(
    name: str, published: Callable[[str], Path], tmp_path: Path
) -> None:
    families().items[name].make_tiny(tmp_path, seed=1)
    own, public = Subject(tmp_path).processor, Subject(published(name)).processor
    for row in rows(name):
        for prompt in (False, True):
            asked = Conversation(row.messages[:-1], id=row.id) if prompt else row
            pair = [p.maker.renderer.render(asked, prompt=prompt).text for p in (own, public)]  # type: ignore[attr-defined]
            assert pair[0] == pair[1], row.id


@pytest.mark.parametrize("name", HERE)
def test_trained_is_what_the_training_variant_marks(
    name: str, published: Callable[[str], Path]
) -> None:
    source = template(f"{TRAINING.get(name, PUBLISHED[name])}_training")
    assert source is not None
    processor: Any = Subject(published(name)).processor
    renderer = processor.maker.renderer
    for row in rows(name):
        messages = [_as_transformers(renderer, message) for message in row.messages]
        special = processor.maker.renderer.template.special
        rendered, spans = render_jinja_template(
            [messages], chat_template=source, return_assistant_tokens_mask=True, **special
        )
        marked = [nfc(rendered[0][start:end]) for start, end in spans[0]]
        trained = [nfc(run) for run in runs(processor, row)]
        assert len(trained) == len(marked), row.id
        for ours, theirs in zip(trained, marked, strict=True):
            assert ours == theirs[: len(ours)], row.id
            assert theirs[len(ours) :].strip() == "", (row.id, theirs)


def nfc(text: str) -> str:
    """Qwen's tokenizer composes characters before it cuts them."""
    return unicodedata.normalize("NFC", text)


def runs(processor: Any, row: Conversation) -> Iterator[str]:
    """The text of each stretch of trained tokens."""
    example = processor.encode(row)
    pairs = zip(example.input_ids.tolist(), example.trained.tolist(), strict=True)
    for trained, tokens in itertools.groupby(pairs, key=lambda pair: pair[1]):
        if trained:
            yield processor.tokenizer.decode([token for token, _ in tokens], at="inside")


def rows(name: str) -> list[Conversation]:
    """The laws' probes and what goes wrong in templates: several pictures in several turns, a system
    turn with a picture after it, emoji, combining marks, line breaks inside an answer."""
    if not families().items[name].takes_images:
        return [probe for probe in probes() if not probe.images]
    small, tall = picture(56, 56), picture(45, 90)
    turns = (
        Message("system", (Text("日本語で答えてください。"),)),
        Message("user", (Text("一枚目"), small, Text("二枚目"), tall, Text("違いは?"))),
        Message("assistant", (Text("が\u3099 と e\u0301 👩‍👩‍👧\n\n二行目。"),)),
        Message("user", (tall, small)),
        Message("assistant", (Text("縦長です。"),)),
    )
    return [*probes(), Conversation(turns, id="hard")]
