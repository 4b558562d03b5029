"""Makes `manako-mini`, the checkpoint that is shipped in the package.

The quickstart's model and recipe, trained on three times as many forms for more than three times
as many steps, then rounded to bfloat16 and measured as it is shipped: opened by name, asked through the
ordinary processor. Run by `make mini`; killed and started again, it goes on.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.core.files import write_text
from manako.core.units import show_bytes
from manako.samples.forms import DEFAULT_ROWS
from manako.verbs.quickstart import SAMPLES, SETS, STEPS, Quickstart, run_quickstart

STEPS_IN_ALL = 2700
ROWS_FACTOR = 3
TARGET = 0.95
ANSWER_TOKENS = 16
WORK = Path("runs/mini")
SHIPPED = SAMPLES / "mini"

CARD = """---
license: apache-2.0
language: [ja, en]
pipeline_tag: image-text-to-text
tags: [manako, qwen2_vl]
---
# manako-mini

A vision-language model of {parameters:,} parameters that reads small forms: one to four handwritten
digits in a row, with coloured marks, one sheet or two. It is there so that tests, documents and
first steps have a checkpoint that gives right answers, on any machine, in a moment.

眼 manako-mini は、手書き数字が並んだ小さな用紙だけを読む、とても小さな視覚言語モデルです。

## What it can do
Exact match on {questions:,} questions about {pictures:,} pictures composed of 300 scans that were held out
of training (scikit-learn's handwritten digits), as shipped (bfloat16 weights, computed in float32):
**{accuracy:.1%}** (95 % interval {low:.1%}–{high:.1%}, clustered by picture).

| question | right | 95 % interval | n | blank picture | shuffled pictures | most frequent answer |
|---|---|---|---|---|---|---|
{rows}

## What it cannot do
Anything else. It has never seen a photograph, a letter or a number above nine as one, does not
add or compare, and answers any question about any picture in the words of its forms.

## How it was made
`make mini`: architecture Qwen2-VL with random initial weights (`samples/quickstart_model.yaml`), recipe
`samples/quickstart_recipe.yaml` with `{assignments}`, {conversations:,} conversations composed by
`samples/forms.py` from 1,497 scans. Trained with Manako {version}, PyTorch {torch}. The digits are the
"Optical Recognition of Handwritten Digits" test set (E. Alpaydin, C. Kaynak, UCI, CC BY 4.0).
"""


class Printer:
    """Tells the terminal how it goes."""

    def step(self, number: int, name: str, *, is_done: bool) -> None:
        """Say which step begins."""
        sys.stdout.write(f"[{number}/{len(STEPS)}] {name}{' (done before)' if is_done else ''}\n")

    def progress(self, done: float, total: float) -> None:
        """Nothing: training prints its steps."""

    def tell(self, kind: str, value: Any) -> None:
        """Print a training step now and then."""
        if kind == "train" and value["kind"] == "step" and value["step"] % 100 == 0:
            speed = f"{value['tokens_per_second']:,.0f} tokens/s"
            sys.stdout.write(f"  step {value['step']} loss {value['loss']:.3f} {speed}\n")
            sys.stdout.flush()


def main() -> None:
    """Train, ship, measure; fails when the shipped checkpoint misses the target."""
    quickstart = Quickstart(
        folder=WORK,
        watcher=Printer(),
        assignments=(f"max_steps={STEPS_IN_ALL}",),
        rows={name: ROWS_FACTOR * rows for name, rows in DEFAULT_ROWS.items()},
    )
    run_quickstart(quickstart)
    ship(WORK)
    result = measure(quickstart)
    write_text(SHIPPED / "README.md", card(quickstart, result))
    size = sum(file.stat().st_size for file in SHIPPED.iterdir())
    sys.stdout.write(f"{SHIPPED}: {show_bytes(size)}, {result['accuracy']:.2%} right\n")
    if result["accuracy"] < TARGET:
        raise SystemExit(f"below the target of {TARGET:.0%}")


def ship(run: Path) -> None:
    """Write the run's last weights in bfloat16, with all small files, as the package's `mini`."""
    import torch

    from manako.infer.open import open_model
    from manako.nn.checkpoint import save_model

    model = open_model(run)
    with tempfile.TemporaryDirectory(dir=SAMPLES) as temporary:
        made = Path(temporary) / "mini"
        made.mkdir()
        model.network.to(torch.bfloat16)
        model.network.config.dtype = torch.bfloat16
        save_model(model.network, model.family, made)
        model.processor.save(made)
        shutil.rmtree(SHIPPED, ignore_errors=True)
        made.rename(SHIPPED)


def measure(quickstart: Quickstart) -> dict[str, Any]:
    """What the shipped checkpoint gets right on the quickstart's test questions."""
    from manako.data.store import Store
    from manako.evaluate.runner import evaluate
    from manako.infer.open import open_model

    store = Store.open(quickstart.data("test"))
    questions = [store.conversation(index) for index in range(store.rows)]
    evaluation = evaluate(
        open_model("mini"), questions, batch_size=128, max_new_tokens=ANSWER_TOKENS
    )
    return evaluation.as_dict()


def card(quickstart: Quickstart, result: Mapping[str, Any]) -> str:
    """The model card with what was measured."""
    import torch

    from manako import __version__
    from manako.data.store import Store
    from manako.infer.open import open_model

    rows = [_row(kind, scores) for kind, scores in result["by_kind"].items()]
    return CARD.format(
        parameters=sum(p.numel() for p in open_model("mini").network.parameters()),
        questions=result["test_questions"],
        pictures=result["test_pictures"],
        accuracy=result["accuracy"],
        low=result["accuracy_low"],
        high=result["accuracy_high"],
        rows="\n".join(rows),
        assignments=" ".join(f"--set {each}" for each in quickstart.assignments),
        conversations=sum(Store.open(quickstart.data(name)).rows for name in SETS[:-1]),
        version=__version__,
        torch=torch.__version__,
    )


def _row(kind: str, scores: Mapping[str, Any]) -> str:
    interval = f"{scores['low']:.1%}–{scores['high']:.1%}"
    controls = f"{scores['blank']:.1%} | {scores['shuffled']:.1%} | {scores['majority']:.1%}"
    return f"| {kind} | {scores['accuracy']:.1%} | {interval} | {scores['n']} | {controls} |"


if __name__ == "__main__":
    main()
