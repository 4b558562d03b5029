"""`manako init`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "init": (
        (
            "説明付きの設定、見本のデータ、AI 向けの手引きが入ったフォルダーを作る。\n"
            "そのままで、データの変換から学習、質問までを CPU だけで試せる。既にあるものは上書きしない。"
        ),
        (
            "A project folder: a commented recipe, sample data, and a guide for code assistants.\n"
            "It runs as it is, from data to an answer, on a CPU. Nothing that is there is overwritten."
        ),
    ),
    "init.made": (
        "{folder} を作った（対話 {rows} 件、学習に使わない対話 {held_out} 件）。",
        "{folder} is made ({rows} conversations, {held_out} held out).",
    ),
    "init.next": ("次の手順:", "Next:"),
    "init.step": ("  {step}", "  {step}"),
    "init.llms": (
        "コードを書く AI には llms.txt を渡す。",
        "Give llms.txt to a code assistant.",
    ),
}
