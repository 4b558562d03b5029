"""Idefics3 and SmolVLM2 against transformers' own processors and TRL's copies of their templates."""

from __future__ import annotations

import importlib.resources
import io
import re
import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from transformers import AutoTokenizer
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import BatchError, CheckpointError, ImageError, RecipeError
from manako.core.example import Example, Pack
from manako.core.family import families, family_of
from manako.core.files import read_json, write_json
from manako.families._shared.sizes import image_tokens
from manako.families._shared.template import ChatTemplate
from manako.nn.adapters import attach
from manako.nn.attention import use_segments
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, picture, probes
from manako.verify.runner import laws

NAMES = ("idefics3", "smolvlm")
TEMPLATES = {"idefics3": "idefics3.jinja", "smolvlm": "smolvlm.jinja"}
SHAPES = ((56, 56), (120, 40), (45, 200), (1, 4000), (4000, 1), (168, 168), (1, 1))
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    kept: dict[tuple[str, bool], Path] = {}

    def make(name: str, *, split: bool = True) -> Path:
        if (name, split) not in kept:
            folder = tmp_path_factory.mktemp(name) / "tiny"
            changes = {"split": split, "initializer_range": 0.1}
            families().items[name].make_tiny(folder, seed=1, **changes)
            kept[name, split] = folder
        return kept[name, split]

    return make


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(made(name), tmp_path / name))

    return copy


def opened(folder: Path) -> Any:
    return family_of(folder).open(folder)


def asked(*content: Any, answer: str = "はい。") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))), id="row")


def pillow_of(image: Image) -> Any:
    return Pillow.open(io.BytesIO(image.data)).convert("RGB")


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, opened(folder), device="cpu", dtype=torch.float32).inputs


def settings_of(folder: Path) -> dict[str, Any]:
    named = ("image_processor_type", "processor_class")
    found = read_json(folder / "preprocessor_config.json")
    return {name: value for name, value in found.items() if name not in named}


def as_transformers(content: Sequence[Any]) -> list[dict[str, Any]]:
    parts = [
        {"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in content
    ]
    return [{"role": "user", "content": parts}]


PROMPTS: tuple[tuple[Any, ...], ...] = (
    (picture(56, 56), "数字は何ですか。"),
    ("before", picture(120, 40), "次は", picture(45, 200), "<b>"),
    (picture(30, 31), picture(100, 99), " blank first"),
    (picture(4000, 1), picture(1, 4000)),
    ("no picture",),
)


@pytest.mark.parametrize("split", [True, False], ids=["tiles", "whole"])
def test_prompts_are_those_of_the_processor(made: Made, split: bool) -> None:
    """Ids equal; pixels to the last bits of a float32 division."""
    folder = made("idefics3", split=split)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(**settings_of(folder)),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
    )
    for content in PROMPTS:
        example = opened(folder).encode_prompt(Conversation.of(list(content)))
        pictures = [pillow_of(part) for part in content if not isinstance(part, str)]
        text = tokenizer.apply_chat_template(
            as_transformers(content), add_generation_prompt=True, tokenize=False
        )
        found = reference(
            text=text, images=[pictures] if pictures else None, add_special_tokens=False
        )
        assert example.input_ids.tolist() == found["input_ids"][0]
        if pictures:
            ours = inputs_of(folder, [opened(folder).encode(asked(*content))])["pixel_values"]
            np.testing.assert_allclose(ours.numpy(), found["pixel_values"], atol=2e-7)
            # Tiles are never padded, which is why no mask of them is sent.
            assert np.asarray(found["pixel_attention_mask"]).all()


