"""DeepSeek-VL2's language model: attention as in Llama or latent attention, and mixtures of experts.

Written from the authors' public code (deepseek-ai/DeepSeek-VL2, MIT) and from the papers of
DeepSeek-V2 (arXiv 2405.04434) and DeepSeek-V3 (arXiv 2412.19437). Parameters are called as in the
published weights, but for the routed experts: those of a layer are two parameters in memory, and a
tensor for each expert in the file.

The router computes in float32, under autocast too, and nothing balances the load of the experts:
there is no auxiliary loss. The bias that `noaux_tc` chooses by is no weight (its authors move it by
how busy each expert is) and stays as it was loaded, so that the larger size can be trained, which
the authors' own code refuses.

Legend: B conversations, T tokens, D width, H heads, E experts, K chosen experts, I width of an
expert, S = T · K pairs of a token and an expert, in order of the experts.
"""

# mypy: disable-error-code="no-untyped-call"
# `transformers` and some methods of tensors have no types for what is called here.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward
from transformers.utils.generic import maybe_autocast

from manako.nn.cache import cache_name

if TYPE_CHECKING:
    from torch import Tensor

NORM_FLOOR = 1e-20
"""Added to the sum of the chosen weights before they are divided by it."""
GROUPED_ALIGNMENT_BYTES = 16
"""Rows of what grouped products read begin at multiples of this."""
GROUPED_CAPABILITY = (8, 0)
"""The first CUDA devices for which PyTorch has them."""

Rotary = tuple["Tensor", "Tensor"]
"""Cosines and sines of each position's angles, each [B, 1, T, width]."""


class DeepseekVL2LanguageConfig(PreTrainedConfig):
    """`language_config`; a field that the file leaves out is as in the authors' class."""

    model_type = "deepseek_v2"
    base_config_key = "language_config"

    vocab_size: int = 102400
    hidden_size: int = 4096
    intermediate_size: int = 11008
    moe_intermediate_size: int = 1407
    num_hidden_layers: int = 30
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 32
    n_shared_experts: int | None = None
    n_routed_experts: int | None = None
    num_experts_per_tok: int | None = None
    routed_scaling_factor: float = 1.0
    topk_method: str = "gready"
    n_group: int | None = None
    topk_group: int | None = None
    scoring_func: str = "softmax"
    norm_topk_prob: bool = False
    first_k_dense_replace: int = 0
    moe_layer_freq: int = 1
    use_mla: bool = True
    kv_lora_rank: int | None = 512
    q_lora_rank: int | None = 1536
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 100000
    eos_token_id: int | list[int] | None = 100001
    tie_word_embeddings: bool = False
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0


class DeepseekVL2PreTrainedModel(PreTrainedModel):
    """What `transformers` asks of a class, and how weights begin where there are none."""

    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["DeepseekVL2DecoderLayer", "DeepseekVL2VisionBlock"]  # noqa: RUF012

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        """All attention goes through `attend`; transformers would look for the words of it in the
        file of each class, and leave the vision tower's attention as it is."""
        return True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        for name, std in getattr(module, "drawn", {}).items():
            init.normal_(getattr(module, name), mean=0.0, std=std)
        if (
            isinstance(module, DeepseekVL2Router)
            and (bias := module.e_score_correction_bias) is not None
        ):
            init.zeros_(bias)


class DeepseekVL2RMSNorm(nn.Module):
    """Divides by the root of the mean square."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Computed in float32, scaled in the dtype of x."""
        exact = x.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * exact.to(x.dtype)


def rotary_of(position_ids: Tensor, width: int, theta: float, dtype: torch.dtype) -> Rotary:
    """position_ids [B, T] → cosines and sines [B, 1, T, width]; computed in float32."""
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=position_ids.device) / width
    angles = position_ids[:, None, :, None].float() * theta**-steps
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """x [B, H, T, width]: element i turns with element i + width / 2."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def rotate_pairs(x: Tensor, rotary: Rotary) -> Tensor:
    """x [B, H, T, width]: elements 2i and 2i + 1 turn with each other, and end half a width apart,
    as in the weights' own order."""
    return rotate(x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2), rotary)


def attend(
    module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **others: Any
) -> Tensor:
    """The attention that the module's config names; q, k, v [B, H, T, width] → [B, T, H · width].

    The width of the values may be another than that of queries and keys.
    """
    function = ALL_ATTENTION_FUNCTIONS.get_interface(
        module.config._attn_implementation, eager_attention_forward
    )
    dropout = module.config.attention_dropout if module.training else 0.0
    found, _ = function(module, q, k, v, mask, dropout=dropout, scaling=module.scaling, **others)
    return found.flatten(2)  # type: ignore[no-any-return]


