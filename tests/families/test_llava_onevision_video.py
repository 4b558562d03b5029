"""Videos of LLaVA-OneVision against transformers' own code: frames, packing, answers, order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from picture_rows import asked, gap_of_packing, inputs_of, same_as_generate

from manako.core.conversation import Conversation, Message, Text, Video
from manako.core.errors import BatchError, CheckpointError, ImageError, RowError
from manako.core.files import read_json, write_json
from manako.families.llava_onevision import FAMILY
from manako.nn import patches
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, film, picture
from manako.verify.runner import laws

FILMS = ((56, 56, 4), (84, 40, 5), (30, 120, 1), (64, 64, 9))
"""(width, height, frames)."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of 3 × 3 patches: an odd side, as the published 27 × 27, is pooled to 2 × 2."""
    folder = tmp_path_factory.mktemp("onevision") / "tiny"
    FAMILY.make_tiny(folder, seed=1, tile=42, initializer_range=0.05)
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny, tmp_path / "copied")
    return tmp_path / "copied"


def films() -> list[Video]:
    return [film(*size) for size in FILMS]


def rows() -> list[Conversation]:
    found = [asked(each, "何?") for each in films()]
    mixed = asked("前", picture(64, 40), films()[1], "中", films()[3], picture(40, 90), "後")
    alone = asked(films()[0], picture(90, 40), "?")
    return [*found, asked("hello"), mixed, alone, asked(*films(), "順番は?"), found[1]]


@pytest.mark.parametrize("frames", [1, 2, 7, 32])
def test_tokens_are_those_of_the_published_rule(frames: int) -> None:
    """196 for each frame and one row end, whatever its size."""
    from test_llava_onevision import PUBLISHED

    from manako.families._shared.onevision import OneVisionProcessor

    processor: Any = object.__new__(OneVisionProcessor)
    object.__setattr__(processor, "settings", PUBLISHED)
    for size in ((1, 1), (640, 480), (41, 4000)):
        cost = processor.video_cost([size] * frames, [0.5 * n for n in range(frames)])
        assert cost.tokens == 196 * frames + 1
        assert cost.size == (384, 384)
        assert cost.patches == 729 * frames


@pytest.mark.parametrize("size", FILMS)
def test_one_video_is_what_transformers_makes_of_it(tiny: Path, size: tuple[int, int, int]) -> None:
    """The model as transformers loads it, without the numbers of frames: the same logits."""
    import transformers

    example = FAMILY.open(tiny).encode(asked(film(*size), "何?"))
    assert example.images[0].tokens == 4 * size[2] + 1
    inputs = inputs_of(tiny, FAMILY, [example])
    assert inputs["pixel_values_videos"].shape == (1, size[2], 3, 42, 42)
    assert inputs["frames_per_video"].tolist() == [size[2]]
    own = {k: v for k, v in inputs.items() if k not in ("segments", "position_ids")}
    reference: Any = getattr(transformers, FAMILY.model_class).from_pretrained(tiny).eval()
    ours: Any = load_model(tiny, FAMILY)
    with torch.no_grad():
        found = ours(**own).logits
        own.pop("frames_per_video")
        assert torch.equal(found, reference(**own).logits)


def test_videos_of_unequal_length_are_what_each_is_alone(tiny: Path) -> None:
    """Vectors and gradients, against transformers' own call for each video."""
    ours, reference = (load_model(tiny, FAMILY) for _ in range(2))
    reference.model.forward = type(reference.model).forward.__get__(reference.model)
    clips = [torch.randn(1, frames, 3, 42, 42) for *_, frames in FILMS]
    expected = [reference.get_video_features(clip).pooler_output[0] for clip in clips]
    seen: list[Any] = []
    ours.model.get_placeholder_mask = lambda *_, video_features, **__: seen.append(video_features)
    with pytest.raises(TypeError):  # stopped where the vectors would be placed
        ours(
            input_ids=torch.tensor([[1]]),
            pixel_values_videos=torch.cat(clips, dim=1),
            frames_per_video=torch.tensor([frames for *_, frames in FILMS]),
        )
    assert "get_video_features" not in vars(ours.model)
    # Another number of frames in one product: sums in another order.
    assert torch.allclose(seen[0], torch.cat(expected), atol=1e-5)
    weights = torch.randn_like(seen[0])
    (seen[0] * weights).sum().backward()
    (torch.cat(expected) * weights).sum().backward()
    for name in ("image_newline", "multi_modal_projector.linear_1.weight"):
        found, wanted = (m.model.get_parameter(name).grad for m in (ours, reference))
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4), name


def test_packed_equals_one_by_one(tiny: Path) -> None:
    """Videos of every length beside pictures in tiles, whole pictures and text alone."""
    # Sums in another order; the worst seen is 1e-6 of the spread.
    assert gap_of_packing(tiny, FAMILY, rows()) < 1e-5


