"""Llama's text models: the template as published, the pinned clock, one beginning of text."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError, InputError, RowError
from manako.core.example import Example, Pack
from manako.core.files import read_json, write_json
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.families._shared.render import Renderer
from manako.families._shared.template import PINNED_CLOCK, ChatTemplate
from manako.families._shared.tiny_llama import CHAT_TEMPLATE, START
from manako.families.llama import FAMILY
from manako.nn import attention
from manako.nn.adapters import attach
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "tiny"
    FAMILY.make_tiny(folder, seed=1, layers=3, initializer_range=0.1)
    return folder


def published(name: str) -> str:
    found = importlib.util.find_spec("trl")
    assert found
    assert found.submodule_search_locations
    file = Path(found.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja"
    return file.read_text(encoding="utf-8")


def talk(*turns: tuple[str, str], id: str = "row") -> Conversation:
    messages = tuple(Message(role, (Text(text),)) for role, text in turns)  # type: ignore[arg-type]
    return Conversation(messages, id=id)


ROWS = [
    talk(("user", "日本で一番高い山は?"), ("assistant", "富士山です。")),
    talk(("system", " あなたは親切な助手です。\n"), ("user", "a "), ("assistant", " b")),
    talk(
        ("user", "1+1は?"),
        ("assistant", "2"),
        ("user", "2024年12月31日の次の日は?"),
        ("assistant", "2025年1月1日です。"),
    ),
]


def inputs_of(folder: Path, examples: list[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, FAMILY.open(folder), device="cpu", dtype=torch.float32).inputs


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_our_rewritten_template_renders_like_the_published_one(
    row: Conversation, prompt: bool
) -> None:
    ours, theirs = (
        Renderer(ChatTemplate(source, bos=START))
        for source in (CHAT_TEMPLATE, published("llama3_1"))
    )
    assert ours.render(row, prompt=prompt).text == theirs.render(row, prompt=prompt).text


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_trained_are_the_words_and_the_end_of_turn(tiny: Path, row: Conversation) -> None:
    processor: Any = FAMILY.open(tiny)
    example = processor.encode(row)
    found = processor.tokenizer.decode(example.input_ids[example.trained].tolist())
    answers = [message.text.strip() for message in row.messages if message.is_trained]
    assert found == "".join(f"{answer}<|eot_id|>" for answer in answers)


def test_the_beginning_of_text_stands_once(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    begin = processor.tokenizer.id_of(START)
    assert processor.tokenizer.start_ids == (begin,)
    ids = processor.encode(ROWS[0]).input_ids
    assert ids[0] == begin
    assert (ids == begin).sum() == 1


@pytest.fixture
def dated(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint with the template of Llama 3.2, which asks for the day."""
    folder = tmp_path / "dated"
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").write_text(published("llama3_2"), encoding="utf-8")
    return folder


def test_a_template_that_asks_for_the_day_is_told_the_pinned_one(dated: Path) -> None:
    processor: Any = FAMILY.open(dated)
    text = processor.tokenizer.decode(processor.encode_prompt(ROWS[0]).input_ids.tolist())
    assert PINNED_CLOCK.startswith("2026-01-01")
    assert "Today Date: 01 Jan 2026\n" in text


def test_law_1_holds_on_any_day(dated: Path) -> None:
    assert Subject(dated).verdict(laws()[0]).state == "holds"


def test_packed_equals_one_by_one_with_long_and_short_conversations(tiny: Path) -> None:
    processor = FAMILY.open(tiny)
    rows = [*ROWS, talk(("user", "長い話。" * 60), ("assistant", "はい。" * 20)), *reversed(ROWS)]
    examples = [processor.encode(row) for row in rows]
    packed: Any = load_model(tiny, FAMILY)
    attention.use_segments(packed)
    alone: Any = load_model(tiny, FAMILY)
    with torch.no_grad():
        found = packed(**inputs_of(tiny, examples)).logits[0]
        singles = []
        for example in examples:
            inputs = inputs_of(tiny, [example])
            inputs = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
            singles.append(alone(**inputs).logits[0])
    expected = torch.cat(singles)
    # Sums in another order; the worst seen is 2e-6 of the spread.
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