class DeepseekVL2Attention(nn.Module):
    """As in Llama (`use_mla` false)."""

    def __init__(self, config: DeepseekVL2LanguageConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.is_causal = config, layer, True
        width, heads = config.hidden_size, config.num_attention_heads
        key_heads = config.num_key_value_heads or heads
        self.head_width = width // heads
        self.scaling = self.head_width**-0.5
        self.num_key_value_groups = heads // key_heads
        self.q_proj = nn.Linear(width, heads * self.head_width, bias=False)
        self.k_proj = nn.Linear(width, key_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, key_heads * self.head_width, bias=False)
        self.o_proj = nn.Linear(heads * self.head_width, width, bias=False)

    def forward(
        self, x_BTD: Tensor, mask: Tensor | None, rotary: Rotary, cache: Any, **others: Any
    ) -> Tensor:
        q, k, v = (
            project(x_BTD).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, rotary), rotate(k, rotary)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        return self.o_proj(attend(self, q, k, v, mask, **others))  # type: ignore[no-any-return]


class DeepseekVL2LatentAttention(nn.Module):
    """Keys and values of all heads come from one narrow vector a token (arXiv 2405.04434, §2.1).

    A query and a key are a part that tells nothing of places and a turned part; the turned part of
    the key is one for all heads. The cache holds keys and values as they are attended to.
    """

    def __init__(self, config: DeepseekVL2LanguageConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.is_causal = config, layer, True
        self.num_key_value_groups = 1
        width, heads, rank = config.hidden_size, config.num_attention_heads, config.kv_lora_rank
        assert rank is not None  # `check_language` has said so
        self.plain, self.turned = config.qk_nope_head_dim, config.qk_rope_head_dim
        self.value_width, self.rank = config.v_head_dim, rank
        self.scaling = (self.plain + self.turned) ** -0.5
        self.q_proj = nn.Linear(width, heads * (self.plain + self.turned), bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(width, rank + self.turned, bias=False)
        self.kv_a_layernorm = DeepseekVL2RMSNorm(rank, config.rms_norm_eps)
        self.kv_b_proj = nn.Linear(rank, heads * (self.plain + self.value_width), bias=False)
        self.o_proj = nn.Linear(heads * self.value_width, width, bias=False)

    def forward(
        self, x_BTD: Tensor, mask: Tensor | None, rotary: Rotary, cache: Any, **others: Any
    ) -> Tensor:
        q = self.q_proj(x_BTD).unflatten(-1, (-1, self.plain + self.turned)).transpose(1, 2)
        latent, k_turned = self.kv_a_proj_with_mqa(x_BTD).split([self.rank, self.turned], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent))
        kv = kv.unflatten(-1, (-1, self.plain + self.value_width)).transpose(1, 2)
        k_plain, v = kv.split([self.plain, self.value_width], dim=-1)
        q_plain, q_turned = q.split([self.plain, self.turned], dim=-1)
        k_turned = rotate_pairs(k_turned[:, None], rotary).expand(-1, k_plain.shape[1], -1, -1)
        q = torch.cat([q_plain, rotate_pairs(q_turned, rotary)], dim=-1)
        k = torch.cat([k_plain, k_turned], dim=-1)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        return self.o_proj(attend(self, q, k, v, mask, **others))  # type: ignore[no-any-return]


class DeepseekVL2MLP(nn.Module):
    """A gated MLP without biases: the dense one, and the shared experts."""

    def __init__(self, config: DeepseekVL2LanguageConfig, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.down_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class DeepseekVL2Router(nn.Module):
    """Which experts work on a token, and with what weight."""

    def __init__(self, config: DeepseekVL2LanguageConfig) -> None:
        super().__init__()
        experts = config.n_routed_experts
        assert experts is not None  # `check_language` has said so
        assert config.num_experts_per_tok is not None
        self.config, self.chosen = config, config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(experts, config.hidden_size))
        self.drawn = {"weight": config.initializer_range}
        has_bias = config.topk_method == "noaux_tc"
        self.register_buffer("e_score_correction_bias", torch.zeros(experts) if has_bias else None)

    e_score_correction_bias: Tensor | None

    def forward(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Chosen experts [T, K] and their weights, float32 [T, K]."""
        config = self.config
        with maybe_autocast(device_type=x_TD.device.type, enabled=False):
            logits_TE = functional.linear(x_TD.float(), self.weight.float())
            is_sigmoid = config.scoring_func == "sigmoid"
            scores_TE = logits_TE.sigmoid() if is_sigmoid else logits_TE.softmax(dim=-1)
            chosen_TK = self._choice(scores_TE.detach()).topk(self.chosen).indices
            weights_TK = scores_TE.gather(1, chosen_TK)
            if config.norm_topk_prob:
                weights_TK = weights_TK / (weights_TK.sum(dim=-1, keepdim=True) + NORM_FLOOR)
            return chosen_TK, weights_TK * config.routed_scaling_factor

    def _choice(self, scores_TE: Tensor) -> Tensor:
        """What the best are chosen by; with `noaux_tc`, experts outside the best groups count
        nothing, a group being as good as the sum of its best two."""
        if self.e_score_correction_bias is None:
            return scores_TE
        choice_TE = scores_TE + self.e_score_correction_bias.float()
        groups, kept = self.config.n_group or 1, self.config.topk_group or 1
        if kept == groups:
            return choice_TE
        choice_TGe = choice_TE.unflatten(-1, (groups, -1))
        best_Tk = choice_TGe.topk(2, dim=-1).values.sum(dim=-1).topk(kept).indices
        is_kept_TG = torch.zeros_like(choice_TGe[..., 0], dtype=torch.bool)
        is_kept_TG = is_kept_TG.scatter(1, best_Tk, True)
        return choice_TGe.masked_fill(~is_kept_TG[..., None], 0.0).flatten(1)  # type: ignore[no-any-return]


class DeepseekVL2Experts(nn.Module):
    """All routed experts of a layer."""

    def __init__(self, config: DeepseekVL2LanguageConfig) -> None:
        super().__init__()
        experts, width, inner = (
            config.n_routed_experts,
            config.hidden_size,
            config.moe_intermediate_size,
        )
        assert experts is not None  # `check_language` has said so
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        self.drawn = dict.fromkeys(("gate_up_proj", "down_proj"), config.initializer_range)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x_TD: Tensor, chosen_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """The weighted sum of each token's experts [T, D].

        Pairs are sorted by expert, so that each expert's tokens are one block; the sum over a
        token's experts is in a fixed order, so the same input gives the same bits.
        """
        x_SD, gate_up, down = _as_autocast(x_TD, self.gate_up_proj, self.down_proj)
        order_S = chosen_TK.flatten().argsort(stable=True)
        counts_E = functional.one_hot(chosen_TK.flatten(), len(gate_up)).sum(dim=0)
        x_SD = x_SD[order_S // chosen_TK.shape[1]]
        work = grouped if can_group(x_SD, gate_up, down) else one_by_one
        done_SD = work(x_SD, counts_E, gate_up, down, self.act_fn)
        place_S = torch.empty_like(order_S)
        place_S[order_S] = torch.arange(len(order_S), device=order_S.device)
        done_TKD = done_SD[place_S].unflatten(0, chosen_TK.shape)
        return (done_TKD * weights_TK[..., None]).sum(dim=1).to(x_TD.dtype)  # type: ignore[no-any-return]


def grouped(x_SD: Tensor, counts_E: Tensor, gate_up: Tensor, down: Tensor, act: Any) -> Tensor:
    """Every expert on its block of rows, in two products of PyTorch's grouped kind → [S, D]."""
    ends_E = counts_E.cumsum(dim=0, dtype=torch.int32)
    inner = functional.grouped_mm(x_SD, gate_up.transpose(1, 2), offs=ends_E)
    gate, up = inner.chunk(2, dim=-1)
    return functional.grouped_mm(act(gate) * up, down.transpose(1, 2), offs=ends_E)


def one_by_one(x_SD: Tensor, counts_E: Tensor, gate_up: Tensor, down: Tensor, act: Any) -> Tensor:
    """The same with products of one expert each → [S, D]; experts without tokens are passed over.

    Parameters are taken apart at once: a slice of its own for each expert would make the backward
    pass fill a gradient of all experts for each.
    """
    blocks = zip(x_SD.split(counts_E.tolist()), gate_up.unbind(), down.unbind(), strict=True)
    done = []
    for block, into, out_of in blocks:
        if len(block):
            gate, up = functional.linear(block, into).chunk(2, dim=-1)
            done.append(functional.linear(act(gate) * up, out_of))
    return torch.cat(done)


def can_group(x: Tensor, gate_up: Tensor, down: Tensor) -> bool:
    """Whether PyTorch has grouped products for these: their device and dtype, and rows that begin
    where its kernels read."""
    if not hasattr(functional, "grouped_mm") or x.device.type not in ("cpu", "cuda"):
        return False
    if x.dtype not in (torch.bfloat16, torch.float32) or gate_up.dtype != x.dtype:
        return False
    if any(w.shape[-1] * w.itemsize % GROUPED_ALIGNMENT_BYTES for w in (gate_up, down)):
        return False
    is_cuda = x.device.type == "cuda"
    return not is_cuda or torch.cuda.get_device_capability(x.device) >= GROUPED_CAPABILITY


def _as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Autocast knows nothing of grouped products: what it would do is done here."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors)


class DeepseekVL2MoE(nn.Module):
    """Routed experts, and shared ones that work on every token."""

    def __init__(self, config: DeepseekVL2LanguageConfig) -> None:
        super().__init__()
        self.gate = DeepseekVL2Router(config)
        self.experts = DeepseekVL2Experts(config)
        shared = config.n_shared_experts
        self.shared_experts = (
            DeepseekVL2MLP(config, shared * config.moe_intermediate_size) if shared else None
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_TD = x_BTD.flatten(0, 1)
        found_TD = self.experts(x_TD, *self.gate(x_TD))
        if self.shared_experts is not None:
            found_TD = found_TD + self.shared_experts(x_TD)
        return found_TD.view_as(x_BTD)  # type: ignore[no-any-return]


class DeepseekVL2DecoderLayer(GradientCheckpointingLayer):
    """Attention, then experts or a dense MLP, each on normed vectors and added."""

    def __init__(self, config: DeepseekVL2LanguageConfig, layer: int) -> None:
        super().__init__()
        attention = DeepseekVL2LatentAttention if config.use_mla else DeepseekVL2Attention
        is_dense = layer < config.first_k_dense_replace or not config.n_routed_experts
        self.self_attn = attention(config, layer)
        self.mlp = (
            DeepseekVL2MLP(config, config.intermediate_size) if is_dense else DeepseekVL2MoE(config)
        )
        self.input_layernorm = DeepseekVL2RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = DeepseekVL2RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x_BTD: Tensor, mask: Tensor | None, rotary: Rotary, cache: Any, **others: Any
    ) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), mask, rotary, cache, **others)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))  # type: ignore[no-any-return]