def test_answers_are_those_of_transformers_alone_and_in_a_batch(tiny: Path) -> None:
    prompts: list[list[Any]] = [
        [films()[0], "何が起きますか"],
        ["a", picture(56, 56), films()[3], "b"],
        ["hello"],
        [picture(30, 90), films()[2], picture(60, 60), "どれ?"],
        [films()[1]],
    ]
    same_as_generate(tiny, FAMILY, prompts)


def test_the_template_s_order_is_that_of_pixels_too(tiny: Path) -> None:
    """Pictures of a turn first, then its videos: whoever was asked first."""
    processor: Any = FAMILY.open(tiny)
    one, two = films()[0], films()[1]
    turns = (
        Message("user", (one, Text("と"), picture(42, 42), two, picture(84, 42))),
        Message("assistant", (Text("はい"),)),
        Message("user", (picture(30, 30), Text("?"), one)),
        Message("assistant", (Text("いいえ"),)),
    )
    conversation = Conversation(turns)
    example = processor.encode(conversation)
    assert [len(image.times) for image in example.images] == [0, 0, 4, 5, 0, 4]
    for image in example.images:
        expected = processor.video_token_id if image.is_video else processor.image_token_id
        run = example.input_ids[image.start : image.start + image.tokens]
        assert (run == expected).all()
    assert example.lengths == processor.measure(conversation)
    assert processor.encode_prompt(Conversation(turns[:3])).images[2].times == one.times


def test_a_video_does_not_make_a_picture_one_of_several(tiny: Path) -> None:
    processor: Any = FAMILY.open(tiny)
    beside = processor.encode(asked(films()[0], picture(90, 40), "?"))
    assert beside.images[0].tokens == processor.cost(90, 40).tokens
    inputs = inputs_of(tiny, FAMILY, [beside])
    assert inputs["batch_num_images"].tolist() == [1]


@pytest.mark.parametrize("key", ["pixel_values_videos", "frames_per_video"])
def test_a_batch_without_a_video_s_key_is_an_error(tiny: Path, key: str) -> None:
    processor: Any = FAMILY.open(tiny)
    inputs = inputs_of(tiny, FAMILY, [processor.encode(asked(*films(), "?"))])
    arrays = {k: v.numpy() for k, v in inputs.items() if torch.is_tensor(v) and k != key}
    with pytest.raises(BatchError, match=rf"{key}.*video tokens"):
        processor.require(arrays)


def test_frames_of_different_sizes_are_refused(tiny: Path) -> None:
    mixed = Video((picture(56, 56), picture(56, 28)), (0.0, 1.0))
    with pytest.raises(ImageError, match="the frames of a video differ in size"):
        FAMILY.open(tiny).measure(asked(mixed, "?"))


def test_a_template_without_a_rule_for_videos_is_refused(copied: Path) -> None:
    file = copied / "chat_template.json"
    template = read_json(file)["chat_template"].replace("['image', 'video']", "['image']")
    write_json(file, {"chat_template": template})
    processor = FAMILY.open(copied)
    with pytest.raises(RowError, match="writes 1 image and video marks for 2"):
        processor.encode(asked(films()[0], picture(42, 42), "?"))
    assert processor.encode(asked(picture(42, 42), "?")).images


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": {"height": 56, "width": 56}}, "size for videos"),
        ({"image_mean": [0.1, 0.1, 0.1]}, "image_mean for videos"),
        ({"resample": 2}, "resample for videos 2"),
    ],
)
def test_frames_that_are_made_otherwise_than_tiles_are_refused(
    copied: Path, change: dict[str, Any], said: str
) -> None:
    file = copied / "video_preprocessor_config.json"
    settings = {**read_json(file), **change}
    write_json(file, settings)
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(copied)
    file.unlink()
    assert FAMILY.open(copied).encode(asked(films()[0], "?")).images
    write_json(
        copied / "processor_config.json",
        {**read_json(copied / "processor_config.json"), "video_processor": settings},
    )
    with pytest.raises(CheckpointError, match=said):
        FAMILY.open(copied)


@pytest.mark.parametrize("number", [5, 7])
def test_laws_see_videos_that_are_ended_only_once(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """All frames of a pack as one video: the reference's own rule, given several."""
    monkeypatch.setattr(patches, "_ended_apart", lambda vectors, frames: vectors)
    verdict = Subject(tiny).verdict(laws()[number - 1])
    assert verdict.state == ("fails" if number == 7 else "holds")


def test_law_7_sees_ends_in_the_wrong_places(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = patches._ended_apart
    monkeypatch.setattr(
        patches,
        "_ended_apart",
        lambda vectors, frames: original(vectors, sorted(frames, reverse=True)),
    )
    assert Subject(tiny).verdict(laws()[6]).state == "fails"
