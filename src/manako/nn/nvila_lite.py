"""NVILA-Lite as Heron-NVILA-Lite has it: SigLIP, 2 x 2 patches joined, a two-layer projector, an LLM.

Facts: the authors' public code (NVlabs/VILA, Apache-2.0: `llava/remote_code`), the model cards of
turing-motors/Heron-NVILA-Lite, and the key names of SigLIP and Qwen2.5; written anew from those.

Two layouts are read and written, each with its own names. Folders `llm/`, `vision_tower/` and
`mm_projector/` beside a config.json of model_type `vila` are published. One flat set of weights
under a config.json of model_type `nvila_lite` is an *assumed* layout: prefixes as NVIDIA's
NVILA-Lite-hf has them, until a real flat Heron has been read. Rows of the vocabulary and the head of
the tower are as the weights have them, whatever config.json says: the authors' code cuts the token
table to the tokenizer's length and does not always write that down.

Legend: B prompts, T tokens, N tiles, P patches of a tile, C tower width, Q vectors of a tile, D width
of the language model.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from manako.core.errors import CheckpointError
from manako.core.files import read_json, write_json
from manako.nn.checkpoint import MAX_SHARD_SIZE, listed
from manako.nn.part_weights import (
    has_folders,
    part_of_name,
    read_weights,
    write_parts,
    write_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

FOLDERS = ("llm", "vision_tower", "mm_projector")
"""Parts of the model, and names of their folders."""
PROJECTOR = "mlp_downsample_2x2_fix"
PROJECTOR_TYPE = "v2l_projector"
LANGUAGE_MODELS = ("qwen2", "llama")
ALL_PATCHES = "cls_patch"
IMAGE = "<image>"
TOWER, OLD_TOWER = "vision_tower.", "vision_tower.vision_model."
"""How the tower's weights are called since transformers 5, and before, as in the published files."""
CACHE = (
    "cache"
    if "cache" in inspect.signature(Qwen2ForCausalLM.forward).parameters
    else ("past_key_values")
)
EMBEDDINGS = "llm.model.embed_tokens.weight"
GENERATION = "generation_config.json"


class NvilaLiteConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Fields of the assumed flat config.json. Raises `CheckpointError` for another kind of NVILA.

    image_token_id: whose places a picture takes; None where only shapes are asked for.
    mm_vision_select_layer: hidden state of the tower that is read, counted from its end.
    """

    model_type = "nvila_lite"
    sub_configs: ClassVar[dict[str, Any]] = {
        "text_config": AutoConfig,
        "vision_config": SiglipVisionConfig,
    }
    text_config: Any = None
    vision_config: Any = None
    image_token_id: int | None = None
    mm_projector_type: str = PROJECTOR
    mm_vision_select_layer: int = -2
    mm_vision_select_feature: str = ALL_PATCHES
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **fields: Any) -> None:
        self.text_config = _text_config(self.text_config)
        self.vision_config = _vision_config(self.vision_config)
        _expect("mm_projector_type", self.mm_projector_type, PROJECTOR)
        _expect("mm_vision_select_feature", self.mm_vision_select_feature, ALL_PATCHES)
        for name in ("s2", "dynamic_s2"):
            _expect(name, bool(fields.get(name)), False)
        layers = self.vision_config.num_hidden_layers
        if not -layers <= self.mm_vision_select_layer <= -1:
            raise _other(
                f"mm_vision_select_layer is {self.mm_vision_select_layer}, expected -{layers} to -1"
            )
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        super().__post_init__(**fields)  # type: ignore[no-untyped-call]

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **others: Any) -> Any:
        """Of the class that its model_type names."""
        kind = VilaConfig if config_dict.get("model_type") == VilaConfig.model_type else cls
        return super(NvilaLiteConfig, kind).from_dict(config_dict, **others)


class VilaConfig(NvilaLiteConfig):  # type: ignore[no-untyped-call]
    """Fields of the published config.json, whose parts are called otherwise: `llm_cfg`,
    `vision_tower_cfg`, `mm_projector_cfg`. A part that is named by a path is in `paths`."""

    model_type = "vila"
    published: ClassVar[dict[str, str]] = {
        "text_config": "llm_cfg",
        "vision_config": "vision_tower_cfg",
    }
    mm_projector_cfg: Any = None

    def __post_init__(self, **fields: Any) -> None:
        for name, published in self.published.items():
            if isinstance(fields.get(published), Mapping):
                setattr(self, name, getattr(self, name) or fields.pop(published))
        if isinstance(self.mm_projector_cfg, Mapping):
            self.mm_projector_type = self.mm_projector_cfg.get(
                "mm_projector_type", self.mm_projector_type
            )
        super().__post_init__(**fields)

    @property
    def has_paths(self) -> bool:
        """Whether parts are named by a path: their own folders say what they are."""
        named = (*self.published.values(), "mm_projector_cfg")
        return any(isinstance(getattr(self, name, None), str) for name in named)

    def projector(self) -> dict[str, Any]:
        """config.json of the projector's folder."""
        found = self.mm_projector_cfg if isinstance(self.mm_projector_cfg, Mapping) else {}
        kind = {"model_type": PROJECTOR_TYPE, "mm_projector_type": self.mm_projector_type}
        return {"architectures": ["MultimodalProjector"], **found, **kind}

    def to_dict(self) -> dict[str, Any]:
        """With the published names."""
        fields = super().to_dict()
        for name, published in self.published.items():
            fields[published] = fields.pop(name)
        fields["mm_projector_cfg"] = self.projector()
        fields.pop("mm_projector_type")
        return fields


