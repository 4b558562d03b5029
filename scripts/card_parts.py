"""Parameters of models that transformers does not ship, by arithmetic on their published shapes.

A counter takes the `config` of a card and returns parameters by part. Each agrees with a published
size: Heron's tower with a file of 827 MB, Sarashina2.2 with one of 7,603,021,272 bytes, DeepSeek-VL2
with 3.37, 16.1 and 27.5 billion.
"""

from collections.abc import Callable, Mapping
from typing import Any

Fields = Mapping[str, Any]
COLOURS = 3


def heron(config: Fields) -> Mapping[str, int]:
    """Heron-NVILA-Lite: SigLIP without its pooling head, 2 × 2 positions joined, Qwen2.5."""
    vision, text = config["vision_config"], config["text_config"]
    joined, width = 4 * vision["hidden_size"], text["hidden_size"]
    return {
        "vision": _siglip(vision),
        "projector": _norm(joined) + _linear(joined, width) + _linear(width, width),
        "language": _decoder(text, biased=True),
    }


def sarashina(config: Fields) -> Mapping[str, int]:
    """Sarashina-Vision: Qwen2-VL's tower and merger, one more LayerNorm, Llama."""
    vision, text = config["vision_config"], config["text_config"]
    width, wanted = vision["embed_dim"], vision["hidden_size"]
    joined = width * vision["spatial_merge_size"] ** 2
    patch = COLOURS * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    inner = int(width * vision["mlp_ratio"])
    merger = _norm(width) + _linear(joined, joined) + _linear(joined, wanted)
    return {
        "vision": patch * width + vision["depth"] * _vision_layer(width, inner),
        "projector": merger + _norm(wanted),
        "language": _decoder(text),
    }


def deepseek_vl2(config: Fields) -> Mapping[str, int]:
    """DeepSeek-VL2: SigLIP with its pooling head, two layers and two marks, a mixture of experts."""
    vision, text = config["vision_config"], config["language_config"]
    joined, width = 4 * vision["hidden_size"], config["projector_config"]["n_embed"]
    return {
        "vision": _siglip(vision) + _pooling_head(vision),
        "projector": _linear(joined, width) + _linear(width, width) + 2 * width,
        "language": _expert_decoder(text),
    }


def llm_jp(config: Fields) -> Mapping[str, int]:
    """llm-jp-4-vl: SigLIP2 with its unused pooling head, a norm and two layers, Llama."""
    vision, text = config["vision_config"], config["llm_config"]
    joined, width = 4 * vision["hidden_size"], text["hidden_size"]
    return {
        "vision": _siglip(vision) + _pooling_head(vision),
        "projector": _norm(joined) + _linear(joined, width) + _linear(width, width),
        "language": _decoder(text),
    }


def _linear(inside: int, outside: int) -> int:
    return inside * outside + outside


def _norm(width: int) -> int:
    return 2 * width


def _vision_layer(width: int, inner: int) -> int:
    """Two norms, attention, a two-layer MLP; biases everywhere."""
    attention = _linear(width, 3 * width) + _linear(width, width)
    return 2 * _norm(width) + attention + _linear(width, inner) + _linear(inner, width)


def _siglip(vision: Fields) -> int:
    width, side = vision["hidden_size"], vision["patch_size"]
    positions = (vision["image_size"] // side) ** 2 * width
    patches = _linear(COLOURS * side**2, width)
    layers = vision["num_hidden_layers"] * _vision_layer(width, vision["intermediate_size"])
    return patches + positions + layers + _norm(width)


def _pooling_head(vision: Fields) -> int:
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    attention = _linear(width, width) + _linear(width, 2 * width) + _linear(width, width)
    return width + attention + _norm(width) + _linear(width, inner) + _linear(inner, width)


def _decoder(text: Fields, *, biased: bool = False) -> int:
    """Llama, or Qwen2 where queries, keys and values have biases."""
    width, heads = text["hidden_size"], text["num_attention_heads"]
    keys = width // heads * text["num_key_value_heads"]
    attention = 2 * width * width + 2 * width * keys + (width + 2 * keys if biased else 0)
    layer = attention + 3 * width * text["intermediate_size"] + 2 * width
    tables = 1 if text["tie_word_embeddings"] else 2
    return tables * text["vocab_size"] * width + text["num_hidden_layers"] * layer + width


def _expert_decoder(text: Fields) -> int:
    """DeepSeek-V2: a first dense layer, then routed and shared experts. The bias that `noaux_tc`
    chooses by is no parameter."""
    width, layers = text["hidden_size"], text["num_hidden_layers"]
    dense = text["first_k_dense_replace"]
    expert = 3 * width * text["moe_intermediate_size"]
    routed = text["n_routed_experts"]
    mixture = routed * width + (routed + text["n_shared_experts"]) * expert
    mlps = dense * 3 * width * text["intermediate_size"] + (layers - dense) * mixture
    each = _latent_attention(text) if text["use_mla"] else 4 * width * width
    return 2 * text["vocab_size"] * width + width + layers * (each + 2 * width) + mlps


def _latent_attention(text: Fields) -> int:
    width, heads, rank = text["hidden_size"], text["num_attention_heads"], text["kv_lora_rank"]
    plain, rotary, value = text["qk_nope_head_dim"], text["qk_rope_head_dim"], text["v_head_dim"]
    queries = width * heads * (plain + rotary)
    keys = width * (rank + rotary) + rank + rank * heads * (plain + value)
    return queries + keys + heads * value * width


COUNTERS: Mapping[str, Callable[[Fields], Mapping[str, int]]] = {
    "vila": heron,
    "sarashina2_vision": sarashina,
    "deepseek_vl_v2": deepseek_vl2,
    "llmjpvl": llm_jp,
}
"""By `model_type`."""
