"""The recipe: everything a training run is told, as frozen dataclasses; YAML in and out.

Fields that mean what a `transformers.TrainingArguments` field means carry its name. A recipe is
checked when it is made: a wrong one never starts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from manako.core.errors import MissingFileError, NotInThisVersion, RecipeError
from manako.core.family import PARTS, PartName
from manako.core.settings import build, parse_assignment, parse_yaml, plain, write_yaml

Method = Literal["full", "lora", "qlora"]
TooLong = Literal["error", "drop", "shrink_images", "trim_text"]
DEFAULT_TRAIN: Mapping[str, str] = {"language": "1e-5", "projector": "1e-5", "vision": "frozen"}
"""How parts are trained where a recipe says nothing; parts that a model lacks are passed over."""
PART_SETTING = re.compile(r"^(?:(?P<how>full|lora)\s+)?(?P<rate>[0-9.eE+-]+)$")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set in canonical form, and how often it is drawn from.

    path: folder that `manako data convert` made.
    weight: share relative to the other sources.
    weight_in: what is weighed, rows or answer tokens; the same in all sources.
    name: how stages call it (default: the last part of the path).
    config: of a data set on the Hub; not in this version.
    """

    path: str
    weight: float = 1.0
    weight_in: Literal["rows", "answer_tokens"] = "rows"
    name: str = ""
    config: str | None = None

    def __post_init__(self) -> None:
        _positive("data.weight", self.weight)
        if self.path.startswith("hf://") or self.config is not None:
            raise NotInThisVersion(
                f"data.path {self.path!r}: data sets on the Hub are not in this version",
                next_step="convert the data set with `manako data convert` and give its folder",
            )
        if not self.name:
            object.__setattr__(self, "name", Path(self.path).name)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A share of the steps with weights of its own.

    share: relative to the other stages.
    weights: of the sources, by name; one that is not named is not drawn.
    """

    share: float
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        _positive("stages.share", self.share)
        if not self.weights or any(weight < 0 for weight in self.weights.values()):
            raise RecipeError(f"stages.weights needs weights ≥ 0, found {dict(self.weights)}")
        if not any(self.weights.values()):
            raise RecipeError("stages.weights are all 0: nothing would be drawn")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Validation loss during training.

    data: folder that `manako data convert` made, of rows that are not trained on.
    every_steps: how often.
    max_rows: on how many rows at most.
    """

    data: str
    every_steps: int
    max_rows: int = 512

    def __post_init__(self) -> None:
        _positive("eval.every_steps", self.every_steps)
        _positive("eval.max_rows", self.max_rows)


