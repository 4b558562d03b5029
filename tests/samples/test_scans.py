"""The split by scan holds whatever the seed, and glyphs stay recognisable as their scan."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest

from manako.core.errors import MissingDependencyError
from manako.samples.scans import load_scans, plain_glyphs, split_scans, varied_glyphs


def test_thirty_of_each_digit_are_held_out_and_no_scan_is_in_both_parts() -> None:
    scans = load_scans()
    training, held_out = split_scans(scans)
    assert np.bincount(held_out.digits_S).tolist() == [30] * 10
    assert set(training.rows_S.tolist()).isdisjoint(held_out.rows_S.tolist())
    assert len(training.rows_S) + len(held_out.rows_S) == len(scans.rows_S) == 1797


def test_the_parts_share_no_picture_even_under_another_row_number() -> None:
    training, held_out = split_scans(load_scans())
    seen = {ink.tobytes() for ink in training.ink_SHW}
    assert not [ink for ink in held_out.ink_SHW if ink.tobytes() in seen]


def test_a_plain_glyph_is_its_scan_enlarged() -> None:
    scans = split_scans(load_scans())[1]
    glyphs = plain_glyphs(scans)
    assert glyphs.ink_GHW.shape == (300, 20, 20)
    assert glyphs.ink_GHW.dtype == np.uint8
    # 20 / 8 pixels each way: blocks of 5 are 2 scan pixels, so means over both must agree. The
    # interpolation moves ink over a block's border, 0.154 of full ink at most on these scans.
    blocks = glyphs.ink_GHW.reshape(300, 4, 5, 4, 5).mean((2, 4)) / 255
    assert np.abs(blocks - scans.ink_SHW.reshape(300, 4, 2, 4, 2).mean((2, 4))).max() < 0.2


def test_variants_differ_from_each_other_and_stay_close_to_their_scan() -> None:
    scans = split_scans(load_scans())[0].pick(np.arange(100))
    varied = varied_glyphs(scans, variants=4, rng=np.random.default_rng(0))
    plain = plain_glyphs(scans).ink_GHW.reshape(100, -1).astype(float)
    assert varied.scans == 100
    assert varied.digits_G.tolist() == np.repeat(scans.digits_S, 4).tolist()
    flat = varied.ink_GHW.reshape(400, -1).astype(float)
    assert len({glyph.tobytes() for glyph in varied.ink_GHW}) == 400
    nearest = ((flat[:, None] - plain[None]) ** 2).sum(-1).argmin(1)
    # A variant's nearest plain glyph mostly shows the same digit (chance is one in ten).
    assert (scans.digits_S[nearest] == varied.digits_G).mean() > 0.8


def test_glyphs_are_the_same_bytes_for_a_seed() -> None:
    scans = load_scans().pick(np.arange(20))
    one, two, other = (
        varied_glyphs(scans, variants=3, rng=np.random.default_rng(seed)).ink_GHW.tobytes()
        for seed in (7, 7, 8)
    )
    assert one == two != other


def test_without_scikit_learn_the_error_prints_the_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real_import(name, *args, **more)

    for name in [name for name in sys.modules if name.startswith("sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"pip install 'manako\[quickstart\]'"):
        load_scans()
