"""The family contract: what code must know of one architecture, and a checkpoint opened by it.

One file per family in `families/` exports `FAMILY`; rooms read it through this contract alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from manako.core.discovery import Found, discover
from manako.core.errors import CheckpointError
from manako.core.files import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from manako.core.conversation import Conversation, Image, Message
    from manako.core.example import Example, IntArray, Lengths, Pack

PartName = Literal["vision", "projector", "language"]
PARTS: tuple[PartName, ...] = ("vision", "projector", "language")
AttentionRule = Literal["causal", "image_blocks", "soft_capped", "segment_split"]
VisionBlock = Literal["plain", "gated"]
FLAT_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""Beside config.json, where a checkpoint keeps its parts in no folders."""
PixelReference = Literal["torch_aa", "pil", "float_interpolate"]


@dataclass(frozen=True, kw_only=True)
class PixelRule:
    """How uint8 pixels become what the model reads; applied on the device by `nn/batch.py`.

    value = (pixel · scale − mean[c]) / std[c], channels on axis −3; arrays that are float32 already
    stay as they are. With `temporal_copies` k > 0 a still picture stands k times along time and
    each patch is flattened: [N, C, p, p] → [N, C·k·p·p], channel-major as Qwen2-VL wants it; a
    video's k frames stand for themselves: [N, k, C, p, p] → [N, C·k·p·p].
    key, video_key: the model's keywords for pixels of pictures and of videos.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    temporal_copies: int = 0
    reference: PixelReference = "torch_aa"
    resample: str = "bicubic"
    key: str = "pixel_values"
    video_key: str = "pixel_values_videos"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A picture as the model sees it: uint8 [H, W, 3], and its token grid (rows, columns)."""

    pixels: NDArray[Any]
    rows: int
    columns: int


