"""The loader over a real data set and a real processor."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.row import row_of
from manako.data.loader import Loader
from manako.data.settings import LoaderSettings
from manako.data.step import batch_hash
from manako.data.store import Store
from manako.data.too_long import Fitted
from manako.data.writer import write_store
from manako.families.qwen2_vl import FAMILY


def picture(number: int) -> Image:
    pixels = np.random.default_rng(number).integers(0, 256, (40 + number, 60, 3), np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, format="PNG")
    return Image(buffer.getvalue())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("data") / "pictures"
    with write_store(folder) as writer:
        for number in range(12):
            question = (picture(number), Text(f"何番ですか。{'long ' * 60 * (number == 5)}"))
            messages = (Message("user", question), Message("assistant", (Text(f"{number}番"),)))
            writer.add(row_of(Conversation(messages, id=f"row-{number}")))
    return Store.open(folder)


def test_workers_read_the_store_and_give_the_same_steps(store: Store, tiny_qwen: Path) -> None:
    fitted = Fitted(processor=FAMILY.open(tiny_qwen), pack_tokens=120, policy="trim_text")
    settings = LoaderSettings(
        weights={"pictures": 1.0},
        pack_tokens=120,
        global_batch_packs=2,
        pack_window_rows=5,
        too_long="trim_text",
        num_train_epochs=2,
    )
    found = []
    for workers in (0, 1):
        with Loader(
            settings,
            {"pictures": store},
            measure=fitted.measure,
            encode=fitted.encode,
            fingerprint=fitted.fingerprint,
            workers=workers,
        ) as loader:
            loader.check_first()
            steps = list(loader)
        found.append([batch_hash(step) for step in steps])
        examples = [each for step in steps for pack in step.packs for each in pack.examples]
        assert sorted(each.id for each in examples) == sorted(
            f"row-{number}" for number in range(12) for _ in range(2)
        )
        assert {each.id for each in examples if each.notes} == {"row-5"}
    assert found[0] == found[1]
