"""Every law over every family's tiny checkpoint; and each law fails when what it guards breaks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manako.catalogue.cards import cards_of
from manako.core.errors import InputError
from manako.core.family import families
from manako.core.files import read_json, write_json
from manako.verify._subject import Subject
from manako.verify.runner import LAW_COUNT, laws, verify_model

FAMILIES = sorted(families().items)
TEXT_ONLY = {5, 6, 13}
"""Laws that are not applicable to a text model; the reasons stand in docs/families.md."""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("laws")
    for name, family in families().items.items():
        family.make_tiny(folder / name, seed=1)
    return {name: folder / name for name in FAMILIES}


def test_no_family_file_is_broken() -> None:
    assert families().broken == {}


def test_there_are_thirteen_laws() -> None:
    assert [law.number for law in laws()] == list(range(1, LAW_COUNT + 1))


@pytest.mark.parametrize("law", laws(), ids=lambda law: f"law{law.number:02}")
@pytest.mark.parametrize("family", FAMILIES)
def test_law_holds(family: str, law: Any, checkpoints: dict[str, Path]) -> None:
    verdict = Subject(checkpoints[family]).verdict(law)
    is_text = not families().items[family].takes_images
    lacks_card = law.number == 11 and not cards_of(family)
    if (law.number in TEXT_ONLY and is_text) or lacks_card:
        assert verdict.state == "not applicable"
    else:
        assert verdict.state == "holds", verdict


def test_unknown_law_number_is_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="14"):
        verify_model(checkpoints["qwen2_vl"], only=[14])


def verdict_of(subject: Subject, number: int) -> Any:
    return subject.verdict(laws()[number - 1])


@pytest.fixture
def broken(tiny_qwen: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to break."""
    folder = tmp_path / "broken"
    shutil.copytree(tiny_qwen, folder)
    return folder


def test_law_1_sees_a_tokenizer_of_another_revision(broken: Path) -> None:
    tokenizer = read_json(broken / "tokenizer.json")
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:20]
    subject = Subject(broken)
    assert subject.processor.tokenizer.tokenizer  # ours is opened before the file changes
    write_json(broken / "tokenizer.json", tokenizer)
    assert verdict_of(subject, 1).state == "fails"


@pytest.mark.parametrize(("shift", "law"), [(-3, 3), (1, 2)])
def test_laws_2_and_3_see_a_shifted_mask(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch, shift: int, law: int
) -> None:
    from manako.families._shared import layout

    original = layout.LayoutMaker._skeleton_of
    monkeypatch.setattr(
        layout.LayoutMaker,
        "_skeleton_of",
        lambda self, flat, regions, notes: original(
            self, flat, [(start + shift, end) for start, end in regions], notes
        ),
    )
    assert verdict_of(Subject(tiny_qwen), law).state == "fails"