class DeepseekVL2Decoder(nn.Module):
    """`language.model`: the table of embeddings, the layers and the last norm."""

    def __init__(self, config: DeepseekVL2LanguageConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(
            DeepseekVL2DecoderLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = DeepseekVL2RMSNorm(config.hidden_size, config.rms_norm_eps)


class DeepseekVL2LanguageModel(DeepseekVL2PreTrainedModel):
    """`language`: the decoder and its head."""

    config: DeepseekVL2LanguageConfig
    config_class = DeepseekVL2LanguageConfig

    def __init__(self, config: DeepseekVL2LanguageConfig) -> None:
        super().__init__(config)
        self.model = DeepseekVL2Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        embeds_BTD: Tensor,
        *,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cache: Any,
        use_cache: bool | None,
        **others: Any,
    ) -> tuple[Tensor, Any]:
        """Hidden states after the last norm [B, T, D], and the cache where there is one."""
        config = self.config
        if use_cache is None:
            use_cache = config.use_cache and not self.training
        if use_cache and cache is None:
            cache = DynamicCache(config=config)
        if position_ids is None:
            seen = cache.get_seq_length() if cache is not None else 0
            places = torch.arange(embeds_BTD.shape[1], device=embeds_BTD.device)
            position_ids = (places + seen)[None]
        mask = create_causal_mask(
            config=config,
            inputs_embeds=embeds_BTD,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{cache_name(create_causal_mask): cache},
        )
        width = config.hidden_size // config.num_attention_heads
        width = config.qk_rope_head_dim if config.use_mla else width
        rotary = rotary_of(position_ids, width, config.rope_theta, embeds_BTD.dtype)
        for layer in self.model.layers:
            embeds_BTD = layer(embeds_BTD, mask, rotary, cache, **others)
        return self.model.norm(embeds_BTD), cache


def check_language(config: DeepseekVL2LanguageConfig) -> None:
    """Raise `ValueError` for a language model that is none of those published with DeepSeek-VL2."""
    demand("language_config.q_lora_rank", config.q_lora_rank, None)
    demand("language_config.rope_scaling", config.rope_scaling, None)
    demand("language_config.tie_word_embeddings", config.tie_word_embeddings, False)
    demand("language_config.attention_bias", config.attention_bias, False)
    demand("language_config.moe_layer_freq", config.moe_layer_freq, 1)
    if config.use_mla:
        for name in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
            demand_size(f"language_config.{name}", getattr(config, name))
    if config.n_routed_experts:
        demand("language_config.topk_method", config.topk_method, "greedy", "noaux_tc")
        demand("language_config.scoring_func", config.scoring_func, "softmax", "sigmoid")
        demand_size("language_config.num_experts_per_tok", config.num_experts_per_tok)


def demand(field: str, found: object, *expected: object) -> None:
    """Raise `ValueError` unless a field of config.json has one of these values."""
    if found not in expected:
        wanted = " or ".join(repr(value) for value in expected)
        raise ValueError(f"config.json: {field} is {found!r}; expected {wanted}")


def demand_size(field: str, found: object) -> None:
    """Raise `ValueError` unless a field of config.json is a whole number above zero."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError(f"config.json: {field} is {found!r}; expected a whole number above zero")
