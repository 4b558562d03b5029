"""Videos of SmolVLM2 against transformers' own code, and what is refused."""

from __future__ import annotations

import copy as copies
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration
from transformers.models.smolvlm import processing_smolvlm
from transformers.video_utils import VideoMetadata

from manako.core.conversation import Conversation, Message, Text, Video
from manako.core.errors import BatchError, CheckpointError, ImageError
from manako.core.example import Example, Pack
from manako.core.family import families
from manako.core.files import read_json, write_json
from manako.families._shared import idefics
from manako.families._shared.lanczos import TORCH_OPERATOR, by_arithmetic, resize_torch_lanczos
from manako.families._shared.smolvlm_video import cut_frames, number_words, video_text
from manako.families._shared.template import ChatTemplate
from manako.nn import attention
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, film, picture
from manako.verify.golden.pictures import moving_pattern
from manako.verify.runner import laws

FAMILY = families().items["smolvlm"]
FILMS = ((56, 56, 4, 0.5), (84, 40, 5, 1.3), (30, 120, 1, 0.25), (64, 64, 9, 40.0))
"""(width, height, frames, seconds from frame to frame)."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films") / "smolvlm"
    FAMILY.make_tiny(folder, seed=1, initializer_range=0.1)
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "smolvlm"))


def films() -> list[Video]:
    return [film(w, h, frames, seconds=s) for w, h, frames, s in FILMS]


def asked(*content: Any) -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    answer = Message("assistant", (Text("はい。"),))
    return Conversation((Message("user", parts), answer), id="row")


def rows() -> list[Conversation]:
    mixed = asked("前", picture(64, 40), films()[1], "中", films()[2], picture(90, 40), "後")
    return [
        *[asked(each, "何?") for each in films()],
        asked("hello"),
        mixed,
        asked(picture(56, 56), "?"),
    ]


def opened(folder: Path) -> Any:
    return FAMILY.open(folder)


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, opened(folder), device="cpu", dtype=torch.float32).inputs


def own_inputs(folder: Path, example: Example) -> dict[str, Any]:
    """What transformers' own call gets: no segments, no positions of ours."""
    left_out = ("segments", "position_ids", "logits_to_keep")
    return {k: v for k, v in inputs_of(folder, [example]).items() if k not in left_out}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (1, "one"),
        (13, "thirteen"),
        (20, "twenty"),
        (64, "sixty-four"),
        (100, "one hundred"),
        (101, "one hundred and one"),
        (128, "one hundred and twenty-eight"),
        (999, "nine hundred and ninety-nine"),
        (1000, "one thousand"),
        (1001, "one thousand and one"),
        (2345, "two thousand, three hundred and forty-five"),
        (100_020, "one hundred thousand and twenty"),
        (
            999_999,
            "nine hundred and ninety-nine thousand, nine hundred and ninety-nine",
        ),
    ],
)
def test_numbers_are_written_as_num2words_writes_them(number: int, words: str) -> None:
    """The expected words are those that num2words 0.5.14 gave."""
    assert number_words(number) == words


def test_a_number_without_words_is_an_error() -> None:
    with pytest.raises(ImageError, match="1000000 frames is too long"):
        number_words(1_000_000)


@pytest.mark.parametrize(("frames", "fps"), [(1, 2.0), (3, 1.0), (20, 0.7), (64, 0.01), (9, 30.0)])
def test_the_text_of_a_video_is_that_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, frames: int, fps: float
) -> None:
    monkeypatch.setattr(processing_smolvlm, "num2words", number_words)
    processor: Any = SimpleNamespace(
        image_seq_len=1,
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
    )
    seen = VideoMetadata(total_num_frames=frames, fps=fps, frames_indices=list(range(frames)))
    expected = processing_smolvlm.SmolVLMProcessor.replace_video_token(
        processor, {"pixel_values": np.zeros((1, frames)), "video_metadata": [seen]}, 0
    )
    assert video_text([number / fps for number in range(frames)], idefics.ONE_TILE) == expected


