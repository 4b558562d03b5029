"""Videos of the Qwen families against transformers' own code, and what is refused."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manako.core.conversation import Conversation, Message, Text, Video
from manako.core.errors import BatchError, CheckpointError, ImageError, RowError
from manako.core.example import Example, Pack
from manako.core.family import families
from manako.core.files import read_json, write_json
from manako.families._shared.qwen import ImageSettings
from manako.families._shared.qwen_video import grid_texts, seconds_per_grid, video_cost
from manako.nn import attention
from manako.nn.batch import make_batch
from manako.nn.checkpoint import load_model
from manako.nn.patches import multiply_patches
from manako.verify._subject import Subject, film, picture
from manako.verify.runner import laws

QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FILMS = ((56, 56, 4, 0.5), (84, 40, 5, 1.3), (30, 120, 2, 0.25), (64, 64, 9, 0.33))
"""(width, height, frames, seconds from frame to frame)."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    for name in QWEN:
        families().items[name].make_tiny(
            folder / name, seed=1, min_pixels=1024, initializer_range=0.08
        )
    return {name: folder / name for name in QWEN}


def films() -> list[Video]:
    return [film(w, h, frames, seconds=s) for w, h, frames, s in FILMS]


def asked(*content: Any, answer: str = "はい。", id: str = "row") -> Conversation:
    parts = tuple(Text(part) if isinstance(part, str) else part for part in content)
    return Conversation((Message("user", parts), Message("assistant", (Text(answer),))), id=id)


def processor_of(folder: Path) -> Any:
    return families().items[folder.name].open(folder)


def inputs_of(folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    pack = Pack(examples=tuple(examples), pack_tokens=sum(e.tokens for e in examples))
    return make_batch(pack, processor_of(folder), device="cpu", dtype=torch.float32).inputs


def own_inputs(folder: Path, example: Example) -> dict[str, Any]:
    """What transformers' own call gets: no segments, no positions of ours."""
    left_out = ("segments", "position_ids", "logits_to_keep")
    return {k: v for k, v in inputs_of(folder, [example]).items() if k not in left_out}


def rows() -> list[Conversation]:
    found = [asked(each, "何?") for each in films()]
    mixed = asked("前", picture(64, 40), films()[1], "中", films()[3], picture(40, 90), "後")
    return [*found, asked("hello"), mixed, asked(picture(56, 56), "?")]


@pytest.mark.parametrize("name", QWEN)
def test_positions_equal_get_rope_index(tiny: dict[str, Path], name: str) -> None:
    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    family = families().items[name]
    stem = family.model_class.removesuffix("ForConditionalGeneration")
    with torch.device("meta"):
        kind = getattr(module, f"{stem}Model")
        model = kind(kind.config_class.from_dict(read_json(tiny[name] / "config.json")))
    for row in rows():
        inputs = inputs_of(tiny[name], [processor_of(tiny[name]).encode(row)])
        keys = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
        expected, _ = model.get_rope_index(
            inputs["input_ids"],
            inputs["mm_token_type_ids"],
            **{key: inputs[key] for key in keys if key in inputs},
        )
        assert torch.equal(inputs["position_ids"], expected), row


@pytest.mark.parametrize("name", QWEN)
def test_packed_equals_one_by_one(tiny: dict[str, Path], name: str) -> None:
    """Films of every length beside pictures and text alone: each grid of frames is seen alone by
    the tower, and each conversation alone by the language model."""
    folder, family = tiny[name], families().items[name]
    examples = [processor_of(folder).encode(row) for row in rows()]
    packed = load_model(folder, family)
    attention.use_segments(packed)
    multiply_patches(packed)
    alone: Any = load_model(folder, family)
    with torch.no_grad():
        found = packed(**inputs_of(folder, examples)).logits[0]
        singles = []
        for example in examples:
            kept = inputs_of(folder, [example])["logits_to_keep"]
            singles.append(alone(**own_inputs(folder, example), logits_to_keep=kept).logits[0])
    expected = torch.cat(singles)
    # Sums in another order; the worst seen is 4e-6 of the spread.
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


@pytest.mark.parametrize("name", QWEN)
def test_greedy_tokens_are_those_of_transformers(tiny: dict[str, Path], name: str) -> None:
    """A short film: after one whose last moment lies beyond its longer side and the question,
    transformers' `generate` goes on elsewhere than its own forward pass; ours goes on as that."""
    from manako.infer.open import open_model
    from manako.nn.checkpoint import model_class

    model = open_model(tiny[name])
    prompts: list[Any] = [[films()[0], "何が起きますか"], ["a", picture(56, 56), films()[2], "b"]]
    kind: Any = model_class(families().items[name])
    reference = kind.from_pretrained(tiny[name]).eval()
    together = model.generate_batch([*prompts, ["hello"]], max_new_tokens=6)
    for prompt, reply in zip(prompts, together, strict=False):
        example = model.processor.encode_prompt(Conversation.of(prompt))
        answer = reference.generate(
            **own_inputs(tiny[name], example), do_sample=False, max_new_tokens=6
        )[0, example.tokens :].tolist()
        assert list(reply.token_ids) == answer[: len(reply.token_ids)]
        assert model.generate_content(prompt, max_new_tokens=6).token_ids == reply.token_ids


def test_qwen3_tells_the_time_in_the_text_as_its_processor_does(tiny: dict[str, Path]) -> None:
    """The expected text is what Qwen3VLProcessor of transformers 5.24 gave for these frames."""
    five = film(96, 64, 5, seconds=1.0)
    processor = processor_of(tiny["qwen3_vl"])
    example = processor.encode_prompt(Conversation.of([five, "x"]))
    text = processor.tokenizer.decode(example.input_ids.tolist())
    grid = "<|vision_start|>" + "<|video_pad|>" * 6 + "<|vision_end|>"
    inner = f"<0.5 seconds>{grid}<2.5 seconds>{grid}<4.0 seconds>{grid}"
    assert text == (
        f"<|im_start|>user\n<|vision_start|>{inner}<|vision_end|>x<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((0.0, 0.5), ["<0.2 seconds>"]),
        ((0.0, 0.5, 1.0), ["<0.2 seconds>", "<1.0 seconds>"]),
        ((3.0, 9.0, 60.0, 61.0), ["<6.0 seconds>", "<60.5 seconds>"]),
    ],
)
def test_a_grid_s_text_is_the_middle_of_its_frames(
    times: tuple[float, ...], expected: list[str]
) -> None:
    assert grid_texts(times, 2) == expected