def test_law_3_sees_contents_that_forge_control_tokens(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.families._shared.text_tokenizer import TextTokenizer

    original = TextTokenizer.encode

    def as_others_do(self: Any, text: str) -> Any:
        self.tokenizer.encode_special_tokens = False
        return original(self, text)

    monkeypatch.setattr(TextTokenizer, "encode", as_others_do)
    assert verdict_of(Subject(tiny_qwen), 3).state == "fails"


def test_law_4_sees_an_answer_cut_short(tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from manako.families._shared.processor import ChatProcessor

    original = ChatProcessor.parse
    monkeypatch.setattr(ChatProcessor, "parse", lambda self, ids: original(self, list(ids)[:-3]))
    assert verdict_of(Subject(tiny_qwen), 4).state == "fails"


def test_law_5_sees_a_count_that_is_off_by_one_row(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from manako.families._shared import qwen

    original = qwen._cost
    monkeypatch.setattr(
        qwen,
        "_cost",
        lambda *size: replace(
            original(*size), tokens=original(*size).tokens + original(*size).columns
        ),
    )
    assert verdict_of(Subject(tiny_qwen), 5).state == "fails"


def test_law_6_sees_a_resize_through_floats(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from manako.families._shared import pixels

    def through_floats(picture: Any, width: int, height: int, *, mode: str = "bicubic") -> Any:
        tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        resized = torch.nn.functional.interpolate(
            tensor, size=(height, width), mode=mode, antialias=True
        )
        return resized.round().clamp(0, 255).byte()[0].permute(1, 2, 0).contiguous().numpy()

    monkeypatch.setattr(pixels, "resize_torch_aa", through_floats)
    assert verdict_of(Subject(tiny_qwen), 6).state == "fails"


def test_law_7_sees_conversations_that_see_each_other(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.nn import attention

    monkeypatch.setattr(
        attention,
        "_boundaries",
        lambda module, query, causal, segments, cu: (
            tuple(cu.tolist()) if cu is not None else (0, query.shape[2])
        ),
    )
    assert verdict_of(Subject(tiny_qwen), 7).state == "fails"


def test_law_7_sees_positions_that_run_on(tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary positions are relative, so a shift alone is harmless: a gap inside is not."""
    from manako.families._shared.qwen import QwenProcessor

    original = QwenProcessor.positions

    def with_gap(self: Any, example: Any) -> Any:
        positions = original(self, example).copy()
        positions[:, example.tokens // 2 :] += 7
        return positions

    monkeypatch.setattr(QwenProcessor, "positions", with_gap)
    assert verdict_of(Subject(tiny_qwen), 7).state == "fails"


def test_law_8_sees_wrong_positions_while_decoding(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.verify import law08_cache

    original = law08_cache._step_by_step

    def shifted(model: Any, inputs: Any, start: int) -> Any:
        moved = inputs["position_ids"].clone()
        moved[..., start:] += 3
        return original(model, {**inputs, "position_ids": moved}, start)

    monkeypatch.setattr(law08_cache, "_step_by_step", shifted)
    assert verdict_of(Subject(tiny_qwen), 8).state == "fails"


def test_law_9_sees_a_missing_tensor(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    weights.pop("visual.merger.ln_q.weight")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    verdict = verdict_of(Subject(broken), 9)
    assert verdict.state == "fails"
    assert "merger.ln_q" in verdict.figure


def test_law_10_sees_a_pattern_that_leaks_into_another_part(tiny_qwen: Path) -> None:
    from dataclasses import replace

    subject = Subject(tiny_qwen)
    leaking = {**subject.family.adapter_targets, "language": r".*(q_proj|attn\.qkv)"}
    subject.family = replace(subject.family, adapter_targets=leaking)
    verdict = verdict_of(subject, 10)
    assert verdict.state == "fails"
    assert "language" in verdict.figure


def test_law_12_sees_a_frozen_part_that_moves(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two guards stand in the way, the frozen flag and the rate of zero: both are taken down."""
    from manako.train import optimizers, parts

    def one_rate_for_all(built: Any, factor: float) -> None:
        for group in (group for optimizer in built for group in optimizer.param_groups):
            group["lr"] = 1e-3 * factor

    monkeypatch.setattr(parts, "prepare_parts", lambda model, family, recipe: {})
    monkeypatch.setattr(optimizers, "set_rates", one_rate_for_all)
    verdict = verdict_of(Subject(tiny_qwen), 12)
    assert verdict.state == "fails"
    assert "moved frozen weights" in verdict.figure


def test_law_11_sees_a_wrong_card(tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from manako.verify import law11_card

    card = cards_of("qwen2_vl")[0]
    assert card.parameters is not None
    assert card.parameters.language is not None
    wrong = replace(
        card, parameters=replace(card.parameters, language=card.parameters.language + 1)
    )
    monkeypatch.setattr(law11_card, "cards_of", lambda family: [wrong])
    assert verdict_of(Subject(tiny_qwen), 11).state == "fails"


def test_law_13_sees_a_family_that_asks_for_nothing(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manako.families._shared.qwen import QwenProcessor

    monkeypatch.setattr(QwenProcessor, "require", lambda self, inputs: None)
    assert verdict_of(Subject(tiny_qwen), 13).state == "fails"


def test_law_6_sees_floats_that_were_resized_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    families().items["phi4_multimodal"].make_tiny(tmp_path / "phi4")
    original = torch.nn.functional.interpolate
    monkeypatch.setattr(
        torch.nn.functional,
        "interpolate",
        lambda picture, **options: original(picture, **{**options, "antialias": True}),
    )
    assert verdict_of(Subject(tmp_path / "phi4"), 6).state == "fails"


def test_values_of_float_pixels_see_every_entry() -> None:
    from manako.verify.golden.pictures import values_of

    pixels = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    found = values_of(pixels, 20)
    assert len(found["values"]) == 20
    assert found == values_of(pixels[None], 20)
    assert set(found["values"][:10]) <= {round(float(v), 7) for v in pixels[0].ravel()}
    changed = pixels.copy()
    changed[4, 2, 7, 7] += 0.1
    assert found["means"] != values_of(changed, 20)["means"]


def test_golden_pictures_are_stable() -> None:
    from manako.verify.golden.pictures import pattern

    picture = pattern(5, 4)
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [0, 0, 1]
