"""The written Parquet in other hands: `datasets` shows pictures, TRL trains a step on it unchanged.

Without the `huggingface` metadata in the schema both fail, the first silently.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.row import row_of
from manako.data.writer import DroppedRow, WriterSettings, write_store

# `datasets`, TRL and what they load warn about their own affairs.
pytestmark = pytest.mark.filterwarnings("ignore")
COLOURS = {"red": "赤", "blue": "青", "white": "白", "black": "黒"}


def picture(colour: str, kind: str) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (56, 28), colour).save(buffer, kind)
    return buffer.getvalue()


def rows() -> list[Conversation]:
    made = []
    for number, (colour, name) in enumerate(COLOURS.items()):
        first = Image(picture(colour, "PNG"), path=f"{colour}.png")
        second = Image(picture(colour, "JPEG"))
        made.append(
            Conversation(
                (
                    Message("system", (Text("短く。"),)),
                    Message("user", (Text("これと"), first, Text("これは"), second, Text("?"))),
                    Message("assistant", (Text(name),), False),
                    Message("user", (Text("英語で?"),)),
                    Message("assistant", (Text(colour),)),
                ),
                id=str(number),
                source="colours",
                meta={"colour": colour},
            )
        )
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set") / "colours"
    settings = WriterSettings(row_group_bytes=1_000, shard_bytes=1_500)
    with write_store(out, settings=settings) as writer:
        for item in rows():
            writer.add(row_of(item))
        writer.drop(DroppedRow(file="f", index=0, id="", sha256="", reason="r", detail="", row=""))
    return out


@pytest.fixture
def loaded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def test_datasets_opens_the_folder_and_shows_pictures_and_messages(
    folder: Path, loaded: Any
) -> None:
    assert len(list(folder.glob("train-*.parquet"))) > 1
    assert len(loaded) == 4  # and not the rows of dropped.parquet
    for shown, item in zip(loaded, rows(), strict=True):
        assert [image.size for image in shown["images"]] == [(56, 28)] * 2
        assert isinstance(shown["images"][0], Pillow.Image)
        assert shown["images"][0].convert("RGB").getpixel((0, 0)) == Pillow.new(
            "RGB", (1, 1), item.meta["colour"]
        ).getpixel((0, 0))
        assert [
            [(part["type"], part["text"]) for part in turn["content"]] for turn in shown["messages"]
        ] == [
            [
                ("text", part.text) if isinstance(part, Text) else ("image", None)
                for part in m.content
            ]
            for m in item.messages
        ]
        assert shown["train"] == [None, None, False, None, None]
        assert (shown["widths"], shown["heights"]) == ([56, 56], [28, 28])


def test_trl_trains_a_step_on_it_unchanged(loaded: Any, tiny_qwen: Path, tmp_path: Path) -> None:
    from transformers import Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
    from trl import SFTConfig, SFTTrainer

    class WithoutVideo(Qwen2VLProcessor):  # type: ignore[misc]
        """The processor's video part wants torchvision, which is not here."""

        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

    model = Qwen2VLForConditionalGeneration.from_pretrained(tiny_qwen)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    settings = SFTConfig(
        output_dir=str(tmp_path / "run"),
        max_steps=1,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        max_length=None,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=loaded,
        processing_class=WithoutVideo.from_pretrained(tiny_qwen, backend="pil"),
    )
    result = trainer.train()
    assert result.global_step == 1
    assert math.isfinite(result.training_loss)
    assert result.training_loss > 0
    moved = [n for n, value in model.named_parameters() if not value.equal(before[n])]
    assert any("visual" in name for name in moved)  # the pictures reached the model