class Processor(Protocol):
    """A family opened on one checkpoint folder. Picklable: worker processes get a copy."""

    @property
    def family(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    @property
    def pixel_rule(self) -> PixelRule: ...

    @property
    def image_token_id(self) -> int | None:
        """The id whose places the picture's vectors take; None where no picture is taken."""
        ...

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how this checkpoint's files are read."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Named hashes of what decides tokens and pixels: tokenizer, template, image settings."""
        ...

    def measure(self, conversation: Conversation) -> Lengths:
        """Lengths of `encode(conversation)`; reads image headers only, decodes no pixel."""
        ...

    def encode(self, conversation: Conversation) -> Example:
        """A training example: what the template renders, and which tokens are trained."""
        ...

    def encode_prompt(self, conversation: Conversation) -> Example:
        """What the model is asked: the conversation, then the head of the answer to come."""
        ...

    def parse(self, token_ids: Sequence[int]) -> Message:
        """The assistant message that generated `token_ids` stand for."""
        ...

    def positions(self, example: Example) -> IntArray:
        """int32 [A, T]: rotary positions of one conversation on A axes (1, or 3 for M-RoPE)."""
        ...

    def model_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        """The model's keyword arguments as numpy arrays. Raises `BatchError` for a missing key."""
        ...

    def attention_inputs(self, pack: Pack) -> dict[str, Any]:
        """What attention over a pack is told besides arrays: `segments`, its conversations'
        boundaries 0 = s₀ < s₁ < … = T, and what else the family's rule needs."""
        ...

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as readable text (bytes that are no whole character as U+FFFD)."""
        ...

    def see(self, image: Image) -> Seen:
        """The picture after resizing, with its token grid."""
        ...

    def with_pixel_limits(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Processor:
        """The same processor with other picture limits (pixels per picture). Raises `RecipeError`
        where the family has no such limits, or not these."""
        ...

    def save(self, folder: Path) -> None:
        """Write tokenizer, template and image settings, in force as they are, into `folder`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a tiny checkpoint's template, tokenizer and processor settings come from.

    Each is a public file with its revision, or `reconstructed`.
    """

    template: str
    tokenizer: str
    processor: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """What code must know of one architecture, without any checkpoint.

    parts: parameter-name prefixes of each part; the longest prefix that matches decides.
    adapter_targets: per part, a regular expression that matches whole names of linear modules.
    model_class: class that holds the weights, in the module `model_module`: of `transformers`, or
        of `manako.nn` where that has none. Importing the module registers its classes with the
        Auto classes, and what the published weights are called with `transformers`' own
        conversions: it reads and writes the published names itself.
    vision_block: `plain` has LayerNorm and a two-layer MLP, `gated` RMSNorm and a gated MLP.
    required_inputs: keys of `model_inputs` without which the model fails, or goes wrong silently,
        where there are pictures; required_video_inputs: where there are videos. Empty: none taken.
    image_tokens: (width, height, the processor's `settings`) → tokens of a picture.
    make_tiny: writes a tiny random checkpoint with the published file layout into a folder.
    part_folders: folders that hold the parts of a checkpoint, each with a config.json and weights
        of its own, that of the language part first, which has the text files too. A checkpoint that
        lacks them is flat, as those of most families are.
    not_applicable: law number → reason why it cannot apply to this family.
    never_trained: prefixes of parameters that stand in a part and that no recipe trains: branches
        for inputs that Manako does not give (sound).
    refusal: why a config.json of one of `model_types` is not of this family, and nothing where it
        is; needed where several architectures share a model_type.
    """

    name: str
    model_types: tuple[str, ...]
    model_class: str
    parts: Mapping[PartName, tuple[str, ...]]
    adapter_targets: Mapping[PartName, str]
    attention: AttentionRule
    required_inputs: tuple[str, ...]
    image_tokens: Callable[[int, int, Any], int]
    open: Callable[[Path], Processor]
    make_tiny: Callable[..., None]
    tiny_sources: Sources
    vision_block: VisionBlock = "plain"
    takes_images: bool = True
    required_video_inputs: tuple[str, ...] = ()
    model_module: str = "transformers"
    part_folders: tuple[str, ...] = ()
    not_applicable: Mapping[int, str] = field(default_factory=dict)
    never_trained: tuple[str, ...] = ()
    refusal: Callable[[Mapping[str, Any]], str] = lambda config: ""

    @property
    def takes_videos(self) -> bool:
        return bool(self.required_video_inputs)

    def part_of(self, name: str) -> PartName:
        """The part that a parameter or module of this name belongs to."""
        best: tuple[int, PartName] = (-1, "language")
        for part, prefixes in self.parts.items():
            for prefix in prefixes:
                if _is_under(name, prefix) and len(prefix) > best[0]:
                    best = (len(prefix), part)
        if best[0] < 0:
            raise CheckpointError(f"parameter {name} belongs to no part of family {self.name}")
        return best[1]

    def has_part_folders(self, folder: Path) -> bool:
        """Whether the parts of this checkpoint lie in folders of their own."""
        return any((folder / name).is_dir() for name in self.part_folders)

    def text_folder(self, folder: Path) -> Path:
        """Where a checkpoint keeps tokenizer, template and generation_config.json."""
        return folder / self.part_folders[0] if self.has_part_folders(folder) else folder

    def read_config(self, folder: Path) -> dict[str, Any]:
        """config.json; that of each part folder `NAME` stands in it as `NAME_cfg`.

        Raises `CheckpointError` where some part folders are there and others are not, or weights
        beside them.
        """
        config = _read_config(folder)
        if not self.has_part_folders(folder):
            return config
        if flat := [name for name in FLAT_WEIGHTS if (folder / name).is_file()]:
            there = [f"{name}/" for name in self.part_folders if (folder / name).is_dir()]
            raise CheckpointError(
                f"{folder} has its weights twice: {flat[0]}, and in {', '.join(there)}",
                next_step="keep one layout: move the folders away, or that file",
            )
        missing = [
            name for name in self.part_folders if not (folder / name / "config.json").is_file()
        ]
        if missing:
            there = [name for name in self.part_folders if name not in missing]
            raise CheckpointError(
                f"{folder} has its parts in folders, and {', '.join(f'{n}/' for n in missing)} is "
                f"missing or has no config.json (there is {', '.join(f'{n}/' for n in there)})",
                next_step="copy all of them from the same revision of the model: "
                + ", ".join(f"{name}/" for name in self.part_folders),
            )
        return {
            **config,
            **{f"{name}_cfg": _read_config(folder / name) for name in self.part_folders},
        }

    def is_trainable(self, name: str) -> bool:
        """Whether a recipe may train the parameter of this name."""
        return not any(_is_under(name, prefix) for prefix in self.never_trained)


def _is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def families() -> Found:
    """All families, by file name."""
    return discover("manako.families", "FAMILY")


def family_of(folder: Path) -> Family:
    """The family of a checkpoint folder, by the `model_type` of its config.json.

    Raises `CheckpointError` when the folder is no checkpoint or no family knows its model_type.
    """
    config, config_file = _read_config(folder), folder / "config.json"
    model_type = config.get("model_type", "")
    found = families()
    named = [family for family in found.items.values() if model_type in family.model_types]
    reasons = {family.name: family.refusal(config) for family in named}
    for family in named:
        if not reasons[family.name]:
            return family  # type: ignore[no-any-return]
    if named:
        said = "; ".join(f"it is no {name}: {why}" for name, why in reasons.items())
        raise CheckpointError(
            f"{config_file}: model_type {model_type!r} is that of {', '.join(reasons)}, but {said}",
            next_step="choose a checkpoint whose vision and language parts this version knows",
        )
    known = sorted(kind for family in found.items.values() for kind in family.model_types)
    broken = "".join(f"; family file {name} is broken: {why}" for name, why in found.broken.items())
    raise CheckpointError(
        f"{config_file}: model_type {model_type!r} belongs to no family of this version"
        f" (known: {', '.join(known)}){broken}",
        next_step="choose a checkpoint of a known model_type",
    )


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no config.json",
            next_step="give the folder that holds config.json, tokenizer.json and *.safetensors",
        )
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / 'config.json'} holds no JSON object")
    return config
