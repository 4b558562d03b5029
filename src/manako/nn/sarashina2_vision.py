"""Sarashina2-Vision and Sarashina2.2-Vision, which `transformers` has no classes for.

Qwen2-VL's vision transformer and merger, one more LayerNorm over the merged vectors, and Llama with
positions 0, 1, 2, … (no M-RoPE). Parameters have the names of the published weights: `visual.*`,
`norm.*`, `llm.*`; nothing is renamed. A port that leaves `norm` out loads and answers, wrongly.

Sources: config.json, weights and model card of sbintuitions/sarashina2.2-vision-3b (MIT) and of
sbintuitions/sarashina2-vision-8b (MIT); building blocks of transformers 5.24, `models/qwen2_vl/`
and `models/llama/` (Apache-2.0), 5.23 the same.

Legend: B rows, T tokens of a row, P patches, X values of a patch, M merged vectors of all pictures
(a quarter of P), D width of the language model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from manako.nn.cache import cache_argument

if TYPE_CHECKING:
    from torch import Tensor

NORM_EPS = 1e-5
"""Of the LayerNorm behind the merger, torch's default; those inside the tower have 1e-6."""
PICTURE_INPUTS = ("pixel_values", "image_grid_thw")
TOWER_TYPES = ("qwen2_vl", "qwen2_vl_vision")
"""`model_type` of the tower in the published files, and in those that `transformers` writes."""


@strict
class Sarashina2VisionTowerConfig(Qwen2VLVisionConfig):  # type: ignore[no-untyped-call]
    """Qwen2-VL's, with an MLP that may be any multiple of the width: int(embed_dim · mlp_ratio).

    Sarashina2.2-Vision has SigLIP's 4304 for a width of 1152, which is no whole multiple.
    """

    model_type = "qwen2_vl"

    mlp_ratio: int | float = 4  # type: ignore[assignment]


class Sarashina2VisionConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """config.json as published: `vision_config`, `text_config`, and three token indices.

    image_token_index: the token whose places the picture's vectors take; start_, end_: around
    them. Raises `ValueError` naming field, found and expected for a tower or a language model of
    another kind.
    """

    model_type = "sarashina2_vision"
    sub_configs = {"vision_config": Sarashina2VisionTowerConfig, "text_config": LlamaConfig}  # noqa: RUF012

    vision_config: Any = None
    text_config: Any = None
    image_token_index: int | None = None
    start_image_token_index: int | None = None
    end_image_token_index: int | None = None

    def __post_init__(self, **others: Any) -> None:
        """Sub-configs from their mappings; fields that neither knows are kept as they are."""
        self.vision_config = _sub_config(self, "vision_config", TOWER_TYPES)
        self.text_config = _sub_config(self, "text_config", ("llama",))
        super().__post_init__(**others)  # type: ignore[no-untyped-call]
        _check_sizes(self)

    def to_dict(self) -> dict[str, Any]:
        """As the authors' code reads it, too: `transformers` 4 knows `rope_theta` alone."""
        written = super().to_dict()
        text = written["text_config"]
        rope = text.get("rope_parameters") or {}
        if "rope_theta" in rope:
            text["rope_theta"] = rope["rope_theta"]
        return written


def _sub_config(config: Any, name: str, kinds: tuple[str, ...]) -> Any:
    found = getattr(config, name)
    kind = config.sub_configs[name]
    if isinstance(found, PreTrainedConfig):
        return found
    fields = dict(found or {})
    if (said := fields.pop("model_type", kinds[0])) not in kinds:
        raise ValueError(f"{name}.model_type is {said!r}, expected {kinds[0]!r}")
    return kind(**fields)


