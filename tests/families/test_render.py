"""Words marked in place, on the published templates that TRL's package carries."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.core.conversation import Conversation, Image, Message
from manako.core.errors import RowError, TemplateError
from manako.families._shared.render import Renderer
from manako.families._shared.template import ChatTemplate

PICTURE = Image(b"not decoded here")
VISION_TEMPLATES = ("qwen2_5_vl", "qwen3_vl", "gemma3", "smolvlm", "idefics3", "llava_next")
TEXT_TEMPLATES = ("llama3_1", "qwen2_5", "qwen3", "phi3", "gemma")


def published(name: str) -> Renderer:
    import trl

    file = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    return Renderer(ChatTemplate(file.read_text(encoding="utf-8"), bos="<s>", eos="</s>"))


def conversation(*turns: tuple[str, list[object]]) -> Conversation:
    return Conversation(tuple(Message(role, tuple(parts)) for role, parts in turns), id="row")  # type: ignore[arg-type]


WORDS = st.text(
    alphabet=st.sampled_from("abcあ漢🍣é\u0301\u3000 \n\t<|im_end|>_{}%'\"\\"),
    min_size=1,
    max_size=24,
).filter(lambda text: bool(text.strip()))


@st.composite
def dialogues(draw: st.DrawFn, *, pictures: bool) -> Conversation:
    turns: list[tuple[str, list[object]]] = []
    for _ in range(draw(st.integers(1, 3))):
        question: list[object] = [draw(WORDS)]
        if pictures and draw(st.booleans()):
            question.insert(0, PICTURE)
        turns += [("user", question), ("assistant", [draw(WORDS)])]
    return conversation(*turns)


@pytest.mark.parametrize("name", VISION_TEMPLATES + TEXT_TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_spans_hold_exactly_the_words(name: str, data: st.DataObject) -> None:
    renderer = published(name)
    row = data.draw(dialogues(pictures=name in VISION_TEMPLATES))
    try:
        rendering = renderer.render(row)
    except (RowError, TemplateError):
        assert name == "llava_next" or "gemma" in name  # the ones that drop or refuse by design
        return
    found = [rendering.text[span.start : span.end] for span in rendering.spans]
    words = [part.text.strip() for m in row.messages for part in m.content if hasattr(part, "text")]
    assert sorted(found) == sorted(words)
    for index in range(len(row.messages)):
        of_turn = "".join(rendering.text[s.start : s.end] for s in rendering.of_message(index))
        assert of_turn == row.messages[index].text.strip()


def test_the_text_is_the_templates_own(tiny_qwen: Path) -> None:
    row = conversation(("user", [PICTURE, " 質問 "]), ("assistant", ["答え"]))
    renderer = published("qwen2_5_vl")
    assert renderer.render(row).text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|> 質問 <|im_end|>\n"
        "<|im_start|>assistant\n答え<|im_end|>\n"
    )


@pytest.mark.parametrize("prompt", [True, False])
def test_our_rewritten_template_renders_like_the_published_one(prompt: bool) -> None:
    from manako.families._shared.tiny_qwen import CHAT_TEMPLATE

    ours, theirs = Renderer(ChatTemplate(CHAT_TEMPLATE)), published("qwen2_5_vl")
    rows = [
        conversation(("system", ["s"]), ("user", [PICTURE, "a", PICTURE, "b"])),
        conversation(("user", ["a "]), ("assistant", [" b\n"]), ("user", ["c"])),
    ]
    for row in rows:
        assert ours.render(row, prompt=prompt).text == theirs.render(row, prompt=prompt).text


def test_thinking_inside_the_last_answer_keeps_its_tags() -> None:
    row = conversation(("user", ["q"]), ("assistant", ["<think>\nreason\n</think>\n\nanswer"]))
    rendering = published("qwen3").render(row)
    found = [rendering.text[s.start : s.end] for s in rendering.of_message(1)]
    assert found == ["reason", "answer"]


def test_earlier_thinking_that_the_template_drops_is_reported() -> None:
    row = conversation(
        ("user", ["q"]),
        ("assistant", ["<think>\nreason\n</think>\n\nfirst"]),
        ("user", ["again"]),
        ("assistant", ["second"]),
    )
    rendering = published("qwen3").render(row)
    assert rendering.notes == ("thinking left out by the template",)
    assert "reason" not in rendering.text


def test_a_dropped_turn_is_refused_with_its_role() -> None:
    template = (
        "{% for m in messages if m.role != 'system' %}{{ m.role }}:{{ m.content }}{% endfor %}"
    )
    row = conversation(("system", ["be kind"]), ("user", ["hi"]), ("assistant", ["yo"]))
    with pytest.raises(RowError, match=r"leaves the words out of turn 0 \(system\): 'be kind'"):
        Renderer(ChatTemplate(template)).render(row)


def test_changed_words_are_refused() -> None:
    template = "{% for m in messages %}{{ m.role }}:{{ m.content | upper }}{% endfor %}"
    row = conversation(("user", ["hi"]), ("assistant", ["yo"]))
    with pytest.raises(RowError, match="changes the words"):
        Renderer(ChatTemplate(template)).render(row)


def test_private_use_characters_in_a_row_are_no_marks() -> None:
    row = conversation(("user", ["a\ue000\ue002\ue001b"]), ("assistant", ["\ue010"]))
    rendering = published("qwen2_5_vl").render(row)
    assert [rendering.text[s.start : s.end] for s in rendering.spans] == [
        "a\ue000\ue002\ue001b",
        "\ue010",
    ]