@pytest.mark.parametrize("is_told", [True, False])
def test_a_prompt_is_what_the_reference_s_template_and_processor_make(
    tiny: Path, copied: Path, is_told: bool
) -> None:
    """The published template has no rule for a video; the reference's has one. Either way the
    tokens are the same."""
    source = processing_smolvlm.DEFAULT_CHAT_TEMPLATE
    if is_told:
        write_json(copied / "chat_template.json", {"chat_template": source})
    processor = copies.deepcopy(opened(copied))  # as a worker gets it
    assert (processor.maker.renderer.video_text is None) == is_told
    video = films()[1]
    conversation = Conversation.of([video, "a", picture(56, 56), "何?"])
    parts = [{"type": kind} for kind in ("video", "image")]
    texts = [{"type": "text", "text": text} for text in ("a", "何?")]
    message = {"role": "user", "content": [parts[0], texts[0], parts[1], texts[1]]}
    rendered = ChatTemplate(source).render([message], add_generation_prompt=True)
    text = rendered.replace("<image>", idefics.ONE_TILE, 1).replace(
        "<video>", video_text(video.times, idefics.ONE_TILE), 1
    )
    text = text.replace("<image>", "<image>" * processor.settings.tile_tokens)
    expected = AutoTokenizer.from_pretrained(tiny)(text, add_special_tokens=False)["input_ids"]
    plain = opened(tiny).with_settings(split=False)
    assert plain.encode_prompt(conversation).input_ids.tolist() == expected
    again = processor.with_settings(split=False).encode_prompt(conversation)
    assert again.input_ids.tolist() == expected


def test_a_video_mark_that_a_person_spells_stays_text(tiny: Path) -> None:
    processor = opened(tiny)
    spelled = asked(films()[0], "read <video> and <image>")
    example = processor.encode(spelled)
    places = int((example.input_ids == processor.image_token_id).sum())
    assert places == len(films()[0].frames) * processor.settings.tile_tokens
    assert "<video>" in processor.tokenizer.decode(example.input_ids.tolist())


def test_pictures_and_frames_stand_in_the_order_of_their_tokens(tiny: Path) -> None:
    processor = opened(tiny)
    video, first, last = films()[1], picture(64, 40), picture(40, 90)
    example = processor.encode(asked(first, video, last))
    pixels = inputs_of(tiny, [example])["pixel_values"][0]
    alone = [
        inputs_of(tiny, [processor.encode(asked(each))])["pixel_values"][0]
        for each in (first, video, last)
    ]
    assert torch.equal(pixels, torch.cat(alone))
    spans = [slice(image.start, image.start + image.tokens) for image in example.images]
    counts = [int((example.input_ids[s] == processor.image_token_id).sum()) for s in spans]
    assert counts == [len(each) * processor.settings.tile_tokens for each in alone]


def test_packed_equals_one_by_one(tiny: Path) -> None:
    """Films of every length beside pictures and text alone."""
    examples = [opened(tiny).encode(row) for row in rows()]
    packed = load_model(tiny, FAMILY)
    attention.use_segments(packed)
    alone: Any = load_model(tiny, FAMILY)
    with torch.no_grad():
        found = packed(**inputs_of(tiny, examples)).logits[0]
        singles = []
        for example in examples:
            kept = inputs_of(tiny, [example])["logits_to_keep"]
            singles.append(alone(**own_inputs(tiny, example), logits_to_keep=kept).logits[0])
    expected = torch.cat(singles)
    # Sums in another order, as in law 7.
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


def test_greedy_tokens_are_those_of_transformers(tiny: Path) -> None:
    from manako.infer.open import open_model

    model = open_model(tiny)
    prompts: list[Any] = [
        [films()[0], "何が起きますか"],
        ["a", picture(120, 40), films()[3], "b"],
        [films()[2], films()[1], "?"],
    ]
    kind: Any = SmolVLMForConditionalGeneration
    reference = kind.from_pretrained(tiny).eval()
    together = model.generate_batch([*prompts, ["hello"]], max_new_tokens=6)
    for prompt, reply in zip(prompts, together, strict=False):
        example = model.processor.encode_prompt(Conversation.of(prompt))
        answer = reference.generate(**own_inputs(tiny, example), do_sample=False, max_new_tokens=6)[
            0, example.tokens :
        ].tolist()
        assert list(reply.token_ids) == answer[: len(reply.token_ids)]
        assert model.generate_content(prompt, max_new_tokens=6).token_ids == reply.token_ids


