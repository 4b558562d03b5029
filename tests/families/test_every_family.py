"""What every family does alike: generation as transformers', adapters, files that are wrong, training."""

from __future__ import annotations

import copy as copies
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import manako
from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import AdapterError, CheckpointError, RecipeError, RowError
from manako.core.example import Example, Pack
from manako.core.family import PARTS, Family, PartName, families, family_of
from manako.core.files import read_json, write_json
from manako.core.recipe import Recipe, Source
from manako.core.row import row_of
from manako.data.writer import write_store
from manako.nn import adapters
from manako.nn.batch import to_tensors
from manako.nn.checkpoint import fingerprint, load_model, weight_files
from manako.verify._subject import picture, probes

FAMILIES = sorted(families().items)
SEEING = [name for name in FAMILIES if families().items[name].takes_images]
TEXT_ONLY = [name for name in FAMILIES if name not in SEEING]
PARTED = [
    (name, part) for name in FAMILIES for part in PARTS if part in families().items[name].parts
]
NEW_TOKENS = 6
Lively = Callable[[str], Path]


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Lively:
    """Tiny checkpoints whose matrices are wide enough apart that answers vary."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("lively") / name
            families().items[name].make_tiny(folder, seed=3)
            for file in weight_files(folder):
                weights = load_file(file)
                wide = {k: v * 4 if v.ndim > 1 else v for k, v in weights.items()}
                save_file(wide, file, metadata={"format": "pt"})
            made[name] = folder
        return made[name]

    return make


@pytest.fixture
def copy(lively: Lively, tmp_path: Path) -> Lively:
    """A copy that a test may break."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(lively(name), tmp_path / name))

    return make


def asked_of(family: Family) -> list[list[Any]]:
    """Prompts that differ in length and in what they show."""
    if not family.takes_images:
        return [["やあ"], ["What is this?", "これは何ですか。"], ["ok"]]
    small, wide = picture(56, 56), picture(120, 40)
    return [
        [small, "画像を説明してください。"],
        ["what", wide, "次は", small, "違いを説明して"],
        ["絵のない問い"],
    ]


def pack_of(*examples: Example) -> Pack:
    return Pack(examples=examples, pack_tokens=sum(example.tokens for example in examples))


def inputs_of(folder: Path, example: Example) -> dict[str, Any]:
    processor = family_of(folder).open(folder)
    arrays = processor.model_inputs(pack_of(example))
    return dict(to_tensors(arrays, processor.pixel_rule, device="cpu", dtype=torch.float32))


def logits_of(model: Any, folder: Path, conversation: Conversation) -> torch.Tensor:
    example = family_of(folder).open(folder).encode(conversation)
    with torch.no_grad():
        found: torch.Tensor = model(**inputs_of(folder, example), use_cache=False).logits[0].float()
    return found


