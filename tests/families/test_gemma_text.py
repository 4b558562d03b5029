"""Gemma's text models: capped scores and logits, windows, a system turn that one of them refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_rows import asked, gap_of_packing, inputs_of

import manako
from manako.core.conversation import Conversation, Message, Text
from manako.core.errors import CheckpointError, RowError, TemplateError
from manako.core.family import Family
from manako.core.files import read_json, write_json
from manako.families import gemma2, gemma3_text
from manako.nn import attention
from manako.nn.checkpoint import load_model
from manako.verify._subject import Subject, picture
from manako.verify.runner import laws

BOTH = {"gemma2": gemma2.FAMILY, "gemma3_text": gemma3_text.FAMILY}
ROWS = [
    asked("問い", answer="長い答え。" * 30),
    asked("ok"),
    asked("長い問い。" * 25),
    asked("  blanks \n", answer="\n\n はい\n\n"),
]


@pytest.fixture(scope="module", params=sorted(BOTH))
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Family, Path]:
    """Conversations of 21 to 351 tokens under a window of 30, in two layers of four."""
    family = BOTH[request.param]
    folder = tmp_path_factory.mktemp("gemma") / family.name
    family.make_tiny(folder, seed=1, sliding_window=30, layers=4, initializer_range=0.25)
    return family, folder


def test_packed_equals_one_by_one_under_windows(opened: tuple[Family, Path]) -> None:
    family, folder = opened
    lengths = [family.open(folder).measure(row).tokens for row in ROWS]
    assert min(lengths) < 30 < max(lengths)
    # Sums in another order; the worst seen is 3e-6 of the spread.
    assert gap_of_packing(folder, family, ROWS) < 1e-5


def test_windows_and_caps_show(opened: tuple[Family, Path]) -> None:
    """Without either the logits are others: the test above would see it."""
    family, folder = opened
    processor = family.open(folder)
    inputs = inputs_of(folder, family, [processor.encode(row) for row in ROWS])
    changes = ["sliding_window"] + ["attn_logit_softcapping"] * (family.name == "gemma2")
    for change in changes:
        model: Any = load_model(folder, family)
        attention.use_segments(model)
        with torch.no_grad():
            expected = model(**inputs).logits
            for layer in model.model.layers:
                setattr(layer.self_attn, change, None)
            found = model(**inputs).logits
        assert float((found - expected).abs().max() / expected.std()) > 1e-3, change


def test_logits_are_capped_where_only_trained_positions_reach_the_head(tmp_path: Path) -> None:
    gemma2.FAMILY.make_tiny(tmp_path, seed=1, initializer_range=2.0, logit_cap=0.5)
    model: Any = load_model(tmp_path, gemma2.FAMILY)
    attention.use_segments(model)
    processor = gemma2.FAMILY.open(tmp_path)
    with torch.no_grad():
        logits = model(**inputs_of(tmp_path, gemma2.FAMILY, [processor.encode(ROWS[0])])).logits
    assert 0.49 < float(logits.abs().max()) <= 0.5


def test_gemma2_is_loaded_with_eager_attention(tmp_path: Path) -> None:
    """What law 7 compares with: SDPA has no caps, so transformers does not choose it."""
    gemma2.FAMILY.make_tiny(tmp_path)
    assert load_model(tmp_path, gemma2.FAMILY).config._attn_implementation == "eager"


def test_a_system_turn(opened: tuple[Family, Path]) -> None:
    family, folder = opened
    turns = (Message("system", (Text("短く。"),)), Message("user", (Text("何?"),)))
    row = Conversation((*turns, Message("assistant", (Text("はい"),))), id="row")
    processor = family.open(folder)
    assert Subject(folder).takes_system == (family.name == "gemma3_text")
    if family.name == "gemma2":
        with pytest.raises(TemplateError, match="System role not supported"):
            processor.encode(row)
        return
    text = processor.tokenizer.decode(processor.encode(row).input_ids.tolist())  # type: ignore[attr-defined]
    assert text.startswith("<bos><start_of_turn>user\n短く。\n\n何?<end_of_turn>\n")


def test_a_picture_is_refused_by_name(opened: tuple[Family, Path]) -> None:
    family, folder = opened
    for ask in (
        lambda: family.open(folder).encode(asked(picture(9, 9), "?")),
        lambda: family.open(folder).measure(asked(picture(9, 9), "?")),
        lambda: manako.load(folder).generate_content([picture(9, 9), "?"]),
    ):
        with pytest.raises(RowError, match="takes no pictures") as caught:
            ask()
        assert caught.value.reason == "takes_no_images"


def test_the_beginning_of_text_stands_once(opened: tuple[Family, Path]) -> None:
    family, folder = opened
    processor: Any = family.open(folder)
    bos = processor.tokenizer.id_of("<bos>")
    ids = processor.encode(ROWS[0]).input_ids
    assert ids[0] == bos
    assert np.count_nonzero(ids == bos) == 1


def test_an_encoder_is_refused(opened: tuple[Family, Path], tmp_path: Path) -> None:
    family, folder = opened
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = read_json(copy / "config.json")
    write_json(copy / "config.json", {**config, "use_bidirectional_attention": True})
    with pytest.raises(CheckpointError, match="text encoders"):
        family.open(copy)


def test_weights_carry_no_tied_head(opened: tuple[Family, Path]) -> None:
    verdict = Subject(opened[1]).verdict(laws()[8])
    assert verdict.state == "holds", verdict
