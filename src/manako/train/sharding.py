"""Where weights, gradients and optimizer state of a run live: whole on every rank, or shared out.

`Copies` is the usual: each rank holds the model, and `Ranks` sums the gradients once a step.
`Shards` is FSDP2, for what does not fit on one device: a rank keeps its rows of every tensor,
gathers a layer when it computes it, and lets it go.

To gather is to meet, in the middle of the model. So all ranks compute equally many packs, and
where one has pictures the towers of the others run too, on a picture of nobody's: one more
conversation in the pack, of which no token is trained (else gloo aborts, and NCCL would hang).

Torch's `fully_shard` is called here, and not Accelerate's `prepare`. Under `bf16` that one rounds
embeddings and norms as well, and adds gradients up in bfloat16; it takes their mean where this
loop has divided already; and it cuts a model as its version likes. What is read are the settings
that `accelerate launch` leaves for the processes it starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.example import Example, Pack
from manako.core.files import atomic_folder
from manako.nn.checkpoint import read_tensors, write_tensors
from manako.nn.recompute import layers_of
from manako.train.ranks import Ranks
from manako.train.shard_files import read_shards, write_shard
from manako.train.step import part_norms

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

    from manako.core.family import Family, PartName, Processor
    from manako.core.recipe import Recipe

OPTIMIZER = "optimizer.safetensors"
SHARDED_OPTIMIZER = "optimizer"
"""The optimizer's state in a checkpoint: one file, or a folder with a file of each rank."""
FILLER_PIXELS = 56
GATHERED = "the shards of all ranks"
Made = TypeVar("Made")