@pytest.mark.parametrize("split", [True, False], ids=["tiles", "whole"])
def test_smolvlm_writes_and_cuts_as_its_processor(made: Made, split: bool) -> None:
    """Its whole processor needs torchvision and num2words, so its two halves are compared."""
    folder = made("smolvlm", split=split)
    reference: Any = SmolVLMImageProcessorPil(**settings_of(folder))
    processor = opened(folder)
    written: Any = get_image_prompt_string
    for size in SHAPES:
        image = picture(*size)
        found = reference([[pillow_of(image)]], return_row_col_info=True)
        expected = written(
            found["rows"][0][0],
            found["cols"][0][0],
            4,
            fake_token_around_image="<fake_token_around_image>",
            image_token="<image>",
            global_image_token="<global-img>",
        )
        example = processor.encode(asked(image))
        assert expected in "".join(processor.tokenizer.decode(example.input_ids.tolist()))
        ours = inputs_of(folder, [example])["pixel_values"]
        np.testing.assert_allclose(ours.numpy(), found["pixel_values"], atol=2e-7)


SIDES = (1, 2, 13, 55, 56, 57, 168, 169, 4000)


@pytest.mark.parametrize("name", NAMES)
def test_image_tokens_are_those_of_the_rule(made: Made, name: str) -> None:
    """81 sizes by the published settings, and in the ids themselves by the tiny ones."""
    processor = opened(made(name))
    published = {"tile": 384, "longest": 1536, "tile_tokens": 81}
    tiny = {"tile": 56, "longest": 168, "tile_tokens": 4}
    for width, height in product(SIDES, SIDES):
        cost = processor.with_settings(**published).cost(width, height)
        assert cost.tokens == image_tokens("idefics3", width, height, published)
        if max(width, height) < 200:
            ids = processor.encode(asked(picture(width, height))).input_ids
            expected = image_tokens("idefics3", width, height, tiny)
            assert (ids == processor.image_token_id).sum() == expected


def test_a_picture_too_narrow_for_a_tile_is_refused(made: Made) -> None:
    """49 × (1 / 49) is below 1, so no column is left; the reference would resize to a width of 0."""
    processor = opened(made("idefics3")).with_settings(tile=49, longest=49)
    with pytest.raises(ImageError, match="too narrow") as caught:
        processor.cost(1, 49)
    assert caught.value.reason == "size"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt", [True, False])
def test_the_template_renders_as_the_published_one(made: Made, name: str, prompt: bool) -> None:
    files = importlib.resources.files("trl") / "chat_templates"
    published = ChatTemplate((files / TEMPLATES[name]).read_text(encoding="utf-8"))
    ours = opened(made(name)).maker.renderer.template
    for probe in probes():
        messages = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part.text}
                    if isinstance(part, Text)
                    else {"type": "image"}
                    for part in message.content
                ],
            }
            for message in probe.messages
        ]
        assert ours.render(messages, add_generation_prompt=prompt) == published.render(
            messages, add_generation_prompt=prompt
        )


@pytest.mark.parametrize("name", NAMES)
def test_trained_is_what_trl_marks_but_for_the_line_end(made: Made, name: str) -> None:
    """TRL also trains the line end after the end of turn, which the model need not write."""
    files = importlib.resources.files("trl") / "chat_templates"
    source = (files / TEMPLATES[name].replace(".", "_training.")).read_text(encoding="utf-8")
    marked = source.replace("{% generation %}", "{{ '\ufdd0' }}")
    template = ChatTemplate(marked.replace("{% endgeneration %}", "{{ '\ufdd1' }}"))
    processor = opened(made(name))
    for probe in probes():
        messages = [processor.maker.renderer._message(m.role, _parts(m)) for m in probe.messages]
        shown = template.render(messages, add_generation_prompt=False)
        expected = [
            found.removesuffix("\n") for found in re.findall("\ufdd0(.*?)\ufdd1", shown, re.DOTALL)
        ]
        example = processor.encode(probe)
        runs = np.flatnonzero(np.diff(np.r_[0, example.trained.astype(np.int8), 0])).reshape(-1, 2)
        ids = example.input_ids.tolist()
        assert [processor.tokenizer.decode(ids[a:b]) for a, b in runs] == expected


def _parts(message: Message) -> list[Any]:
    return [part.text if isinstance(part, Text) else part for part in message.content]