@dataclass(frozen=True, kw_only=True)
class PartSetting:
    """How one part of the model is trained: frozen, in full, or through adapters."""

    how: Literal["frozen", "full", "lora"]
    learning_rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    model: folder of the checkpoint to start from, a name on the Hub (`org/name`), or `mini`, which
        ships with Manako.
    model_revision: branch, tag or commit of a model on the Hub; without one, `main`. A run's own
        recipe names the commit.
    accept_facts: names of facts that the checkpoint's files contradict and that are taken as they are
        known of its family; without it such a checkpoint is refused, and the error gives the name.
    data: the data sets to train on, in canonical form.
    output_dir: folder of the run; a run that lies there goes on.
    stages: shares of the steps with weights of their own, one after another; without stages the
        weights of `data` hold throughout.
    method: `full` or `lora`; how a part is trained where `train` does not say.
    train: per part (vision, projector, language) a learning rate, `frozen`, `full RATE` or
        `lora RATE`. A bare rate means `method` for the language part and `full` for the others.
    lora_r, lora_alpha, lora_dropout: rank of the adapters, their scale (they count `lora_alpha /
        lora_r`), and dropout before them.
    pack_tokens: room of a pack, one row of the model's input that holds several conversations.
    global_batch_packs: packs of one step; they pass one by one, and their gradients are summed.
    pack_window_rows: conversations looked at together when packs are filled.
    too_long: what becomes of a conversation that is longer than a pack.
    min_pixels, max_pixels: picture limits, instead of the checkpoint's.
    num_train_epochs: how often the data is drawn, in rows of all sources together.
    max_steps: 0 means `num_train_epochs` decides.
    optim: `adamw`, or `muon` for matrices of hidden layers with AdamW for the rest; AdamW with
        moments of 8 bits is `adamw_bnb_8bit` where bitsandbytes is installed, `adamw_torch_8bit`
        where torchao is.
    optim_state_dtype: what the optimizer keeps from step to step, for `adamw` and `muon`;
        `bfloat16` halves it.
    adam_beta1, adam_beta2, adam_epsilon: of AdamW.
    weight_decay: of tensors with two dimensions and more.
    max_grad_norm: gradients are scaled down to this norm, all parts together; 0 leaves them.
    muon_momentum: of Muon.
    muon_adamw_ratio: with `optim: muon`, the rate of the tensors that AdamW trains (embeddings,
        head, one-dimensional), relative to their part's rate.
    lr_scheduler_type: how the rate falls: `cosine`, `linear`, or not (`constant`);
        `warmup_stable_decay` holds it and lets it fall at the end, as `lr_decay_type` says.
    lr_decay_ratio: share of the steps, at the end, over which the rate falls; 1 means all.
    lr_decay_type: with `warmup_stable_decay`, how it falls: `cosine`, `linear` or `1-sqrt`.
    warmup_steps: steps, or a share of them when below 1.
    bf16: compute in bfloat16; what is trained stays float32.
    gradient_checkpointing: `true`, or one part (`vision`, `language`): its layers keep only their
        inputs and are computed a second time in the backward pass; a frozen vision part keeps
        nothing anyway.
    seed: of the order of rows, of fresh adapters and of dropout.
    eval: validation loss during training: `data` (a folder), `every_steps`, `max_rows`.
    logging_steps, save_steps: a line in `record.jsonl`, and a checkpoint, every so many steps.
    save_total_limit: checkpoints that are kept, the latest.
    dataloader_num_workers: processes that make packs ready beside the training process.
    cpu_threads: threads that torch computes with on a CPU; 0 leaves torch's own number, one per
        core. A small model is quicker with one, and so is a busy machine.
    fsdp: the ranks of a run share weights, gradients and optimizer state out, each with its part, where
        otherwise each holds all of them (PyTorch's FSDP2); for models trained in full with `adamw`.
    ddp_timeout: seconds that processes which train together wait for one another before they end
        with an error.
    report_to: `tensorboard`, or nothing; `record.jsonl` is always written.
    """

    model: str
    data: tuple[Source, ...]
    output_dir: str
    model_revision: str | None = None
    accept_facts: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    method: Method = "full"
    train: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_TRAIN))
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    pack_tokens: int = 8192
    global_batch_packs: int = 16
    pack_window_rows: int = 256
    too_long: TooLong = "error"
    min_pixels: int | None = None
    max_pixels: int | None = None
    num_train_epochs: float = 1.0
    max_steps: int = 0
    optim: Literal["adamw", "muon", "adamw_bnb_8bit", "adamw_torch_8bit"] = "adamw"
    optim_state_dtype: Literal["float32", "bfloat16"] = "float32"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    muon_momentum: float = 0.95
    muon_adamw_ratio: float = 1.0
    lr_scheduler_type: Literal["cosine", "linear", "constant", "warmup_stable_decay"] = "cosine"
    lr_decay_ratio: float = 1.0
    lr_decay_type: Literal["cosine", "linear", "1-sqrt"] = "cosine"
    warmup_steps: float = 0
    bf16: bool = False
    gradient_checkpointing: Literal[False, True, "vision", "language"] = False
    seed: int = 0
    eval: Evaluation | None = None
    logging_steps: int = 1
    save_steps: int = 200
    save_total_limit: int = 2
    dataloader_num_workers: int = 1
    cpu_threads: int = 0
    fsdp: bool = False
    ddp_timeout: int = 1800
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("pack_tokens", "global_batch_packs", "pack_window_rows", "logging_steps"):
            _positive(name, getattr(self, name))
        for name in ("save_steps", "save_total_limit", "lora_r", "lora_alpha", "ddp_timeout"):
            _positive(name, getattr(self, name))
        _positive("num_train_epochs", self.num_train_epochs)
        _at_least_zero("max_steps", self.max_steps)
        _at_least_zero("warmup_steps", self.warmup_steps)
        _at_least_zero("dataloader_num_workers", self.dataloader_num_workers)
        _at_least_zero("cpu_threads", self.cpu_threads)
        self._check_schedule()
        self._check_sources()
        self._check_methods()
        self._check_memory()
        self._check_sharing()
        self._check_reports()

    def _check_schedule(self) -> None:
        if not 0 < self.lr_decay_ratio <= 1:
            raise RecipeError(f"lr_decay_ratio must lie in (0, 1], found {self.lr_decay_ratio}")
        is_wsd = self.lr_scheduler_type == "warmup_stable_decay"
        if is_wsd and self.lr_decay_ratio == 1:
            raise RecipeError(
                "lr_scheduler_type: warmup_stable_decay with lr_decay_ratio 1 would hold no rate",
                next_step="set lr_decay_ratio to the share of the steps over which it falls, "
                "such as 0.2",
            )
        if not is_wsd and self.lr_decay_type != "cosine":
            raise RecipeError(
                f"lr_decay_type: {self.lr_decay_type} says nothing under "
                f"lr_scheduler_type: {self.lr_scheduler_type}",
                next_step="set lr_scheduler_type: warmup_stable_decay, or leave lr_decay_type out",
            )

    def _check_sources(self) -> None:
        if not self.data:
            raise RecipeError("data names no source", next_step="add `- path: FOLDER` under data")
        names = [source.name for source in self.data]
        if len(set(names)) < len(names):
            raise RecipeError(
                f"data: two sources share a name ({', '.join(names)})",
                next_step="give each a `name:` of its own",
            )
        if len({source.weight_in for source in self.data}) > 1:
            raise RecipeError("data.weight_in differs between sources: one recipe weighs one thing")
        for stage in self.stages:
            if unknown := set(stage.weights) - set(names):
                raise RecipeError(
                    f"stages.weights names {', '.join(sorted(unknown))}; "
                    f"the sources are {', '.join(names)}"
                )

    def _check_methods(self) -> None:
        if self.method == "qlora":
            raise NotInThisVersion(
                "method: qlora is not in this version", next_step="use method: lora"
            )
        settings = self.part_settings()
        if all(setting.how == "frozen" for setting in settings.values()):
            raise RecipeError("train freezes every part: nothing would be trained")
        if self.method == "lora" and not any(s.how == "lora" for s in settings.values()):
            raise RecipeError("method: lora, but train gives no part a `lora` rate")

    def _check_memory(self) -> None:
        if self.gradient_checkpointing == "vision" and not self.recomputed_parts():
            raise RecipeError(
                "gradient_checkpointing: vision would save nothing: train freezes the vision part, "
                "so it keeps nothing for the backward pass",
                next_step="set gradient_checkpointing: language",
            )
        if self.optim_state_dtype != "float32" and self.optim.endswith("_8bit"):
            raise RecipeError(
                f"optim_state_dtype: {self.optim_state_dtype} says nothing under optim: "
                f"{self.optim}, which keeps 8 bits",
                next_step="leave optim_state_dtype out, or set optim: adamw",
            )

    def _check_sharing(self) -> None:
        if not self.fsdp:
            return
        if adapted := [part for part, s in self.part_settings().items() if s.how == "lora"]:
            raise NotInThisVersion(
                f"fsdp: adapters ({', '.join(adapted)}) are not shared out in this version",
                next_step="leave fsdp out: every rank then holds the frozen model, and of "
                "adapters little is sent; or train in full",
            )
        if self.optim != "adamw":
            raise NotInThisVersion(
                f"fsdp: optim: {self.optim} needs whole tensors, which no rank has",
                next_step="set optim: adamw; optim_state_dtype: bfloat16 halves its state",
            )

    def _check_reports(self) -> None:
        if unknown := set(self.report_to) - {"tensorboard"}:
            raise NotInThisVersion(
                f"report_to: {', '.join(sorted(unknown))} is not in this version",
                next_step="known: tensorboard; record.jsonl and report.html are always written",
            )

    def part_settings(self) -> dict[PartName, PartSetting]:
        """How each part is trained; a part that `train` does not name is frozen."""
        if unknown := set(self.train) - set(PARTS):
            raise RecipeError(
                f"train names {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}"
            )
        return {part: self._part_setting(part) for part in PARTS}

    def recomputed_parts(self) -> tuple[PartName, ...]:
        """Parts whose layers are computed again in the backward pass: those asked for that
        gradients reach. They always reach the language part, which lies above all others."""
        asked = self.gradient_checkpointing
        settings = self.part_settings()
        reached: tuple[PartName, ...] = ("language",)
        if settings["vision"].how != "frozen":
            reached = ("vision", "language")
        return tuple(part for part in reached if asked is True or asked == part)

    def _part_setting(self, part: PartName) -> PartSetting:
        value = str(self.train.get(part, "frozen")).strip()
        if value == "frozen":
            return PartSetting(how="frozen")
        match = PART_SETTING.match(value)
        try:
            rate = float(match["rate"]) if match else -1.0
        except ValueError:
            rate = -1.0
        if match is None or rate <= 0:
            raise RecipeError(
                f"train.{part} is {value!r}; expected a rate > 0, `frozen`, `full RATE` or "
                "`lora RATE`"
            )
        if match["how"]:
            return PartSetting(how=match["how"], learning_rate=rate)  # type: ignore[arg-type]
        is_adapted = self.method == "lora" and part == "language"
        return PartSetting(how="lora" if is_adapted else "full", learning_rate=rate)

    def replace(self, **changes: Any) -> Recipe:
        """A recipe with other values in these fields."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """A recipe from plain values. Raises `RecipeError` naming the field, and the nearest
        valid name for an unknown one."""
        return build(cls, values, where="recipe")

    @classmethod
    def load(cls, path: Path, assignments: tuple[str, ...] = ()) -> Recipe:
        """A recipe from a YAML file, with `key=value` overrides (`train.vision=frozen`)."""
        if not path.is_file():
            raise MissingFileError(f"no recipe at {path}")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is no UTF-8 text: {error}") from error
        values = parse_yaml(text, where=str(path))
        if not isinstance(values, dict):
            raise RecipeError(f"{path} holds no fields")
        for assignment in assignments:
            parse_assignment(assignment, values)
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, every field, as `recipe.yaml` of a run keeps them."""
        return plain(self)  # type: ignore[no-any-return]

    def to_yaml(self) -> str:
        """The recipe as YAML; `Recipe.load` of it gives an equal recipe."""
        return write_yaml(self.to_dict())


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise RecipeError(f"{name} must be above 0, found {value}")


def _at_least_zero(name: str, value: float) -> None:
    if value < 0:
        raise RecipeError(f"{name} must not be below 0, found {value}")