class Copies:
    """The whole model on every rank."""

    is_sharded = False

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()

    @property
    def writes(self) -> bool:
        """Whether this rank has something to write into a checkpoint."""
        return self.ranks.is_first

    def place(self, load: Callable[[], Made], share_out: Callable[[Made], object]) -> Made:
        """What `load` returns; `share_out` leaves a rank its share of it."""
        return load()

    def share_out(
        self, model: nn.Module, family: Family, *, device: torch.device, bf16: bool
    ) -> None:
        """Leave this rank its rows of every tensor, on `device`."""

    def packs(self, packs: Sequence[Pack]) -> Iterator[Pack]:
        """What this rank computes of a step."""
        return (pack for pack in packs if pack.trained_tokens)

    def gathering(self) -> contextlib.AbstractContextManager[None]:
        """Around what computes with the model: another rank that does not come is a `RankError`."""
        return contextlib.nullcontext()

    def settle(self, model: nn.Module) -> None:
        """After a forward pass without a backward pass."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Make every `.grad` the sum over all ranks; the sum of `loss`, float32 []."""
        return self.ranks.sum_gradients(parameters, loss)

    def norms(self, parts: Mapping[PartName, Sequence[nn.Parameter]]) -> dict[PartName, Tensor]:
        """The norm of each part's gradient, float32 []."""
        return part_norms(parts)

    def checkpoint(self, folder: Path) -> contextlib.AbstractContextManager[Path]:
        """The folder to write into; `folder` appears when all have written, whole."""
        return atomic_folder(folder)

    def whole_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        """The weights to save, on the CPU of the first rank; None where the model holds them."""
        return None

    def write_state(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write optimizer state by name."""
        write_tensors(folder / OPTIMIZER, state)

    def read_state(self, folder: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Optimizer state by name, however it was shared out when it was written."""
        if (folder / OPTIMIZER).is_file():
            return read_tensors(folder / OPTIMIZER)
        return read_shards(sorted((folder / SHARDED_OPTIMIZER).glob("*.safetensors")), {})


class Shards(Copies):
    """Every rank holds its rows of every tensor."""

    is_sharded = True

    def __init__(self, ranks: Ranks, processor: Processor, *, takes_images: bool = True) -> None:
        super().__init__(ranks)
        self._plain = _filler(processor, pictured=False)
        self._pictured = _filler(processor, pictured=True) if takes_images else self._plain

    @property
    def writes(self) -> bool:
        return True

    def place(self, load: Callable[[], Made], share_out: Callable[[Made], object]) -> Made:
        """The ranks of a machine load one after another, so that it needs room for one whole model
        and the shares of all."""

        def work() -> Made:
            made = load()
            share_out(made)
            return made

        return self.ranks.in_turn(work, "the weights of all ranks to be loaded")

    def share_out(
        self, model: nn.Module, family: Family, *, device: torch.device, bf16: bool
    ) -> None:
        """`fully_shard` by layer, then what is left; embeddings and head alone where they are two.

        bf16: layers are gathered in bfloat16, which is what autocast makes of their weights but
        for the gains of norms; sums and masters are float32.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(device.type, (self.ranks.size,))
        whole = MixedPrecisionPolicy(cast_forward_inputs=False)
        half = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for _, layer in layers_of(model):
            fully_shard(layer, mesh=mesh, mp_policy=half if bf16 else whole)
        for module in _ends(model):
            fully_shard(module, mesh=mesh, mp_policy=whole)
        fully_shard(model, mesh=mesh, mp_policy=whole)
        for module in model.modules():
            if isinstance(module, FSDPModule):  # the loss is per token of the whole step
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo cannot divide

    def packs(self, packs: Sequence[Pack]) -> Iterator[Pack]:
        """As many on every rank, with pictures on all or none."""
        ranks = self.ranks
        for first in range(0, len(packs), ranks.size):
            found = packs[first + ranks.rank : first + ranks.rank + 1]
            own = found[0] if found and found[0].trained_tokens else None
            told = [own is not None, own is not None and bool(own.images)]
            trains, pictures = ranks.sum(told, "the next packs")
            if trains:
                yield self._filled(own, pictured=pictures > 0)

    def _filled(self, own: Pack | None, *, pictured: bool) -> Pack:
        filler = self._pictured if pictured else self._plain
        if own is None:
            return Pack(examples=(filler,), pack_tokens=filler.tokens)
        if own.images or not pictured:
            return own
        return dataclasses.replace(own, examples=(*own.examples, filler))

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        with warnings.catch_warnings(), self.ranks.computing(GATHERED):
            # Logits are a view; nothing here writes into them.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            yield

    def settle(self, model: nn.Module) -> None:
        """What was gathered for a backward pass is let go."""
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """The backward pass has summed the gradients; the loss is left."""
        total = loss.to(device=parameters[0].device, dtype=torch.float32, copy=True).reshape(1)
        self.ranks.sum_tensors([total], "the loss of all ranks")
        return total[0]

    def norms(self, parts: Mapping[PartName, Sequence[nn.Parameter]]) -> dict[PartName, Tensor]:
        """From the squares of each rank's rows."""
        squares = torch.stack([norm.double().square() for norm in part_norms(parts).values()])
        self.ranks.sum_tensors([squares], "the norms of the gradients")
        return dict(zip(parts, squares.sqrt().float().unbind(), strict=True))

    @contextlib.contextmanager
    def checkpoint(self, folder: Path) -> Iterator[Path]:
        """One folder for all ranks, which the first makes, and renames when all have written."""
        ranks = self.ranks
        with contextlib.ExitStack() as closing:
            own = closing.enter_context(atomic_folder(folder)) if ranks.is_first else folder
            name = ranks.texts(own.name, "the checkpoint's folder")[0]
            yield folder.with_name(name)
            ranks.any(False, "the checkpoint's files of all ranks")

    def whole_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Gathered tensor by tensor; empty on all ranks but the first."""
        found = {}
        with self.gathering():
            for name, parameter in model.named_parameters():
                whole = _whole(parameter)
                if self.ranks.is_first:
                    found[name] = whole.detach().cpu()
        if self.ranks.is_first:
            buffers = dict(model.named_buffers())
            found |= {name: buffers[name].cpu() for name in model.state_dict() if name in buffers}
        return found

    def write_state(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """This rank's rows; what is no rows (step counters) is alike everywhere, and the first's."""
        own = {k: v for k, v in state.items() if self.ranks.is_first or hasattr(v, "full_tensor")}
        write_shard(folder / SHARDED_OPTIMIZER, own, rank=self.ranks.rank)

    def read_state(self, folder: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        whole = folder / OPTIMIZER
        shards = sorted((folder / SHARDED_OPTIMIZER).glob("*.safetensors"))
        return read_shards([whole] if whole.is_file() else shards, parameters)


def open_sharding(recipe: Recipe, ranks: Ranks, family: Family, processor: Processor) -> Copies:
    """As the recipe says; one process alone has nobody to share with."""
    if not recipe.fsdp or ranks.size == 1:
        return Copies(ranks)
    return Shards(ranks, processor, takes_images=family.takes_images)


def _filler(processor: Processor, *, pictured: bool) -> Example:
    """A conversation of which nothing is trained."""
    text: tuple[Any, ...] = (Text("-"),)
    if pictured:
        grey = np.full((FILLER_PIXELS, FILLER_PIXELS, 3), 128, np.uint8)
        text = (Image.of(grey), *text)
    return processor.encode_prompt(Conversation((Message("user", text),)))


def _ends(model: Any) -> list[nn.Module]:
    """Embeddings and LM head, where each has a weight of its own."""
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    if first is None or last is None or first.weight is last.weight:
        return []
    return [first, last]


def _whole(parameter: Tensor) -> Tensor:
    shared: DTensor | Tensor = parameter
    return shared.full_tensor() if hasattr(shared, "full_tensor") else shared
