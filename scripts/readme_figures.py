"""Write what the quickstart reached into both READMEs, from its result.json and record.jsonl.

python scripts/readme_figures.py [RESULT.json]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from blocks import ROOT, table, write_block
from manako.core.files import read_json
from manako.core.record import read_record
from manako.core.units import show_bytes, show_seconds

BLOCK = "figures:quickstart"
RESULT = ROOT / "runs" / "quickstart" / "result.json"
CONTROLS = ("blank", "shuffled")
PACKAGES = ("torch", "transformers")


class Words(NamedTuple):
    """What a README says around the figures."""

    head: tuple[str, ...]
    kinds: Mapping[str, str]
    all: str
    below: str


ENGLISH = Words(
    head=("Question", "n", "Right", "95 % interval", "Blank", "Shuffled", "Commonest"),
    kinds={
        "read_one": "read the one digit",
        "read_all": "read all digits in order",
        "read_pair": "read both sheets",
        "position": "leftmost, rightmost, k-th",
        "at_mark": "the digit at the coloured mark",
        "count": "how many digits",
        "colour": "colour of the mark",
        "first_sheet": "first of two sheets",
        "second_sheet": "second of two sheets",
    },
    all="**all**",
    below="*Blank*: the picture replaced by white paper; *shuffled*: the picture of another "
    "question; *commonest*: always the commonest answer. The first two must not beat the third. "
    "Intervals are clustered by picture.\n\n"
    "Measured {date} on {machine}, Python {python}, {packages}: the whole command took {seconds} "
    "(training {training}), peak memory {memory}.",
)
JAPANESE = Words(
    head=("質問", "問題数", "正答率", "95 % 区間", "白紙", "入れ替え", "最頻の答え"),
    kinds={
        "read_one": "一つだけの数字を読む",
        "read_all": "全部の数字を順に読む",
        "read_pair": "二枚の用紙を読む",
        "position": "左端・右端・何番目",
        "at_mark": "色つきの印の数字",
        "count": "数字はいくつ",
        "colour": "印の色",
        "first_sheet": "二枚のうち一枚目",
        "second_sheet": "二枚のうち二枚目",
    },
    all="**全体**",
    below="「白紙」は画像を白紙に、「入れ替え」は別の問題の画像に差し替えたとき、「最頻の答え」は"
    "いつも一番多い答えを返したときの正答率です。前の二つが三つ目を超えたら、画像を見ずに答えられる"
    "問題だということになります。区間は画像ごとにまとめて計算しています。\n\n"
    "{date} に測定。{machine}、Python {python}、{packages}。コマンド全体で {seconds}"
    "（うち学習 {training}）、メモリーは最大 {memory}。",
)
READMES = {"README.md": ENGLISH, "README.ja.md": JAPANESE}


def figures(result: Mapping[str, Any], header: Mapping[str, Any], words: Words) -> str:
    """The block of one README: a row per kind of question, then how it was measured."""
    rows = [_row(words.kinds.get(kind, kind), found) for kind, found in result["by_kind"].items()]
    below = words.below.format(
        date=str(header["created"])[:10],
        machine=header["machine"],
        python=header["python"],
        packages=", ".join(f"{name} {header['versions'][name]}" for name in PACKAGES),
        seconds=show_seconds(result["seconds"]),
        training=show_seconds(result["seconds_by_step"]["train"]),
        memory=show_bytes(result["peak_memory_bytes"]),
    )
    drawn = table(
        list(words.head),
        [*rows, _row(words.all, _overall(result))],
        right=frozenset(range(1, len(words.head))),
    )
    return f"{drawn}\n\n{below}"


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    return [
        name,
        f"{found['n']:,}",
        _percent(found["accuracy"]),
        f"{_percent(found['low'])}–{_percent(found['high'])}",
        *(_percent(found.get(control)) for control in CONTROLS),
        _percent(found["majority"]),
    ]


def _overall(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n": result["test_questions"],
        "accuracy": result["accuracy"],
        "low": result["accuracy_low"],
        "high": result["accuracy_high"],
        "majority": result["majority"]["accuracy"],
        **{name: result["controls"][name]["accuracy"] for name in CONTROLS},
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def main(path: Path = RESULT) -> None:
    """Rewrite the block of both READMEs."""
    result = read_json(path)
    header = read_record(path.parent / "record.jsonl").header
    for name, words in READMES.items():
        write_block(ROOT / name, BLOCK, figures(result, header, words))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
