"""Which weights a model has, and what a recipe does with each of them: parameters, never tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod

from manako.core.family import PARTS, PartName
from manako.core.recipe import PartSetting, Recipe
from manako.plan.activations import FLOAT32_BYTES, HALF_BYTES

ADAMW_STATES = 2
"""Both moments of AdamW, each of the weight's own size (Kingma & Ba, arXiv 1412.6980)."""
MUON_STATES = 1
"""Muon keeps one momentum (kellerjordan.github.io/posts/muon)."""
SMALLEST_EIGHT_BIT, NUMBERS_PER_SCALE = 4096, 256
"""bitsandbytes 0.50 and torchao 0.18 keep smaller tensors in float32, and one float32 scale for each
block of the others."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight tensor; tensors that two modules share stand in an inventory once.

    is_hidden_matrix: the weight of a linear layer that is neither embedding nor LM head.
    is_head: the LM head's, which may be the embedding's too.
    is_adapter_target: the family puts the adapters of this part on its layer.
    is_trainable: False for branches that nothing reaches, which no recipe trains (sound).
    """

    name: str
    part: PartName
    shape: tuple[int, ...]
    is_hidden_matrix: bool = False
    is_head: bool = False
    is_adapter_target: bool = False
    is_trainable: bool = True

    @property
    def parameters(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class PartCount:
    """Parameters of one part: in the checkpoint, added by adapters, and trained in all."""

    how: str
    parameters: int
    adapter_parameters: int
    trained: int


@dataclass(frozen=True)
class Inventory:
    """All weights of a model. `is_half`: the checkpoint stores them as bfloat16."""

    weights: tuple[Weight, ...]
    is_half: bool = False

    @property
    def parameters(self) -> int:
        return sum(weight.parameters for weight in self.weights)

    def of_part(self, part: PartName) -> Iterator[Weight]:
        return (weight for weight in self.weights if weight.part == part)

    def count_parts(self, recipe: Recipe) -> dict[PartName, PartCount]:
        """Parameters per part under a recipe."""
        settings = recipe.part_settings()
        return {part: self._count(part, settings[part], recipe.lora_r) for part in PARTS}

    def _count(self, part: PartName, setting: PartSetting, rank: int) -> PartCount:
        own = sum(weight.parameters for weight in self.of_part(part))
        if setting.how != "lora":
            can_move = (w.parameters for w in self.of_part(part) if w.is_trainable)
            trained = sum(can_move) if setting.how == "full" else 0
            return PartCount(how=setting.how, parameters=own, adapter_parameters=0, trained=trained)
        added = sum(adapter_parameters(w, rank) for w in self.of_part(part) if w.is_adapter_target)
        return PartCount(how="lora", parameters=own, adapter_parameters=added, trained=added)

    def weight_bytes(self, recipe: Recipe) -> int:
        """Bytes of the weights themselves: float32, but bfloat16 where they are frozen, the
        checkpoint has them so, and the run is under bfloat16 (`train/parts.shrink_frozen`)."""
        widths, frozen = self._widths(recipe), self._width(recipe, is_full=False)
        return sum(
            w.parameters * (widths[w.part] if w.is_trainable else frozen) for w in self.weights
        )

    def cast_bytes(self, recipe: Recipe) -> int:
        """Bytes of the bfloat16 copies of float32 matrices that autocast makes, at the end of the
        forward pass: those of every part that gradients pass through."""
        return sum(weight.parameters for weight in self._cast(recipe)) * HALF_BYTES

    def kept_cast_bytes(self, recipe: Recipe) -> int:
        """Those that the backward pass finds kept; a layer that is computed again casts again."""
        again = recipe.recomputed_parts()
        kept = [w for w in self._cast(recipe) if w.part not in again or not w.is_hidden_matrix]
        return sum(weight.parameters for weight in kept) * HALF_BYTES

    def _cast(self, recipe: Recipe) -> list[Weight]:
        if not recipe.bf16:
            return []
        passed, widths = _passed_parts(recipe), self._widths(recipe)
        wide = {part for part in passed if widths[part] == FLOAT32_BYTES}
        matrices = [w for w in self.weights if w.is_hidden_matrix or w.is_head]
        return [w for w in matrices if w.part in wide and w.is_trainable]

    def stream_bytes(self, recipe: Recipe) -> int:
        """Bytes of a number that decoder layers hand on: as wide as the embeddings are."""
        return self._widths(recipe)["language"]

    def _widths(self, recipe: Recipe) -> dict[PartName, int]:
        """Bytes of one weight, by part."""
        return {
            part: self._width(recipe, is_full=setting.how == "full")
            for part, setting in recipe.part_settings().items()
        }

    def _width(self, recipe: Recipe, *, is_full: bool) -> int:
        return HALF_BYTES if recipe.bf16 and self.is_half and not is_full else FLOAT32_BYTES

    def state_bytes(self, recipe: Recipe) -> int:
        """Bytes that the optimizer keeps beside the trained weights."""
        if recipe.optim.endswith("_8bit"):
            sizes = self._trained_sizes(recipe)
            return ADAMW_STATES * sum(_eight_bit_bytes(numbers) for numbers in sizes)
        width = HALF_BYTES if recipe.optim_state_dtype == "bfloat16" else FLOAT32_BYTES
        return self.state_parameters(recipe) * width

    def _trained_sizes(self, recipe: Recipe) -> Iterator[int]:
        """Numbers of every tensor that is trained."""
        settings = recipe.part_settings()
        for weight in self.weights:
            how = settings[weight.part].how
            if how == "full" and weight.is_trainable:
                yield weight.parameters
            elif how == "lora" and weight.is_adapter_target:
                yield from (recipe.lora_r * side for side in weight.shape)

    def state_parameters(self, recipe: Recipe) -> int:
        """Numbers that the optimizer keeps beside the trained weights."""
        settings = recipe.part_settings()
        return sum(self._states(weight, settings, recipe) for weight in self.weights)

    def _states(
        self, weight: Weight, settings: Mapping[PartName, PartSetting], recipe: Recipe
    ) -> int:
        how = settings[weight.part].how
        matrix_states = MUON_STATES if recipe.optim == "muon" else ADAMW_STATES
        if how == "lora" and weight.is_adapter_target:
            return matrix_states * adapter_parameters(weight, recipe.lora_r)
        if how != "full" or not weight.is_trainable:
            return 0
        return weight.parameters * (matrix_states if weight.is_hidden_matrix else ADAMW_STATES)

    def largest_shape_group(self, recipe: Recipe) -> int:
        """Parameters of the matrices of one shape that Muon orthogonalises together, at most."""
        if recipe.optim != "muon":
            return 0
        settings = recipe.part_settings()
        groups: dict[tuple[PartName, tuple[int, ...]], int] = {}
        for weight in self.weights:
            is_full = settings[weight.part].how == "full" and weight.is_trainable
            if weight.is_hidden_matrix and is_full:
                key = (weight.part, weight.shape)
                groups[key] = groups.get(key, 0) + weight.parameters
        return max(groups.values(), default=0)


def _eight_bit_bytes(numbers: int) -> int:
    if numbers < SMALLEST_EIGHT_BIT:
        return numbers * FLOAT32_BYTES
    return numbers + ceil(numbers / NUMBERS_PER_SCALE) * FLOAT32_BYTES


def _passed_parts(recipe: Recipe) -> set[PartName]:
    """Parts that gradients pass through: all that lie above the lowest trained one."""
    settings = recipe.part_settings()
    lowest = next(place for place, part in enumerate(PARTS) if settings[part].how != "frozen")
    return set(PARTS[lowest:])


def adapter_parameters(weight: Weight, rank: int) -> int:
    """Parameters of the two matrices that LoRA puts beside a linear layer [out, in]."""
    rows, columns = weight.shape
    return rank * (rows + columns)
