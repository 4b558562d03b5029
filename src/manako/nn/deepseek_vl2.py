"""DeepSeek-VL2 natively: a SigLIP tower in timm's names, a projector, tiles laid out as one map.

Written from the authors' public code (deepseek-ai/DeepSeek-VL2, MIT). A checkpoint is read and
written with the published names; importing this module tells `transformers` how the experts of a
layer become one tensor, and the Auto classes which class the model is.

The tower's pooling head stands in the published weights and in the model, so that saved weights are
complete, and is never computed.

Legend: N tiles, C channels of the tower, s a tile's side in patches or vectors, D width of the
language model, B conversations, T tokens.
"""

# mypy: disable-error-code="no-untyped-call"
# `transformers` and some methods of tensors have no types for what is called here.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    PreTrainedConfig,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from manako.nn.cache import cache_name
from manako.nn.deepseek_vl2_text import (
    DeepseekVL2LanguageConfig,
    DeepseekVL2LanguageModel,
    DeepseekVL2PreTrainedModel,
    attend,
    check_language,
    demand,
)

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPE = "deepseek_vl_v2"
TOWER = "siglip_so400m_patch14_384"
TOWER_EPS = 1e-6
OUTPUT_CACHE = cache_name(CausalLMOutputWithPast)
PICTURE_INPUTS = ("pixel_values", "images_spatial_crop", "images_seq_mask")


class DeepseekVL2VisionConfig(PreTrainedConfig):
    """`vision_config`; global_pool: "map" where the file holds a pooling head."""

    model_type = "vision"
    base_config_key = "vision_config"

    model_name: str = TOWER
    image_size: int = 384
    patch_size: int = 14
    width: int = 1152
    layers: int = 27
    heads: int = 16
    mlp_ratio: float = 3.7362
    global_pool: str | None = "map"
    ignore_head: bool = True
    class_token: bool = False
    attention_dropout: float = 0.0


class DeepseekVL2ProjectorConfig(PreTrainedConfig):
    """`projector_config`."""

    model_type = "mlp_projector"
    base_config_key = "projector_config"

    projector_type: str = "downsample_mlp_gelu"
    input_dim: int = 1152
    n_embed: int = 2048
    depth: int = 2
    mlp_ratio: int = 1
    downsample_ratio: int = 2
    token_pooling: bool = False


class DeepseekVL2Config(PreTrainedConfig):
    """config.json as published.

    candidate_resolutions: (width, height) of the sheets of tiles. Fields that are left out are as
    in the authors' classes. Which variants can be built is said when a model is (`check`).
    """

    model_type = MODEL_TYPE
    sub_configs_defaults = {  # noqa: RUF012
        "language_config": SubConfigSpec(DeepseekVL2LanguageConfig),
        "vision_config": SubConfigSpec(DeepseekVL2VisionConfig),
        "projector_config": SubConfigSpec(DeepseekVL2ProjectorConfig),
    }

    language_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    projector_config: dict[str, Any] | PreTrainedConfig | None = None
    tile_tag: str = "2D"
    global_view_pos: str = "head"
    candidate_resolutions: list[list[int]] | tuple[tuple[int, int], ...] = ((384, 384),)
    tie_word_embeddings: bool = False

    def get_text_config(
        self, decoder: bool | None = None, encoder: bool | None = None
    ) -> PreTrainedConfig:
        return self.language_config  # type: ignore[return-value]

    def check(self) -> None:
        """Raise `ValueError` for what is not DeepSeek-VL2, or is no published variant of it: the
        field, what was found and what was expected."""
        vision, projector = self.vision_config, self.projector_config
        assert isinstance(vision, DeepseekVL2VisionConfig)
        assert isinstance(projector, DeepseekVL2ProjectorConfig)
        assert isinstance(self.language_config, DeepseekVL2LanguageConfig)
        demand("vision_config.model_name", vision.model_name, TOWER)
        demand("vision_config.class_token", vision.class_token, False)
        demand("vision_config.global_pool", vision.global_pool, "map", "", None)
        demand("projector_config.projector_type", projector.projector_type, "downsample_mlp_gelu")
        demand("projector_config.depth", projector.depth, 2)
        demand("projector_config.mlp_ratio", projector.mlp_ratio, 1)
        demand("projector_config.token_pooling", projector.token_pooling, False)
        demand("projector_config.input_dim", projector.input_dim, vision.width)
        demand("projector_config.n_embed", projector.n_embed, self.language_config.hidden_size)
        demand("tile_tag", self.tile_tag, "2D")
        demand("global_view_pos", self.global_view_pos, "head")
        check_language(self.language_config)