def test_seconds_per_grid_are_those_of_evenly_spaced_frames() -> None:
    assert seconds_per_grid((0.0, 0.5, 1.0, 1.5), 2) == 1.0
    assert seconds_per_grid((7.0,), 2) == 0.0


@pytest.mark.parametrize("frames", [2, 3, 7, 16, 101])
@pytest.mark.parametrize("size", [(1, 1), (33, 1000), (640, 480), (1920, 1080), (31, 32)])
def test_the_size_of_a_frame_equals_the_reference(size: tuple[int, int], frames: int) -> None:
    from reference_sizes import taken_out

    reference = taken_out("qwen3_vl/video_processing_qwen3_vl.py", "smart_resize").smart_resize
    for smallest, largest in ((4096, 25_165_824), (131_072, 786_432)):
        settings = ImageSettings(
            patch=16,
            merge=2,
            temporal=2,
            min_pixels=1,
            max_pixels=1,
            video_min_pixels=smallest,
            video_max_pixels=largest,
        )
        expected = reference(
            frames, size[1], size[0], factor=32, min_pixels=smallest, max_pixels=largest
        )
        cost = video_cost([size] * frames, [float(n) for n in range(frames)], settings, "texts")
        assert cost.size == expected[::-1]
        assert cost.tokens == -(-frames // 2) * (expected[0] // 32) * (expected[1] // 32)


def test_a_picture_and_a_video_in_the_same_place_are_not_mistaken(tiny: dict[str, Path]) -> None:
    """Layouts and renderings are kept by shape: a picture's must not serve a video."""
    processor = processor_of(tiny["qwen2_vl"])
    still, moving = asked(picture(56, 56), "?"), asked(films()[0], "?")
    for row in (still, moving, still):
        ids = processor.encode(row).input_ids
        assert (ids == processor.video_token_id).any() == bool(row.videos)
        assert (ids == processor.image_token_id).any() == bool(row.images)


def test_without_seconds_qwen2_5_is_silently_wrong_and_we_are_not(tiny: dict[str, Path]) -> None:
    folder = tiny["qwen2_5_vl"]
    processor = processor_of(folder)
    example = processor.encode(asked(film(64, 64, 9, seconds=2.0), "何?"))
    inputs = own_inputs(folder, example)
    model: Any = load_model(folder, families().items["qwen2_5_vl"])
    without = {k: v for k, v in inputs.items() if k != "second_per_grid_ts"}
    with torch.no_grad():
        right, silent = model(**inputs).logits, model(**without).logits
    assert float((right - silent).abs().max() / right.std()) > 1e-3
    arrays = {k: v.numpy() for k, v in without.items() if torch.is_tensor(v)}
    with pytest.raises(BatchError, match=r"second_per_grid_ts.*video tokens"):
        processor.require(arrays)


def test_frames_of_different_sizes_are_refused(tiny: dict[str, Path]) -> None:
    mixed = Video((picture(56, 56), picture(56, 28)), (0.0, 1.0))
    with pytest.raises(ImageError, match="row row: the frames of a video differ in size"):
        processor_of(tiny["qwen2_vl"]).measure(asked(mixed, "?"))


def test_one_frame_is_no_video_for_qwen3(tiny: dict[str, Path]) -> None:
    one = film(56, 56, 1)
    with pytest.raises(ImageError, match="1 frames is too short"):
        processor_of(tiny["qwen3_vl"]).encode(asked(one, "?"))
    assert processor_of(tiny["qwen2_vl"]).encode(asked(one, "?")).images[0].grid[0] == 1


@pytest.mark.parametrize("name", [n for n, f in families().items.items() if not f.takes_videos])
def test_a_family_that_takes_none_says_so(tmp_path: Path, name: str) -> None:
    families().items[name].make_tiny(tmp_path / name)
    processor = processor_of(tmp_path / name)
    for attempt in (processor.measure, processor.encode):
        with pytest.raises(RowError, match="takes no videos") as caught:
            attempt(asked(films()[0], "?"))
        assert caught.value.reason == "takes_no_videos"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 14}, "patch_size 14"),
        ({"image_mean": [0.1, 0.1, 0.1]}, "image_mean"),
        ({"cap_pixels_per_frame": True}, "cap_pixels_per_frame"),
    ],
)
def test_video_settings_that_are_not_known_are_refused(
    tiny: dict[str, Path], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "qwen3_vl"
    shutil.copytree(tiny["qwen3_vl"], folder)
    file = folder / "video_preprocessor_config.json"
    write_json(file, {**read_json(file), **change})
    with pytest.raises(CheckpointError, match=said):
        processor_of(folder)


@pytest.mark.parametrize("name", QWEN)
def test_saved_settings_are_those_in_force(
    tiny: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Where a checkpoint has no file for videos, the limits of pictures hold for their frames."""
    folder = tmp_path / name
    folder.mkdir()
    processor = processor_of(tiny[name]).with_pixel_limits(min_pixels=1024, max_pixels=3000)
    processor.save(folder)
    for file in ("config.json", "generation_config.json"):
        shutil.copyfile(tiny[name] / file, folder / file)
    row = asked(film(112, 112, 4), "?")
    again = processor_of(folder).encode(row)
    assert np.array_equal(again.input_ids, processor.encode(row).input_ids)


def test_law_7_sees_a_time_that_stands_still(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.families._shared import qwen

    monkeypatch.setattr(
        qwen, "time_steps", lambda times, grids, *others: np.zeros(grids, dtype=np.int32)
    )
    assert Subject(tiny["qwen2_5_vl"]).verdict(laws()[6]).state == "fails"


def test_law_6_sees_frames_in_another_order(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.families._shared import qwen

    original = qwen.cut_video
    monkeypatch.setattr(
        qwen, "cut_video", lambda frames, *others: original(list(reversed(frames)), *others)
    )
    verdict = Subject(tiny["qwen3_vl"]).verdict(laws()[5])
    assert verdict.state == "fails"
    assert "video" in verdict.figure