def probe_of(family: Family) -> Conversation:
    """Several pictures between texts; for a text model, several turns."""
    return next(
        probe
        for probe in probes()
        if (len(probe.images) > 1) == family.takes_images
        and (probe.images or family.takes_images is False)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_answers_are_those_of_transformers(name: str, lively: Lively) -> None:
    folder = lively(name)
    family = family_of(folder)
    ours = manako.load(folder)
    reference: Any = load_model(folder, family)
    for content in asked_of(family):
        example = ours.processor.encode_prompt(Conversation.of(content))
        inputs = inputs_of(folder, example)
        inputs.pop("position_ids")
        ids = reference.generate(
            **inputs,
            attention_mask=torch.ones_like(inputs["input_ids"]),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=list(ours.processor.end_ids),
            pad_token_id=0,
        )[0, example.tokens :].tolist()
        reply = ours.generate_content(content, max_new_tokens=NEW_TOKENS)
        assert list(reply.token_ids) == ids[: len(reply.token_ids)]
        assert len(reply.token_ids) == NEW_TOKENS or reply.finish_reason == "stop"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_answers_as_its_prompts_do_alone(name: str, lively: Lively) -> None:
    model = manako.load(lively(name))
    prompts = asked_of(family_of(lively(name)))
    together = model.generate_batch(prompts, max_new_tokens=NEW_TOKENS)
    alone = [model.generate_content(prompt, max_new_tokens=NEW_TOKENS) for prompt in prompts]
    assert [reply.token_ids for reply in together] == [reply.token_ids for reply in alone]


@pytest.mark.parametrize(("name", "part"), PARTED)
def test_an_adapter_is_saved_loaded_and_merged_without_a_change(
    name: str, part: PartName, lively: Lively, tmp_path: Path
) -> None:
    folder = lively(name)
    family = family_of(folder)
    if part not in family.adapter_targets:
        with pytest.raises(AdapterError, match=f"no adapters for the {part} part"):
            adapters.find_targets(load_model(folder, family), family, part)
        return
    probe = probe_of(family)
    base = logits_of(load_model(folder, family), folder, probe)
    model: Any = load_model(folder, family)
    adapters.attach(model, family, [part], r=4, alpha=8, dropout=0.0)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    model.train(False)
    adapted = logits_of(model, folder, probe)
    assert not torch.allclose(adapted, base, atol=1e-4)
    tmp_path.joinpath("adapter").mkdir()
    adapters.save(
        model, family, tmp_path / "adapter", base=folder, base_fingerprint=fingerprint(folder)
    )
    fresh: Any = load_model(folder, family)
    adapters.load(fresh, tmp_path / "adapter", base=folder)
    fresh.train(False)
    assert torch.equal(logits_of(fresh, folder, probe), adapted)
    merged = logits_of(adapters.merge(fresh), folder, probe)
    # One product instead of two: sums in another order.
    assert float((merged - adapted).abs().max() / adapted.std()) < 1e-4


@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_that_does_nothing_or_fits_nowhere_is_refused(
    name: str, lively: Lively, tmp_path: Path
) -> None:
    folder = lively(name)
    family = family_of(folder)
    model: Any = load_model(folder, family)
    adapters.attach(model, family, ["language"], r=2, alpha=4, dropout=0.0)
    inert = tmp_path / "inert"
    inert.mkdir()
    adapters.save(model, family, inert, base=folder, base_fingerprint=fingerprint(folder))
    with pytest.raises(AdapterError, match="changes nothing"):
        manako.load(folder, adapter=inert)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(inert, elsewhere)
    tensors = load_file(elsewhere / adapters.ADAPTER)
    renamed = {key.replace(".layers.", ".blocks_of_old."): value for key, value in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, elsewhere / adapters.ADAPTER, metadata={"format": "pt"})
    with pytest.raises(AdapterError, match="blocks_of_old"):
        manako.load(folder, adapter=elsewhere)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_that_are_missing_or_left_over_are_named(name: str, copy: Lively) -> None:
    folder = copy(name)
    file = weight_files(folder)[0]
    weights = load_file(file)
    lost = min(key for key in weights if "layers.0" in key and key.endswith("weight"))
    kept = {key: value for key, value in weights.items() if key != lost}
    kept["left.over"] = torch.zeros(1)
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 missing.*1 unexpected: (\w+\.)?left\.over"):
        load_model(folder, family_of(folder))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_processor_that_was_saved_or_sent_is_the_same(
    name: str, lively: Lively, tmp_path: Path
) -> None:
    family = family_of(lively(name))
    processor = family.open(lively(name))
    processor.save(tmp_path)
    for file in lively(name).rglob("*config.json"):
        if file.name in ("config.json", "generation_config.json"):
            place = tmp_path / file.relative_to(lively(name))
            place.parent.mkdir(exist_ok=True)
            shutil.copy(file, place)
    again = family.open(tmp_path)
    sent = copies.deepcopy(processor)  # as a worker process gets it
    assert again.fingerprint == sent.fingerprint == processor.fingerprint
    expected = processor.encode(probe_of(family))
    for other in (again, sent):
        found = other.encode(probe_of(family))
        assert np.array_equal(found.input_ids, expected.input_ids)
        pairs = zip(found.images, expected.images, strict=True)
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in pairs)