class DeepseekVL2VisionAttention(nn.Module):
    """Queries, keys and values of a tile in one product."""

    def __init__(self, config: DeepseekVL2VisionConfig) -> None:
        super().__init__()
        self.config, self.is_causal, self.num_key_value_groups = config, False, 1
        self.head_width = config.width // config.heads
        self.scaling = self.head_width**-0.5
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x_NLC: Tensor) -> Tensor:
        """Each tile sees itself alone, and all of itself."""
        q, k, v = (
            part.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for part in self.qkv(x_NLC).chunk(3, dim=-1)
        )
        return self.proj(attend(self, q, k, v, None))  # type: ignore[no-any-return]


class DeepseekVL2VisionMLP(nn.Module):
    """Two linear layers with a GELU by tanh between them."""

    def __init__(self, config: DeepseekVL2VisionConfig) -> None:
        super().__init__()
        inner = int(config.width * config.mlp_ratio)
        self.fc1 = nn.Linear(config.width, inner)
        self.fc2 = nn.Linear(inner, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))  # type: ignore[no-any-return]


class DeepseekVL2VisionBlock(GradientCheckpointingLayer):
    """Attention, then the MLP, each on normed vectors and added to its input."""

    def __init__(self, config: DeepseekVL2VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=TOWER_EPS)
        self.attn = DeepseekVL2VisionAttention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=TOWER_EPS)
        self.mlp = DeepseekVL2VisionMLP(config)

    def forward(self, x_NLC: Tensor) -> Tensor:
        x_NLC = x_NLC + self.attn(self.norm1(x_NLC))
        return x_NLC + self.mlp(self.norm2(x_NLC))  # type: ignore[no-any-return]


class DeepseekVL2PatchEmbed(nn.Module):
    """A vector for each patch of a tile."""

    def __init__(self, config: DeepseekVL2VisionConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(3, config.width, kernel_size=patch, stride=patch)

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        """[N, s², C], row by row; pixels past the last whole patch are dropped."""
        return self.proj(pixels_N3HW).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class DeepseekVL2PoolingHead(nn.Module):
    """Weights of timm's attention pooling, held and never computed."""

    def __init__(self, config: DeepseekVL2VisionConfig) -> None:
        super().__init__()
        width = config.width
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.drawn = {"latent": width**-0.5}
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=TOWER_EPS)
        self.mlp = DeepseekVL2VisionMLP(config)


class DeepseekVL2VisionTower(DeepseekVL2PreTrainedModel):
    """`vision`: all blocks, then the last norm."""

    config: DeepseekVL2VisionConfig
    config_class = DeepseekVL2VisionConfig

    def __init__(self, config: DeepseekVL2VisionConfig) -> None:
        super().__init__(config)
        patches = (config.image_size // config.patch_size) ** 2
        self.patch_embed = DeepseekVL2PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.empty(1, patches, config.width))
        self.drawn = {"pos_embed": config.width**-0.5}
        self.blocks = nn.ModuleList(DeepseekVL2VisionBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=TOWER_EPS)
        if config.global_pool == "map":
            self.attn_pool = DeepseekVL2PoolingHead(config)
        self.post_init()

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        """[N, s², C]. Raises `ValueError` for tiles of another size than the tower's."""
        side = self.config.image_size
        if pixels_N3HW.shape[1:] != (3, side, side):
            raise ValueError(
                f"pixel_values are {tuple(pixels_N3HW.shape)}; expected tiles (N, 3, {side}, {side})"
            )
        x_NLC = self.patch_embed(pixels_N3HW) + self.pos_embed
        for block in self.blocks:
            x_NLC = block(x_NLC)
        return self.norm(x_NLC)  # type: ignore[no-any-return]