@pytest.mark.skipif(
    not hasattr(torch.ops.aten, TORCH_OPERATOR), reason="torch has this filter from 2.13 on"
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((1, 1), (56, 56)),
        ((13, 200), (10, 168)),
        ((168, 168), (56, 56)),
        ((320, 240), (768, 576)),
        ((41, 2000), (16, 768)),
        ((333, 500), (448, 224)),
        ((7, 999), (300, 5)),
        ((100, 50), (100, 51)),
    ],
)
def test_lanczos_by_arithmetic_is_that_of_torch(old: tuple[int, int], new: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (old[1], old[0], 3), dtype=np.uint8)
    assert np.array_equal(by_arithmetic(noise, *new), resize_torch_lanczos(noise, *new))


def test_an_older_torch_gives_the_same_frames(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from manako.families._shared import lanczos

    processor = opened(tiny)
    frames = list(moving_pattern(90, 40, 3))
    cost = processor.video_cost([(90, 40)] * 3, [0.0, 1.0, 2.0])
    expected = processor.prepare_video(frames, cost)
    monkeypatch.setattr(lanczos, "TORCH_OPERATOR", "no_such_operator")
    assert np.array_equal(processor.prepare_video(frames, cost), expected)


def test_transformers_is_silent_without_pixels_and_we_are_not(tiny: Path) -> None:
    processor = opened(tiny)
    inputs = own_inputs(tiny, processor.encode(asked(films()[0], "?")))
    without = {k: v for k, v in inputs.items() if k != "pixel_values"}
    model: Any = load_model(tiny, FAMILY)
    with torch.no_grad():
        model(**without)
    arrays = {k: v.numpy() for k, v in without.items() if torch.is_tensor(v)}
    with pytest.raises(BatchError, match="pixel_values"):
        processor.require(arrays)


def test_frames_of_different_sizes_are_refused(tiny: Path) -> None:
    mixed = Video((picture(56, 56), picture(56, 28)), (0.0, 1.0))
    with pytest.raises(ImageError, match="row row: the frames of a video differ in size"):
        opened(tiny).measure(asked(mixed, "?"))


def test_a_file_for_videos_goes_before_the_settings_of_pictures(copied: Path) -> None:
    sampling = {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 56}}
    settings = {"max_image_size": {"longest_edge": 56}, "resample": 1}
    file = copied / "video_preprocessor_config.json"
    write_json(file, {**settings, "size": {"longest_edge": 112}, "video_sampling": sampling})
    assert opened(copied).settings.video_longest == 112
    write_json(file, {**settings, "video_sampling": sampling})
    assert opened(copied).settings.video_longest == 56


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_image_size": {"longest_edge": 64}}, "max_image_size for videos"),
        ({"resample": 3}, "resample for videos 3"),
        ({"image_mean": [0.1, 0.1, 0.1]}, "image_mean for videos"),
        ({"do_resize": False}, "switches off do_resize"),
    ],
)
def test_video_settings_that_are_not_known_are_refused(
    copied: Path, change: dict[str, Any], said: str
) -> None:
    pictures = read_json(copied / "preprocessor_config.json")
    write_json(copied / "video_preprocessor_config.json", {**pictures, **change})
    with pytest.raises(CheckpointError, match=said):
        opened(copied)


def test_saved_settings_are_those_in_force(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    processor = opened(tiny).with_pixel_limits(max_pixels=112 * 112)
    processor.save(folder)
    for file in ("config.json", "generation_config.json"):
        shutil.copyfile(tiny / file, folder / file)
    row = asked(film(200, 112, 4), "?")
    again, expected = opened(folder).encode(row), processor.encode(row)
    assert np.array_equal(again.input_ids, expected.input_ids)
    assert np.array_equal(again.images[0].pixels, expected.images[0].pixels)
    untouched = opened(tiny).encode(row).images[0].pixels
    assert not np.array_equal(again.images[0].pixels, untouched)


def test_law_6_sees_frames_in_another_order(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        idefics, "cut_frames", lambda frames, **sizes: cut_frames(frames[::-1], **sizes)
    )
    verdict = Subject(tiny).verdict(laws()[5])
    assert verdict.state == "fails"
    assert "video" in verdict.figure


def test_law_7_sees_pictures_and_frames_out_of_order(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind for itself, as other families have it: a pack's rows then get others' pixels."""
    monkeypatch.setattr(
        idefics.TiledProcessor,
        "media_inputs",
        lambda self, media: self.image_inputs(sorted(media, key=lambda medium: medium.is_video)),
    )
    assert Subject(tiny).verdict(laws()[6]).state == "fails"