@pytest.mark.parametrize("name", SEEING)
def test_processor_files_that_are_missing_are_named(name: str, copy: Lively) -> None:
    folder = copy(name)
    for file in folder.rglob("*processor_config.json"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        family_of(folder).open(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_tokenizer_files_that_disagree_are_refused(name: str, copy: Lively) -> None:
    folder = copy(name)
    file = family_of(folder).text_folder(folder) / "tokenizer_config.json"
    settings = read_json(file)
    added = settings["added_tokens_decoder"]
    token_id, entry = next(iter(added.items()))
    settings["added_tokens_decoder"] = {**added, str(int(token_id) + 1): entry}
    write_json(file, settings)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json gives"):
        family_of(folder).open(folder)


@pytest.mark.parametrize("name", SEEING)
def test_a_template_without_a_rule_for_pictures_is_named(name: str, copy: Lively) -> None:
    folder = copy(name)
    family = family_of(folder)
    end = family.open(folder).token_texts([family.open(folder).end_ids[0]])[0]
    template = (
        "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}"
        "{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
        f"{end}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    texts = family.text_folder(folder)
    for file in ("chat_template.json", "chat_template.jinja"):
        (texts / file).unlink(missing_ok=True)
    settings = read_json(texts / "tokenizer_config.json")
    write_json(texts / "tokenizer_config.json", {**settings, "chat_template": template})
    with pytest.raises(RowError) as caught:
        family.open(folder).encode(probe_of(family))
    assert caught.value.reason == "no_image_token"
    assert "template" in caught.value.next_step


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_a_picture_given_to_a_text_model_is_a_clear_error(name: str, lively: Lively) -> None:
    with pytest.raises(RowError, match="takes no pictures") as caught:
        manako.load(lively(name)).generate_content([picture(56, 56), "?"])
    assert caught.value.reason == "takes_no_images"


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_a_recipe_that_says_nothing_of_parts_trains_a_text_model(name: str, lively: Lively) -> None:
    from manako.train.parts import prepare_parts

    family = family_of(lively(name))
    recipe = Recipe(model=str(lively(name)), data=(Source(path="rows"),), output_dir="")
    parts = prepare_parts(load_model(lively(name), family), family, recipe)
    assert parts["language"].trained == parts["language"].parameters > 0
    assert parts["projector"].parameters == parts["vision"].parameters == 0
    asked = recipe.replace(train={"language": "1e-5", "projector": "1e-4"})
    with pytest.raises(RecipeError, match="has no projector part"):
        prepare_parts(load_model(lively(name), family), family, asked)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_recipe_trains_it_with_adapters_and_the_run_answers(
    name: str, lively: Lively, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.train.loop import run_training

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    family = family_of(lively(name))
    with write_store(tmp_path / "data") as writer:
        for number in range(6):
            seen = (picture(40 + 9 * number, 56),) if family.takes_images and number % 3 else ()
            asked = Message("user", (*seen, Text(f"{number}?")))
            turns = (asked, Message("assistant", (Text(f"{number}番です"),)))
            writer.add(row_of(Conversation(turns, id=f"row/{number}")))
    longest = max(family.open(lively(name)).measure(row).tokens for row in (probe_of(family),))
    recipe = Recipe(
        model=str(lively(name)),
        data=(Source(path=str(tmp_path / "data")),),
        output_dir=str(tmp_path / "run"),
        method="lora",
        train={"language": "lora 1e-2"},
        pack_tokens=2 * longest + 64,
        global_batch_packs=1,
        max_steps=2,
        dataloader_num_workers=0,
    )
    outcome = run_training(recipe)
    assert outcome.state == "finished"
    reply = manako.load(tmp_path / "run").generate_content(["?"], max_new_tokens=2)
    assert reply.token_ids