class DeepseekVL2Projector(DeepseekVL2PreTrainedModel):
    """`projector`: r x r neighbours become one vector, of which two linear layers make a token."""

    config: DeepseekVL2ProjectorConfig
    config_class = DeepseekVL2ProjectorConfig

    def __init__(self, config: DeepseekVL2ProjectorConfig) -> None:
        super().__init__(config)
        self.ratio = config.downsample_ratio
        wide = config.input_dim * self.ratio**2
        self.layers = nn.Sequential(
            nn.Linear(wide, config.n_embed), nn.GELU(), nn.Linear(config.n_embed, config.n_embed)
        )
        self.post_init()

    def forward(self, x_NssC: Tensor) -> Tensor:
        """[N, s, s, C] → [N, s / r, s / r, D]; the map grows to the right and below with zeros."""
        ratio = self.ratio
        missing = -x_NssC.shape[1] % ratio
        x = functional.pad(x_NssC, (0, 0, 0, missing, 0, missing))
        x = x.unflatten(2, (-1, ratio)).unflatten(1, (-1, ratio))  # [N, s, r, s, r, C]
        return self.layers(x.permute(0, 1, 3, 5, 2, 4).flatten(3))  # type: ignore[no-any-return]


class DeepseekVL2ForConditionalGeneration(DeepseekVL2PreTrainedModel, GenerationMixin):
    """Tower, projector and language model. Raises `ValueError` for a config that is no published
    variant."""

    config: DeepseekVL2Config
    config_class = DeepseekVL2Config

    def __init__(self, config: DeepseekVL2Config) -> None:
        config.check()
        super().__init__(config)
        self.vision = DeepseekVL2VisionTower(config.vision_config)  # type: ignore[arg-type]
        self.projector = DeepseekVL2Projector(config.projector_config)  # type: ignore[arg-type]
        width = config.projector_config.n_embed  # type: ignore[union-attr]
        self.image_newline = nn.Parameter(torch.empty(width))
        self.view_seperator = nn.Parameter(torch.empty(width))
        self.drawn = dict.fromkeys(("image_newline", "view_seperator"), width**-0.5)
        self.language = DeepseekVL2LanguageModel(config.language_config)  # type: ignore[arg-type]
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.language.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language.model.embed_tokens = value

    def get_output_embeddings(self) -> Any:
        return self.language.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language.lm_head = new_embeddings

    def get_image_features(self, pixel_values: Tensor, images_spatial_crop: Tensor) -> Tensor:
        """The vectors of all pictures, one after another [tokens, D]; inputs as in `forward`."""
        sheets = images_spatial_crop.reshape(-1, 2).tolist()
        sheets = [(columns, rows) for columns, rows in sheets if columns and rows]
        expected = sum(1 + columns * rows for columns, rows in sheets)
        if len(pixel_values) != expected:
            raise ValueError(
                f"pixel_values have {len(pixel_values)} tiles; images_spatial_crop, for "
                f"{len(sheets)} pictures of one whole view and columns x rows each, wants {expected}"
            )
        x_NLC = self.vision(pixel_values.to(self.vision.dtype))
        side = int(x_NLC.shape[1] ** 0.5)
        tiles_NssD = self.projector(x_NLC.unflatten(1, (side, side)))
        of_each = tiles_NssD.split([1 + columns * rows for columns, rows in sheets])
        pairs = zip(of_each, sheets, strict=True)
        return torch.cat([self._laid_out(tiles, *sheet) for tiles, sheet in pairs])

    def _laid_out(self, tiles_NssD: Tensor, columns: int, rows: int) -> Tensor:
        """The whole view, the separator, then the sheet of tiles as one map; each row of vectors
        ends with the newline. [tokens, D]"""
        sheet = tiles_NssD[1:].unflatten(0, (rows, columns))
        sheet = sheet.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # [rows · s, columns · s, D]
        views = [self._with_newlines(view) for view in (tiles_NssD[0], sheet)]
        return torch.cat([views[0], self.view_seperator[None], views[1]])

    def _with_newlines(self, map_YXD: Tensor) -> Tensor:
        newlines = self.image_newline.expand(len(map_YXD), 1, -1)
        return torch.cat([map_YXD, newlines], dim=1).flatten(0, 1)

    def _embed(
        self,
        embeds_BTD: Tensor,
        pixel_values: Tensor,
        images_spatial_crop: Tensor | None,
        images_seq_mask: Tensor | None,
    ) -> Tensor:
        if images_spatial_crop is None or images_seq_mask is None:
            raise ValueError(
                "pixel_values came without images_spatial_crop (columns and rows of each picture) "
                "or without images_seq_mask (the places of the pictures' vectors)"
            )
        found = self.get_image_features(pixel_values, images_spatial_crop)
        is_picture = images_seq_mask.to(embeds_BTD.device, torch.bool)
        places = int(is_picture.sum())
        if is_picture.shape != embeds_BTD.shape[:2] or places != len(found):
            raise ValueError(
                f"the pictures make {len(found)} vectors; images_seq_mask "
                f"{tuple(is_picture.shape)} has {places} places for them in "
                f"{tuple(embeds_BTD.shape[:2])} tokens"
            )
        return embeds_BTD.masked_scatter(
            is_picture[..., None], found.to(embeds_BTD.device, embeds_BTD.dtype)
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        images_spatial_crop: Tensor | None = None,
        images_seq_mask: Tensor | None = None,
        past_key_values: Any = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] of the tokens that `logits_to_keep` names, by count or by place.

        pixel_values: all pictures' tiles [N, 3, side, side], of each the whole view first, then its
        tiles row by row. images_spatial_crop: int [pictures, 2], columns and rows of tiles of each.
        images_seq_mask: bool [B, T], where the pictures' vectors stand. Raises `ValueError` where
        these do not fit each other. The cache is called `cache` or `past_key_values`, as the
        installed `transformers` calls it.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, and not both")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            inputs_embeds = self._embed(
                inputs_embeds, pixel_values, images_spatial_crop, images_seq_mask
            )
        others.pop("return_dict", None)
        hidden_BTD, found = self.language(
            inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=past_key_values if cache is None else cache,
            use_cache=use_cache,
            **others,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.language.lm_head(hidden_BTD[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=logits.shape[-1], **others
            )
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{OUTPUT_CACHE: found})

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *inputs: Any, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Pictures are read once; without a cache, again in every step, for the same places."""
        found = super().prepare_inputs_for_generation(
            input_ids, *inputs, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            found.update(dict.fromkeys(PICTURE_INPUTS))
        elif (mask := found.get("images_seq_mask")) is not None:
            later = input_ids.shape[1] - mask.shape[1]
            found["images_seq_mask"] = functional.pad(mask, (0, later))
        return found  # type: ignore[no-any-return]


def _conversions() -> list[WeightConverter | WeightRenaming]:
    """The experts of a layer, one tensor each in the file, are stacked; and apart again when the
    model is saved."""
    return [
        WeightConverter(
            source_patterns=["mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight"],
            target_patterns="mlp.experts.gate_up_proj",
            operations=[MergeModulelist(dim=0), Concatenate(dim=1)],
        ),
        WeightConverter(
            source_patterns="mlp.experts.*.down_proj.weight",
            target_patterns="mlp.experts.down_proj",
            operations=[MergeModulelist(dim=0)],
        ),
    ]


register_checkpoint_conversion_mapping(MODEL_TYPE, _conversions(), overwrite=True)
AutoConfig.register(MODEL_TYPE, DeepseekVL2Config, exist_ok=True)
AutoModelForImageTextToText.register(
    DeepseekVL2Config, DeepseekVL2ForConditionalGeneration, exist_ok=True
)
AutoModelForCausalLM.register(DeepseekVL2Config, DeepseekVL2ForConditionalGeneration, exist_ok=True)
