"""Idefics2: pictures in their own shape, a perceiver that makes 64 vectors of each piece.

Facts of the architecture: transformers 5.24, `models/idefics2/` (Apache-2.0); paper arXiv
2405.02246. A picture is one piece, or five: its quarters and the whole. The tower's positions are
fractions of a piece's own sides, so padding a batch changes none of them.

The perceiver lies under `connector` and is the projector; its linear modules have the names of
those of the language model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.family import Family, Processor, Sources


def open_folder(folder: Path) -> Processor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    from manako.families._shared.idefics2 import open_pieces

    return open_pieces(folder, FAMILY)


def image_tokens(width: int, height: int, settings: Any) -> int:
    """Tokens of a picture of any size, marks between its pieces included; settings:
    `_shared.idefics2.PieceSettings`."""
    from manako.families._shared.idefics2 import tokens_of_picture

    return tokens_of_picture(settings)


def make_tiny(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Write a tiny random checkpoint with the published file layout of idefics2-8b.

    `changes` are keyword arguments of `_config` and `_image_config`.
    """
    from manako.families._shared.tiny import sentencepiece_tokenizer, write_tiny
    from manako.families._shared.tiny_idefics import IMAGE_TOKENS, chat_template

    tokenizer = sentencepiece_tokenizer(
        vocabulary=460,
        first=("<unk>", "<s>", "</s>"),
        control=IMAGE_TOKENS,
        prefix_space=True,
        start="<s>",
    )
    of_pictures = {name: changes.pop(name) for name in ("split", "sides") if name in changes}
    ids = {token: int(tokenizer.token_to_id(token) or 0) for token in IMAGE_TOKENS}
    config = _config(tokenizer.get_vocab_size(), ids["<image>"], **changes)
    template = chat_template("")
    write_tiny(
        folder,
        model_class="Idefics2ForConditionalGeneration",
        config=config,
        tokenizer=tokenizer,
        template=None,
        tokenizer_config={
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "additional_special_tokens": list(IMAGE_TOKENS),
            "bos_token": "<s>",
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": "</s>",
            "legacy": True,
            "pad_token": "<unk>",
            "unk_token": "<unk>",
        },
        files={
            "preprocessor_config.json": _image_config(**of_pictures),
            "processor_config.json": {
                "image_seq_len": config["perceiver_config"]["resampler_n_latents"],
                "processor_class": "Idefics2Processor",
            },
            "chat_template.json": {"chat_template": template},
            "generation_config.json": {
                "_from_model_config": True,
                "bos_token_id": 1,
                "eos_token_id": [2, ids["<end_of_utterance>"]],
                "pad_token_id": 0,
            },
        },
        seed=seed,
    )


def _config(
    vocabulary: int,
    image_token_id: int,
    *,
    vectors: int = 3,
    initializer_range: float = 0.05,
    **text_fields: Any,
) -> dict[str, Any]:
    width, ffn_width = 32, 48
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return {
        "architectures": ["Idefics2ForConditionalGeneration"],
        "model_type": "idefics2",
        "image_token_id": image_token_id,
        "perceiver_config": {
            "model_type": "idefics2",
            "hidden_act": "silu",
            "hidden_size": width,
            "initializer_range": initializer_range,
            "num_key_value_heads": 2,
            "resampler_depth": 2,
            "resampler_head_dim": 8,
            "resampler_n_heads": 4,
            "resampler_n_latents": vectors,
            "rms_norm_eps": 1e-05,
        },
        "text_config": {
            "model_type": "mistral",
            "hidden_size": width,
            "initializer_range": initializer_range,
            "intermediate_size": ffn_width,
            "max_position_embeddings": 8192,
            "pad_token_id": 0,
            "rms_norm_eps": 1e-05,
            "vocab_size": vocabulary,
            **layers,
            **text_fields,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "vision_config": {
            "model_type": "idefics2",
            "hidden_size": width,
            "image_size": 112,
            "initializer_range": initializer_range,
            "intermediate_size": ffn_width,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "patch_size": 14,
        },
    }


def _image_config(*, split: bool = True, sides: tuple[int, int] = (42, 112)) -> dict[str, Any]:
    return {
        "do_convert_rgb": True,
        "do_image_splitting": split,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Idefics2ImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": sides[1], "shortest_edge": sides[0]},
    }


FAMILY = Family(
    name="idefics2",
    model_types=("idefics2",),
    model_class="Idefics2ForConditionalGeneration",
    parts={
        "vision": ("model.vision_model",),
        "projector": ("model.connector",),
        "language": ("model.text_model", "lm_head"),
    },
    adapter_targets={
        "vision": r"model\.vision_model\.encoder\.layers\.\d+\."
        r"(self_attn\.([qkv]|out)_proj|mlp\.fc[12])",
        "projector": r"model\.connector\.(modality_projection|perceiver_resampler\.layers\.\d+\."
        r"(self_attn|mlp))\.([qkvo]|gate|up|down)_proj",
        "language": r"model\.text_model\.layers\.\d+\."
        r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
    },
    attention="causal",
    required_inputs=("pixel_values", "pixel_attention_mask"),
    image_tokens=image_tokens,
    open=open_folder,
    make_tiny=make_tiny,
    tiny_sources=Sources(
        template="reconstructed: chat_template of HuggingFaceM4/idefics2-8b, which is that of "
        "Idefics3 without its first token",
        tokenizer="reconstructed: SentencePiece BPE with byte fallback as Mistral-7B-v0.1's, and "
        "idefics2-8b's control tokens",
        processor="reconstructed: preprocessor_config.json and processor_config.json of "
        "idefics2-8b; sides of 42 to 112 pixels instead of 378 to 980",
    ),
)
