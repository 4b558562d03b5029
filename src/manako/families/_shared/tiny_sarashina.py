"""Tiny random checkpoints of Sarashina-Vision, in the published file layout.

The layout follows sbintuitions/sarashina2.2-vision-3b: config.json with `vision_config` and
`text_config`, `preprocessor_config.json`, `tokenizer.json`, `chat_template.json`,
`generation_config.json`, and one model.safetensors; or, as generation "2", sarashina2-vision-8b,
whose config leaves out what is Qwen2-VL's and Llama's default and whose template takes words alone.

Names of control tokens besides `<s>`, `</s>`, those of roles and those of pictures are made up;
their ids are not what anything depends on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from manako.families._shared.tiny import CLIP_MEAN, CLIP_STD, CORPUS, HALVES, write_tiny

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from manako.core.family import Family

FIRST = (
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<sep>",
    "<mask>",
    "<cls>",
    "<|system|>",
    "<|assistant|>",
    "<|user|>",
    "<|made_up_10|>",
    "<|made_up_11|>",
    "<|made_up_12|>",
    "<|made_up_13|>",
    "<|file|>",
)
"""`<s>` is 1, `</s>` 2, `<pad>` 3 and `<|file|>` 14, as published."""
LAST = ("<|prefix|>", "<|suffix|>")
"""They take the third and second last rows of the embeddings; the last has no token."""
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<|prefix|><|file|><|suffix|>' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- eos_token -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
FIRST_TEMPLATE = (
    "{{ bos_token + '<|prefix|><|file|><|suffix|>A chat between a curious human and an artificial "
    "intelligence assistant. The assistant gives helpful, detailed, and polite answers to the "
    "human\\'s questions.\\n\\n' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### Human: ' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '### Assistant: ' + message['content'] + '\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:' }}{% endif %}"
)
"""Of sarashina2-vision-8b: the prompt is its card's; how history is written is made up."""


@dataclass(frozen=True, kw_only=True)
class TinySarashina:
    """Sizes and settings of a tiny model; the defaults make about 100,000 parameters.

    mlp_ratio: of the tower; no whole multiple, as published. corpus: text the tokenizer is trained
    on; vocabulary: entries at most, control tokens included.
    """

    seed: int = 0
    generation: Literal["2.2", "2"] = "2.2"
    vision_width: int = 32
    vision_layers: int = 2
    vision_heads: int = 2
    mlp_ratio: float = 3.7362
    width: int = 40
    layers: int = 2
    heads: int = 2
    kv_heads: int = 1
    max_positions: int = 8192
    initializer_range: float = 0.02
    min_pixels: int = 3136
    max_pixels: int = 1_016_064
    corpus: Iterable[str] = CORPUS
    vocabulary: int = 420

    @property
    def template(self) -> str:
        return CHAT_TEMPLATE if self.generation == "2.2" else FIRST_TEMPLATE

    def config(self, rows: int) -> dict[str, Any]:
        """config.json; `rows` of embeddings."""
        return {
            "architectures": ["Sarashina2VisionForCausalLM"],
            "model_type": "sarashina2_vision",
            "end_image_token_index": rows - 2,
            "image_token_index": FIRST.index("<|file|>"),
            "start_image_token_index": rows - 3,
            "text_config": self._text_config(rows),
            "torch_dtype": "float32",
            "vision_config": self._vision_config(),
        }

    def _text_config(self, rows: int) -> dict[str, Any]:
        shared = {
            "model_type": "llama",
            "hidden_size": self.width,
            "initializer_range": self.initializer_range,
            "intermediate_size": 2 * self.width,
            "max_position_embeddings": self.max_positions,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "rms_norm_eps": 1e-05,
            "vocab_size": rows,
        }
        if self.generation == "2":
            return shared
        return {
            **shared,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "num_key_value_heads": self.kv_heads,
            "rope_scaling": None,
            "rope_theta": 500000,
            "tie_word_embeddings": False,
        }

    def _vision_config(self) -> dict[str, Any]:
        shared = {
            "model_type": "qwen2_vl",
            "depth": self.vision_layers,
            "embed_dim": self.vision_width,
            "hidden_size": self.width,
            "in_chans": 3,
            "initializer_range": self.initializer_range,
            "num_heads": self.vision_heads,
        }
        if self.generation == "2":
            return {**shared, "spatial_patch_size": 14}
        return {
            **shared,
            "hidden_act": "gelu_pytorch_tanh",
            "in_channels": 3,
            "mlp_ratio": self.mlp_ratio,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        }

    def preprocessor(self) -> dict[str, Any]:
        """preprocessor_config.json."""
        mean, std = (HALVES, HALVES) if self.generation == "2.2" else (CLIP_MEAN, CLIP_STD)
        return {
            **dict.fromkeys(("do_convert_rgb", "do_normalize", "do_rescale", "do_resize"), True),
            "image_mean": list(mean),
            "image_processor_type": "Sarashina2VisionImageProcessor",
            "image_std": list(std),
            "max_pixels": self.max_pixels,
            "merge_size": 2,
            "min_pixels": self.min_pixels,
            "patch_size": 14,
            "processor_class": "Sarashina2VisionProcessor",
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": self.max_pixels, "shortest_edge": self.min_pixels},
            "temporal_patch_size": 2,
        }


def write_checkpoint(folder: Path, tiny: TinySarashina, family: Family) -> None:
    """Write a checkpoint folder of that size."""
    tokenizer = unigram_tokenizer(tiny.corpus, vocabulary=tiny.vocabulary)
    rows = tokenizer.get_vocab_size() + 1
    write_tiny(
        folder,
        model_class=family.model_class,
        model_module=family.model_module,
        config=tiny.config(rows),
        tokenizer=tokenizer,
        template=None,
        tokenizer_config={
            "add_bos_token": False,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
        },
        files={
            "chat_template.json": {"chat_template": tiny.template},
            "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3},
            "preprocessor_config.json": tiny.preprocessor(),
        },
        seed=tiny.seed,
    )


def unigram_tokenizer(corpus: Iterable[str] = CORPUS, *, vocabulary: int) -> Tokenizer:
    """Unigram pieces as converted from SentencePiece: blanks are `▁`, unknown characters fall back
    to bytes, and nothing is put before a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    blanks = normalizers.Replace(" ", "▁")
    trainee = Tokenizer(models.Unigram())
    trainee.normalizer = blanks
    fixed = [*FIRST, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary - len(fixed) - len(LAST), unk_token="<unk>", show_progress=False
    )
    trainee.train_from_iterator(corpus, trainer)
    learned = [
        (piece, score)
        for piece, score in json.loads(trainee.to_str())["model"]["vocab"]
        if piece not in fixed
    ]
    pieces = [*((piece, 0.0) for piece in fixed), *((piece, score) for piece, score in learned)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = blanks
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    control = [AddedToken(token, special=True, normalized=False) for token in (*FIRST, *LAST)]
    tokenizer.add_special_tokens(control)
    return tokenizer
