"""TRL as it is used on the same data: its collator, its trainer, the same pictures.

The published processor of Qwen2-VL asks for a video part, which wants torchvision. Here it is opened
without. Pictures then go through Pillow, or, with `use_torchvision`, through torchvision's
transforms, which are quicker and give exactly our pixels.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any


def choose_backend(torchvision: Path | None) -> str:
    """How transformers resizes pictures: `torchvision` where a folder is given or it is installed,
    else `pil`. Call it before transformers is imported."""
    if torchvision is not None:
        use_torchvision(torchvision)
        return "torchvision"
    return "torchvision" if importlib.util.find_spec("torchvision") else "pil"


def use_torchvision(folder: Path) -> None:
    """Let transformers find the torchvision in `folder`; call it before transformers is imported.

    `pip install --no-deps --target FOLDER torchvision==0.28.0`, for measurements only: a build that
    does not fit this torch lacks its compiled operators, of which only the declarations are needed.
    """
    import torch

    sys.path.insert(0, str(folder))
    library = torch.library.Library("torchvision", "DEF")
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        library.define(schema)
    _KEPT.append(library)


_KEPT: list[Any] = []
"""A library's declarations end with the object."""


def quiet() -> None:
    """TRL, transformers and datasets talk about their own affairs; nothing is fetched."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def open_dataset(folder: Path, cache: Path) -> Any:
    """The stored rows as `datasets` shows them, with the two columns that TRL reads."""
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(cache)).select_columns(
        ["messages", "images"]
    )


PROCESSORS = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}
"""transformers' classes, which lie in `models/FAMILY/processing_FAMILY.py`."""


def open_processor(
    folder: Path, *, family: str = "qwen2_vl", backend: str, max_pixels: int | None = None
) -> Any:
    """transformers' processor without its video part. backend: `pil` or `torchvision`."""
    module = importlib.import_module(f"transformers.models.{family}.processing_{family}")
    published = getattr(module, PROCESSORS[family])

    class WithoutVideo(published):  # type: ignore[misc,valid-type]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

    processor = WithoutVideo.from_pretrained(str(folder), backend=backend)
    if max_pixels is not None:
        images = processor.image_processor
        images.size = {"shortest_edge": images.size["shortest_edge"], "longest_edge": max_pixels}
    return processor


def open_collator(processor: Any) -> Any:
    """The collator that SFTTrainer takes for pictures, with its defaults."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    return DataCollatorForVisionLanguageModeling(processor)


class Counter:
    """Notes what each batch holds when it reaches the model."""

    def __init__(self, model: Any) -> None:
        self.tokens: list[Any] = []
        self.room: list[int] = []
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, __: Any, arguments: dict[str, Any]) -> None:
        mask = arguments["attention_mask"]
        self.tokens.append(mask.sum())  # stays on its device: reading it would wait
        self.room.append(mask.numel())


def train(
    model: Any,
    dataset: Any,
    processor: Any,
    out: Path,
    *,
    batch_rows: int,
    steps: int,
    warmup_steps: int,
    **settings: Any,
) -> dict[str, float]:
    """SFTTrainer for `steps` steps; real tokens (padding not counted), their room and seconds of
    those after the first `warmup_steps`."""
    import torch
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if torch.cuda.is_available() and len(self.ends) + 1 in (warmup_steps, steps):
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

    clock, counter = Clock(), Counter(model)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out),
            max_steps=steps,
            per_device_train_batch_size=batch_rows,
            gradient_checkpointing=False,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            max_length=None,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=dataset,
        processing_class=processor,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    timed = slice(warmup_steps, steps)
    return {
        "tokens": sum(int(tokens) for tokens in counter.tokens[timed]),
        "room": sum(counter.room[timed]),
        "seconds": clock.ends[steps - 1] - clock.ends[warmup_steps - 1],
    }