def test_greedy_tokens_are_those_of_transformers_alone_and_in_a_batch(tiny: Path) -> None:
    from manako.infer.open import open_model

    prompts: list[Any] = [["日本"], ["1+1は?" * 20], ["hello"]]
    model = open_model(tiny)
    together = model.generate_batch(prompts, max_new_tokens=8)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    reference = LlamaForCausalLM.from_pretrained(tiny).eval()
    for prompt, reply in zip(prompts, together, strict=True):
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt[0]}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        answer = reference.generate(**asked, do_sample=False, max_new_tokens=8)
        answer = answer[0, asked["input_ids"].shape[1] :].tolist()
        assert list(reply.token_ids) == answer[: len(reply.token_ids)]
        assert model.generate_content(prompt, max_new_tokens=8).token_ids == reply.token_ids


@pytest.mark.slow
def test_trained_exported_and_asked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.export.safetensors import export
    from manako.infer.open import open_model
    from manako.train.loop import run_training

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with write_store(tmp_path / "data") as writer:
        for number in range(12):
            row = talk(("user", f"{number}は?"), ("assistant", f"{number}です"), id=f"row-{number}")
            writer.add(row_of(row))
    recipe = Recipe(
        model=str(tiny),
        data=(Source(path=str(tmp_path / "data")),),
        output_dir=str(tmp_path / "run"),
        train={"language": "lora 3e-3"},
        lora_r=2,
        pack_tokens=256,
        max_steps=3,
        dataloader_num_workers=0,
    )
    run = run_training(recipe)
    export(run.folder, tmp_path / "out", dtype="float32")
    asked = ["3は?"]
    merged = open_model(tmp_path / "out").generate_content(asked, max_new_tokens=8)
    adapted = open_model(run.folder).generate_content(asked, max_new_tokens=8)
    assert merged.token_ids == adapted.token_ids
    assert read_json(tmp_path / "out" / "config.json")["model_type"] == "llama"


def test_a_picture_is_refused_by_name(tiny: Path) -> None:
    turns = (Message("user", (Text("何?"), picture(32, 32))), Message("assistant", (Text("?"),)))
    with pytest.raises(RowError, match="text model and takes no pictures") as caught:
        FAMILY.open(tiny).encode(Conversation(turns, id="row"))
    assert caught.value.reason == "takes_no_images"
    with pytest.raises(InputError, match="takes no pictures"):
        FAMILY.image_tokens(100, 100, None)


def test_adapters_sit_on_the_language_model(tiny: Path) -> None:
    model = load_model(tiny, FAMILY)
    assert len(attach(model, FAMILY, ["language"], r=2, alpha=4)) == 3 * 7


def test_a_missing_template_is_named(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny, folder)
    settings = read_json(folder / "tokenizer_config.json")
    settings.pop("chat_template")
    write_json(folder / "tokenizer_config.json", settings)
    with pytest.raises(CheckpointError, match="no chat template"):
        FAMILY.open(folder)


def test_a_tied_head_is_left_out_of_the_weights(tmp_path: Path) -> None:
    """Llama 3.2 of 1B and 3B: one tensor for embedding and head."""
    FAMILY.make_tiny(tmp_path, tie_embeddings=True)
    verdict = Subject(tmp_path).verdict(laws()[8])
    assert verdict.state == "holds", verdict


def test_saved_text_files_open_again(tiny: Path, tmp_path: Path) -> None:
    processor = FAMILY.open(tiny)
    processor.save(tmp_path)
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(tiny / name, tmp_path / name)
    again = FAMILY.open(tmp_path).encode(ROWS[1])
    assert np.array_equal(again.input_ids, processor.encode(ROWS[1]).input_ids)