def _check_sizes(config: Any) -> None:
    vision, text = config.vision_config, config.text_config
    facts = (
        ("vision_config.hidden_size", vision.hidden_size, text.hidden_size, "text_config has"),
        ("vision_config.embed_dim % num_heads", vision.embed_dim % vision.num_heads, 0, "expected"),
        ("vision_config.head width % 4", vision.embed_dim // vision.num_heads % 4, 0, "expected"),
    )
    for name, found, expected, verb in facts:
        if found != expected:
            raise ValueError(f"{name} is {found}, {verb} {expected}")


class Sarashina2VisionForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """Tower, merger, `norm` and Llama; the published class of the same name, written anew."""

    config_class = Sarashina2VisionConfig
    config: Any
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer", "Qwen2VLVisionBlock"]  # noqa: RUF012
    _skip_keys_device_placement = ["cache", "past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: Sarashina2VisionConfig) -> None:
        super().__init__(config)
        self.visual: Any = Qwen2VisionTransformerPretrainedModel(config.vision_config)
        self.norm = nn.LayerNorm(config.text_config.hidden_size, eps=NORM_EPS)
        self.llm: Any = LlamaForCausalLM(config.text_config)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.llm.get_input_embeddings()  # type: ignore[no-any-return]

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.llm.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.llm.get_output_embeddings()  # type: ignore[no-any-return]

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.llm.set_output_embeddings(value)

    def get_decoder(self) -> nn.Module:
        return self.llm.model  # type: ignore[no-any-return]

    def get_image_features(self, pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
        """pixel_values [P, X] of all pictures one after another, image_grid_thw [pictures, 3] in
        patches → [M, D]; no picture sees another."""
        pixels = pixel_values.to(self.visual.get_dtype())
        merged = self.visual(pixels, image_grid_thw, return_dict=True).pooler_output
        return self.norm(merged)  # type: ignore[no-any-return]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **others: Any,
    ) -> Any:
        """Logits of Llama over ids [B, T] whose picture tokens hold the pictures' vectors.

        What else is given (`segments`, …) reaches the language model alone. Raises `ValueError`
        unless there are as many picture tokens as vectors.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            vectors_MD = self._vectors(input_ids, pixel_values, image_grid_thw)
            inputs_embeds = self._placed(input_ids, inputs_embeds, vectors_MD)
        kept = past_key_values if cache is None else cache
        return self.llm(
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **cache_argument(self.llm, kept),
            **others,
        )

    def _vectors(self, input_ids: Any, pixel_values: Tensor, image_grid_thw: Any) -> Tensor:
        for name, needed in (("image_grid_thw", image_grid_thw), ("input_ids", input_ids)):
            if needed is None:
                raise ValueError(f"pixel_values are given without {name}")
        return self.get_image_features(pixel_values, image_grid_thw)

    def _placed(self, input_ids: Any, embeds_BTD: Any, vectors_MD: Tensor) -> Tensor:
        """The n-th picture token of the batch becomes the n-th vector."""
        is_picture_BT = input_ids == self.config.image_token_index
        found = int(is_picture_BT.sum())
        if found != len(vectors_MD):
            raise ValueError(
                f"image features and image tokens do not match: {len(vectors_MD)} vectors for "
                f"{found} tokens {self.config.image_token_index}"
            )
        vectors_MD = vectors_MD.to(embeds_BTD.device, embeds_BTD.dtype)
        return embeds_BTD.masked_scatter(is_picture_BT[..., None], vectors_MD)  # type: ignore[no-any-return]

    def prepare_inputs_for_generation(
        self, input_ids: Any, *inputs: Any, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Pictures are read once: later steps with a cache have none."""
        prepared: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, *inputs, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in PICTURE_INPUTS:
                prepared.pop(name, None)
        return prepared

    def _expand_inputs_for_generation(  # type: ignore[override]
        self, expand_size: int = 1, input_ids: Any = None, **others: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Beams and samples of one prompt: its pictures follow each copy of its row."""
        pictures = {name: others.pop(name, None) for name in PICTURE_INPUTS}
        if expand_size > 1 and pictures["pixel_values"] is not None:
            pictures = self._repeated(expand_size, input_ids, **pictures)
        ids, expanded = super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size=expand_size, input_ids=input_ids, **others
        )
        return ids, {**expanded, **{k: v for k, v in pictures.items() if v is not None}}

    def _repeated(
        self, copies: int, input_ids: Tensor, pixel_values: Tensor, image_grid_thw: Tensor
    ) -> dict[str, Tensor]:
        patches = image_grid_thw.prod(dim=1).tolist()
        each = list(zip(torch.split(pixel_values, patches), image_grid_thw, patches, strict=True))
        merged = self.config.vision_config.spatial_merge_size**2
        left = iter(each)
        order: list[Any] = []
        for tokens in (input_ids == self.config.image_token_index).sum(dim=1).tolist():
            row: list[Any] = []
            while sum(count for _, _, count in row) < tokens * merged:
                row.append(next(left))
            order += row * copies
        return {
            "pixel_values": torch.cat([pixels for pixels, _, _ in order]),
            "image_grid_thw": torch.stack([grid for _, grid, _ in order]),
        }


AutoConfig.register(Sarashina2VisionConfig.model_type, Sarashina2VisionConfig, exist_ok=True)
for _auto in (AutoModelForCausalLM, AutoModelForImageTextToText):
    _auto.register(Sarashina2VisionConfig, Sarashina2VisionForCausalLM, exist_ok=True)