def _expect(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise _other(f"{name} is {found!r}, expected {expected!r}")


def _other(what: str) -> CheckpointError:
    return CheckpointError(
        f"config.json describes no NVILA-Lite as Heron has it: {what}",
        next_step="choose one of turing-motors/Heron-NVILA-Lite-1B, -2B, -15B and -33B",
    )


def _text_config(found: Any) -> PreTrainedConfig:
    if isinstance(found, PreTrainedConfig):
        return found
    fields = dict(found or {})
    kind = fields.pop("model_type", LANGUAGE_MODELS[0])
    if kind not in LANGUAGE_MODELS:
        raise _other(f"the language model is {kind!r}, expected {' or '.join(LANGUAGE_MODELS)}")
    return AutoConfig.for_model(kind, **fields)


def _vision_config(found: Any) -> SiglipVisionConfig:
    if isinstance(found, SiglipVisionConfig):
        return found
    fields = dict(found or {})
    _expect(
        "the vision tower",
        fields.pop("model_type", SiglipVisionConfig.model_type),
        SiglipVisionConfig.model_type,
    )
    return SiglipVisionConfig(**{"vision_use_head": False, **fields})


class Downsample(nn.Module):
    """Neighbours side by side: [N, P, C] → [N, Q, 4 C], a vector's four patches row by row.

    An odd grid gets a row of zeros below and a column at the right.
    """

    def forward(self, x_NPC: Tensor) -> Tensor:
        side, half = math.isqrt(x_NPC.shape[1]), -(-math.isqrt(x_NPC.shape[1]) // 2)
        grid = x_NPC.reshape(-1, side, side, x_NPC.shape[-1])
        if side % 2:
            grid = functional.pad(grid, (0, 0, 0, 1, 0, 1))
        blocks = grid.reshape(len(grid), half, 2, half, 2, -1)
        return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


class Projector(nn.Module):
    """[N, P, C] → [N, Q, D]. The numbers of its layers are those of the published weights."""

    def __init__(self, config: NvilaLiteConfig) -> None:
        super().__init__()
        joined, width = 4 * config.vision_config.hidden_size, config.text_config.hidden_size
        self.layers = nn.Sequential(
            Downsample(),
            nn.LayerNorm(joined),  # torch's eps of 1e-5, the tower has 1e-6
            nn.Linear(joined, width),
            nn.GELU(),
            nn.Linear(width, width),
        )

    def forward(self, x_NPC: Tensor) -> Tensor:
        return self.layers(x_NPC)  # type: ignore[no-any-return]


class NvilaLiteForConditionalGeneration(  # type: ignore[no-untyped-call]
    PreTrainedModel, GenerationMixin
):
    """Ids hold the image token once for each of a tile's Q vectors; what stands between tiles (line
    breaks) are ids like any other. Tiles of all prompts go through the tower at once."""

    config_class = NvilaLiteConfig
    main_input_name = "input_ids"
    input_modalities = ("image", "text")  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = False

    def __init__(self, config: NvilaLiteConfig) -> None:
        super().__init__(config)
        self.llm: Any = AutoModelForCausalLM.from_config(config.text_config)  # type: ignore[no-untyped-call]
        self.vision_tower: Any = SiglipVisionModel._from_config(config.vision_config)  # type: ignore[no-untyped-call]
        self.mm_projector = Projector(config)
        self.has_folders = isinstance(config, VilaConfig)
        self.tower_name = OLD_TOWER
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> Any:
        return self.llm.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.llm.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        return self.llm.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        self.llm.set_output_embeddings(new_embeddings)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """[N, 3, H, W] → [N, Q, D]. The layers behind the one that is read are not computed, and
        no norm stands after it."""
        tower, layers = self.vision_tower, self.config.vision_config.num_hidden_layers
        hidden_NPC = tower.embeddings(pixel_values)
        for layer in tower.encoder.layers[: layers + 1 + self.config.mm_vision_select_layer]:
            hidden_NPC = layer(hidden_NPC, attention_mask=None)
        return self.mm_projector(hidden_NPC)  # type: ignore[no-any-return]

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: Any = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """What the language model gives. Raises `ValueError` unless there is one place in
        `input_ids` for each vector of `pixel_values` [N, 3, H, W]."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self._embedded(input_ids, pixel_values)
        elif pixel_values is not None:
            raise ValueError("pictures need input_ids, which say where they stand")
        held = past_key_values if cache is None else cache
        return self.llm(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **({} if held is None else {CACHE: held}),
            **kwargs,
        )

    def _embedded(self, ids_BT: Tensor, pixel_values: Tensor | None) -> Tensor:
        """[B, T, D]. The image token itself needs no row in the table."""
        table = self.get_input_embeddings()
        if pixel_values is None:
            return table(ids_BT)  # type: ignore[no-any-return]
        token_id = self.config.image_token_id
        if token_id is None:
            raise ValueError("the config has no image_token_id, so pictures have no place")
        is_image_BT = ids_BT == token_id
        text_BTD: Tensor = table(ids_BT.masked_fill(is_image_BT, 0))
        features = self.get_image_features(pixel_values).flatten(0, 1).to(text_BTD.dtype)
        if int(is_image_BT.sum()) != len(features):
            raise ValueError(
                f"{int(is_image_BT.sum())} image tokens for {len(features)} vectors of "
                f"{len(pixel_values)} tiles"
            )
        return text_BTD.masked_scatter(is_image_BT[..., None], features.to(text_BTD.device))

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Pixels in the first step only: then the cache has them."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs["pixel_values"] = pixel_values
        return inputs

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: Any, *arguments: Any, config: Any = None, **others: Any
    ) -> Any:
        """The model of a checkpoint folder in either layout; files are mapped, not copied.

        Raises `CheckpointError` where weights are missing; what else as transformers has it.
        """
        if source is None:
            return super().from_pretrained(None, *arguments, config=config, **others)
        folder = Path(source)
        config = _read_config(folder, config)
        is_parted, weights = has_folders(folder, FOLDERS), read_weights(folder, FOLDERS)
        _check_names(folder, weights)
        is_old = any(name.startswith(OLD_TOWER) for name in weights)
        named = {_own_name(name): tensor for name, tensor in weights.items()}
        _fit(config, named, text_folder := folder / FOLDERS[0] if is_parted else folder)
        found = super().from_pretrained(None, *arguments, config=config, state_dict=named, **others)
        model = found[0] if isinstance(found, tuple) else found
        model.has_folders, model.tower_name = is_parted, OLD_TOWER if is_old else TOWER
        model.name_or_path = model.config.name_or_path = str(source)
        if (text_folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(str(text_folder))
        return found

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: Any,
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        max_shard_size: int | str = MAX_SHARD_SIZE,
        safe_serialization: bool = True,
    ) -> None:
        """Write configs and weights in the layout and with the names that the model was read in."""
        if not safe_serialization:
            raise ValueError("weights are written as safetensors only")
        if not is_main_process:
            return
        folder = Path(save_directory)
        weights = self._published(self.state_dict() if state_dict is None else state_dict)
        self._write_configs(folder, next(iter(weights.values())).dtype)
        text_folder = folder / FOLDERS[0] if self.has_folders else folder
        if self.generation_config is not None:
            self.generation_config.save_pretrained(str(text_folder))
        if self.has_folders:
            write_parts(folder, weights, FOLDERS, max_shard_size)
        else:
            write_weights(folder, weights, max_shard_size)

    def _published(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By the names in the files; a weight that is tied to another is left out."""
        tied = self.all_tied_weights_keys
        kept = {n: t for n, t in weights.items() if tied.get(n) not in weights}
        return {
            self.tower_name + n.removeprefix(TOWER) if n.startswith(TOWER) else n: t
            for n, t in kept.items()
        }

    def _write_configs(self, folder: Path, dtype: torch.dtype) -> None:
        config: Any = copy.deepcopy(self.config)
        config.architectures = config.architectures or [type(self).__name__]
        for each in (config, config.text_config, config.vision_config):
            each.dtype = dtype
        if getattr(config, "model_dtype", None) is not None:
            config.model_dtype = str(dtype)
        folder.mkdir(parents=True, exist_ok=True)
        config.to_json_file(str(folder / "config.json"))
        if not self.has_folders:
            return
        language = {"architectures": [type(self.llm).__name__], **_for_old_readers(config)}
        tower = {"architectures": ["SiglipVisionModel"], **config.vision_config.to_diff_dict()}
        for part, fields in zip(FOLDERS, (language, tower, _projector(config)), strict=True):
            (folder / part).mkdir(exist_ok=True)
            write_json(folder / part / "config.json", fields)


class VILAForCausalLM(NvilaLiteForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same, by the name that the published config.json has."""

    config_class = VilaConfig


def _for_old_readers(config: NvilaLiteConfig) -> dict[str, Any]:
    """config.json of the language model, with the one field that transformers 4 would miss."""
    fields: dict[str, Any] = config.text_config.to_diff_dict()
    rope = fields.get("rope_parameters") or {}
    return {**fields, **({"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {})}


def _projector(config: NvilaLiteConfig) -> dict[str, Any]:
    if isinstance(config, VilaConfig):
        return config.projector()
    return {"model_type": PROJECTOR_TYPE, "mm_projector_type": config.mm_projector_type}


def _read_config(folder: Path, config: Any) -> NvilaLiteConfig:
    """A copy of `config`, or what the files say where it is none or names parts by paths."""
    if isinstance(config, NvilaLiteConfig) and not getattr(config, "has_paths", False):
        return copy.deepcopy(config)
    from manako.core.family import family_of

    fields = family_of(folder).read_config(folder)
    return NvilaLiteConfig.from_dict(copy.deepcopy(fields))  # type: ignore[no-any-return]


def _own_name(name: str) -> str:
    return TOWER + name.removeprefix(OLD_TOWER) if name.startswith(OLD_TOWER) else name


def _check_names(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` where flat weights have a name that is not of the assumed layout."""
    if found := {part_of_name(name) for name in weights} - set(FOLDERS):
        raise CheckpointError(
            f"{folder}: names of the weights begin with {listed(found)}; the flat layout, which is an "
            f"assumed layout (as NVIDIA's NVILA-Lite-hf has it), begins them with {listed(FOLDERS)}",
            next_step="take the repository without -hf, which has the three folders; and report "
            "these names, so that the layout is known",
        )


def _fit(config: NvilaLiteConfig, weights: Mapping[str, Tensor], text_folder: Path) -> None:
    """Rows of the vocabulary and the tower's head as the weights have them; the image token's id of
    the tokenizer where config.json names none, as the published one does."""
    if EMBEDDINGS in weights:
        config.text_config.vocab_size = len(weights[EMBEDDINGS])
    config.vision_config.vision_use_head = any(n.startswith(f"{TOWER}head.") for n in weights)
    if config.image_token_id is None and (text_folder / "tokenizer.json").is_file():
        added = read_json(text_folder / "tokenizer.json").get("added_tokens", [])
        ids = [int(token["id"]) for token in added if token["content"] == IMAGE]
        if not ids:
            raise CheckpointError(
                f"{text_folder}/tokenizer.json has no control token {IMAGE}",
                next_step="take all tokenizer files from the model's own repository",
            )
        config.image_token_id = ids[0]


AutoConfig.register(NvilaLiteConfig.model_type, NvilaLiteConfig, exist_ok=True)
AutoConfig.register(VilaConfig.model_type, VilaConfig, exist_ok=True)
AutoModelForImageTextToText.register(
    NvilaLiteConfig, NvilaLiteForConditionalGeneration, exist_ok=True
)
AutoModelForImageTextToText.register(VilaConfig, VILAForCausalLM, exist_ok=True)
AutoModelForCausalLM.register(VilaConfig, VILAForCausalLM, exist_ok=True)
