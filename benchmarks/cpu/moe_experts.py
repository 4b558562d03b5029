"""Tokens per second of a layer's routed experts: python -m benchmarks.cpu.moe_experts

The experts of one layer of DeepSeek-VL2-tiny (width 1,280, 64 experts of 896, 6 a token), with random
weights and random experts for each token. Grouped products, and the same sorted blocks expert by
expert (`manako/nn/deepseek_vl2_text.py`), beside a plain loop: each expert three linear modules, and
its tokens picked by a mask, as the authors' public code trains. One thread, forward, and forward
with gradients of inputs and of all weights, which are none before, as where a step has one pack;
results are compared before anything is timed. Options make it smaller.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import measure
from manako.nn import deepseek_vl2_text as text

GROUPED, BLOCKS, LOOP = "grouped products", "blocks, expert by expert", "a loop over experts"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PASSES = ("forward", "forward + backward")
MOST_APART = {"float32": 1e-5, "bfloat16": 3e-2}
"""Of the results' spread: products are rounded to the dtype, and their terms summed in any order."""


@dataclass(frozen=True)
class Contestant:
    """Whose gradients are taken, and the way there."""

    module: nn.Module
    run: Callable[[], Tensor]


class Loop(nn.Module):
    """The plain loop, with the memory of fused weights: an expert's gradients are its own."""

    def __init__(self, experts: text.DeepseekVL2Experts) -> None:
        super().__init__()
        pairs = zip(experts.gate_up_proj, experts.down_proj, strict=True)
        self.experts = nn.ModuleList(_one(*pair) for pair in pairs)

    def forward(self, x_TD: Tensor, chosen_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """[T, D], each expert on the pairs that chose it."""
        flat_S = chosen_TK.flatten()
        x_SD = x_TD.repeat_interleave(chosen_TK.shape[1], dim=0)
        done_SD = torch.empty_like(x_SD)
        for number, expert in enumerate(self.experts):
            is_chosen_S = flat_S == number
            done_SD[is_chosen_S] = expert(x_SD[is_chosen_S])
        done_TKD = done_SD.unflatten(0, chosen_TK.shape)
        return (done_TKD * weights_TK[..., None]).sum(dim=1).to(x_TD.dtype)


class _Expert(nn.Module):
    def __init__(self, gate: Tensor, up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.gate, self.up, self.down = (nn.Parameter(weight) for weight in (gate, up, down))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.silu(functional.linear(x, self.gate)) * functional.linear(x, self.up)
        return functional.linear(inner, self.down)


def _one(gate_up: Tensor, down: Tensor) -> _Expert:
    return _Expert(*gate_up.detach().chunk(2), down.detach())


def make_layer(options: argparse.Namespace, dtype: torch.dtype) -> text.DeepseekVL2Experts:
    """Experts with random weights."""
    config = text.DeepseekVL2LanguageConfig(
        hidden_size=options.width,
        moe_intermediate_size=options.inner,
        n_routed_experts=options.experts,
    )
    layer = text.DeepseekVL2Experts(config).to(dtype)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_(std=0.02)
    return layer


def contestants(
    layer: text.DeepseekVL2Experts, inputs: tuple[Tensor, ...]
) -> dict[str, Contestant]:
    """Each way of computing the layer, by name."""
    loop = Loop(layer)

    def ours(is_grouped: bool) -> Tensor:
        text.can_group = lambda *_: is_grouped  # type: ignore[assignment]
        return layer(*inputs)  # type: ignore[no-any-return]

    return {
        GROUPED: Contestant(layer, lambda: ours(True)),
        BLOCKS: Contestant(layer, lambda: ours(False)),
        LOOP: Contestant(loop, lambda: loop(*inputs)),
    }


def timed(one: Contestant, passes: str, x_TD: Tensor, repeats: int) -> float:
    """Tokens per second of `repeats` passes."""
    start = perf_counter()
    for _ in range(repeats):
        if passes == PASSES[0]:
            with torch.no_grad():
                one.run()
        else:
            (one.run() * x_TD.detach()).sum().backward()
            x_TD.grad = None
            one.module.zero_grad()
    return len(x_TD) * repeats / (perf_counter() - start)


def check_equal(runs: dict[str, Contestant], limit: float) -> float:
    """How far results lie apart, of their spread. Raises `RuntimeError` above the limit."""
    with torch.no_grad():
        found = {name: one.run().float() for name, one in runs.items()}
    wanted = found[LOOP]
    worst = max(float((one - wanted).abs().max() / wanted.std()) for one in found.values())
    if worst > limit:
        raise RuntimeError(f"results differ by {worst:.1e} of their spread; at most {limit:.0e}")
    return worst


def measured(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, list[float]], float]]:
    """Rates by contestant for each dtype and kind of pass, and how far results lie apart."""
    for name, dtype in DTYPES.items():
        torch.manual_seed(0)
        layer = make_layer(options, dtype)
        x_TD = torch.randn(options.tokens, options.width, dtype=dtype, requires_grad=True)
        scores = torch.rand(options.tokens, options.experts)
        weights_TK, chosen_TK = scores.softmax(dim=-1).topk(options.chosen)
        runs = contestants(layer, (x_TD, chosen_TK, weights_TK))
        apart = check_equal(runs, MOST_APART[name])
        for passes in PASSES:
            rates = measure.paired(
                {
                    f"{name}, {passes}: {how}": _timed(one, passes, x_TD, options.repeats)
                    for how, one in runs.items()
                },
                options.rounds,
            )
            yield f"{name}, {passes}", rates, apart
        del layer, runs


def _timed(one: Contestant, passes: str, x_TD: Tensor, repeats: int) -> measure.Contestant:
    return lambda: timed(one, passes, x_TD, repeats)


def main() -> None:
    """Measure, print a line per contestant and ratio, and write a dated file."""
    options = _options()
    rates: dict[str, list[float]] = {}
    ratios: list[dict[str, Any]] = []
    apart = {}
    for case, found, worst in measured(options):
        rates |= found
        pairs = [(f"{case}: {GROUPED}", f"{case}: {how}") for how in (LOOP, BLOCKS)]
        ratios += measure.ratios(found, pairs)
        apart[case.partition(",")[0]] = measure.significant(worst, 2)
    table = measure.tabled(rates)
    measure.show("tokens/s", table, ratios)
    sizes = {name: value for name, value in vars(options).items() if name != "out"}
    head = measure.header("moe_experts", **sizes)
    fields = {"tokens_per_second": table, "ratios": ratios, "apart": apart}
    measure.write_result("moe-experts", head, fields, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--inner", type=int, default=896, help="width of an expert")
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--chosen", type=int, default=6, help="experts of a token")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="passes of a round")
    parser.add_argument("--out", type=Path, default=measure.RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