@pytest.mark.parametrize("name", NAMES)
def test_marks_of_tiles_belong_to_the_picture_and_are_not_trained(made: Made, name: str) -> None:
    processor = opened(made(name))
    example = processor.encode(asked("先", picture(168, 100), "後"))
    (image,) = example.images
    span = slice(image.start, image.start + image.tokens)
    assert not example.trained[span].any()
    text = processor.tokenizer.decode(example.input_ids[span].tolist())
    assert text.startswith("<image>")
    assert text.endswith("<image>")
    assert re.findall(r"<row_\d_col_\d>|<global-img>|\n+", text) == [
        *("<row_1_col_2>", "<row_1_col_3>", "\n"),
        *("<row_2_col_1>", "<row_2_col_2>", "<row_2_col_3>", "\n\n", "<global-img>"),
    ]
    is_one_token = processor.tokenizer.id_of("<row_1_col_1>") is not None
    assert is_one_token == (name == "smolvlm")


def test_a_mark_of_a_tile_that_a_person_spells_stays_text(made: Made) -> None:
    processor = opened(made("smolvlm"))
    mark = processor.tokenizer.id_of("<row_1_col_1>")
    counts = [
        int((processor.encode(asked(picture(168, 168), words)).input_ids == mark).sum())
        for words in ("", "<row_1_col_1>")
    ]
    assert counts == [1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_blank_before_an_answer_is_written_by_the_model_and_cut_from_its_words(
    made: Made, name: str
) -> None:
    processor = opened(made(name))
    for answer in ("yes", "  two blanks more", "はい\n"):
        example = processor.encode(asked("?", answer=answer))
        start = int(np.flatnonzero(example.trained)[0])
        written = processor.tokenizer.decode(example.input_ids[start:].tolist())
        assert written.startswith(f" {answer}<end_of_utterance>")
        assert processor.parse(example.input_ids[start:].tolist()).text == answer
    assert processor.parse(processor.tokenizer.encode("no blank")[0]).text == "no blank"


@pytest.mark.parametrize("name", NAMES)
def test_packed_equals_one_by_one_with_pictures_of_every_shape(made: Made, name: str) -> None:
    folder = made(name)
    processor = opened(folder)
    rows = [asked(picture(*size), "何?") for size in SHAPES] + [asked("text only")]
    rows += [asked("a", picture(56, 57), "b", picture(9, 400), picture(20, 20)), asked("again")]
    examples = [processor.encode(row) for row in rows]
    packed: Any = load_model(folder, family_of(folder))
    use_segments(packed)
    alone: Any = load_model(folder, family_of(folder))
    with torch.no_grad():
        found = packed(**inputs_of(folder, examples)).logits[0]
        singles = []
        for example in examples:
            inputs = inputs_of(folder, [example])
            inputs = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
            singles.append(alone(**inputs).logits[0])
    expected = torch.cat(singles)
    # Sums in another order; the worst seen is 2e-6 of the spread.
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_transformers_is_silent_without_pixels_and_we_are_not(made: Made, name: str) -> None:
    folder = made(name)
    inputs = inputs_of(folder, [opened(folder).encode(asked(picture(56, 56)))])
    inputs.pop("segments")
    model: Any = load_model(folder, family_of(folder))
    with torch.no_grad():
        right = model(**inputs).logits
        inputs.pop("pixel_values")
        silent = model(**inputs).logits
    assert float((right - silent).abs().max() / right.std()) > 0.01
    arrays = {name: value.numpy() for name, value in inputs.items() if torch.is_tensor(value)}
    with pytest.raises(BatchError, match="pixel_values"):
        opened(folder).require(arrays)


def test_names_that_vision_and_language_share_are_kept_apart(made: Made) -> None:
    folder = made("idefics3")
    family = family_of(folder)
    for part, count in (("vision", 2 * 6), ("projector", 1), ("language", 2 * 7)):
        model: Any = load_model(folder, family)
        names = attach(model, family, [part], r=2, alpha=4)  # type: ignore[list-item]
        assert len(names) == count
    bare = {n for n, _ in load_model(folder, family).named_modules() if n.endswith(".q_proj")}
    assert {family.part_of(name) for name in bare} == {"vision", "language"}


@pytest.mark.parametrize("name", NAMES)
def test_max_pixels_set_the_longest_side(made: Made, name: str, tmp_path: Path) -> None:
    """And the processor that is saved makes the same of a picture, in transformers too."""
    folder = made(name)
    processor = opened(folder)
    for pixels, longest in ((56**2, 56), (112**2 - 1, 56), (112**2, 112), (300**2, 280)):
        limited = processor.with_pixel_limits(max_pixels=pixels)
        assert limited.settings.longest == longest
        settings = {"tile": 56, "longest": longest, "tile_tokens": 4}
        for size in SHAPES:
            assert limited.cost(*size).tokens == image_tokens("idefics3", *size, settings)
            predicted = family_of(folder).image_tokens(*size, limited.settings)
            assert limited.measure(asked(picture(*size))).image_tokens == predicted
    shutil.copy(folder / "config.json", tmp_path)
    limited.save(tmp_path)
    assert opened(tmp_path).fingerprint["images"] == limited.fingerprint["images"]
    reference: Any = Idefics3ImageProcessorPil(**settings_of(tmp_path))
    found = reference([[pillow_of(picture(120, 40))]])["pixel_values"]
    ours = limited.model_inputs(
        Pack(examples=(limited.encode(asked(picture(120, 40))),), pack_tokens=1)
    )
    assert ours["pixel_values"].shape == np.asarray(found).shape


def test_limits_that_mean_nothing_here_are_refused(made: Made) -> None:
    processor = opened(made("idefics3"))
    assert processor.with_pixel_limits() is processor
    with pytest.raises(RecipeError, match="same longest side"):
        processor.with_pixel_limits(min_pixels=1)
    with pytest.raises(RecipeError, match="at least 3136"):
        processor.with_pixel_limits(max_pixels=56**2 - 1)


def test_a_first_smolvlm_is_read_as_idefics3(copied: Made) -> None:
    """SmolVLM-Instruct has Idefics3's model type with SmolLM's tokenizer and template."""
    folder = copied("smolvlm")
    config = read_json(folder / "config.json")
    config["vision_config"]["model_type"] = "idefics3"
    changes = {"model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"]}
    write_json(folder / "config.json", {**config, **changes})
    assert opened(folder).family == "idefics3"
    subject = Subject(folder)
    for law in (1, 2, 3, 7):
        assert subject.verdict(laws()[law - 1]).state == "holds"


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("processor_config.json", {"image_seq_len": 169}, "image_seq_len 169"),
        ("preprocessor_config.json", {"max_image_size": {"longest_edge": 70}}, "max_image_size 70"),
        ("preprocessor_config.json", {"resample": 3}, "resample 3"),
        ("preprocessor_config.json", {"do_rescale": False}, "switches off do_rescale"),
        ("config.json", {"image_token_id": 9999}, "token 9999"),
    ],
)
def test_files_that_contradict_each_other_are_named(
    copied: Made, file: str, changes: dict[str, Any], said: str
) -> None:
    folder = copied("idefics3")
    write_json(folder / file, {**read_json(folder / file), **changes})
    with pytest.raises(CheckpointError, match=said):
        opened(folder)


def test_the_number_of_vectors_is_the_models_where_no_file_says_it(copied: Made) -> None:
    folder = copied("smolvlm")
    (folder / "processor_config.json").unlink()
    assert opened(folder).settings.tile_tokens == 4


def test_picture_settings_may_lie_inside_the_processors_file(copied: Made, tmp_path: Path) -> None:
    folder = copied("smolvlm")
    settings = read_json(folder / "preprocessor_config.json")
    (folder / "preprocessor_config.json").unlink()
    file = folder / "processor_config.json"
    write_json(file, {**read_json(file), "image_processor": settings})
    limited = opened(folder).with_pixel_limits(max_pixels=112**2)
    target = tmp_path / "saved"
    target.mkdir()
    shutil.copy(folder / "config.json", target)
    limited.save(target)
    assert opened(target).settings == limited.settings
    assert read_json(target / "processor_config.json")["image_seq_len"] == 4
