"""`manako export` and `manako verify`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "export": (
        (
            "学習した重みを、ほかの道具で使える形に書き出す。\n"
            "書いたあと別のプロセスで読み直し、元のモデルと同じ答えになるか確かめてから終わる。"
        ),
        (
            "Write trained weights in a form that other tools read.\n"
            "Reloaded in a clean process and compared with the original before it says done."
        ),
    ),
    "option.export.to": ("書き出す形式: {targets}。", "Format to write: {targets}."),
    "option.export.out": ("書き込む新しいフォルダー。", "New folder to write."),
    "export.working": ("書き出して、確かめています", "exporting and comparing"),
    "export.done": ("{out} に書き出しました。", "Exported to {out}."),
    "export.title": ("書き出しの確認", "The export, checked"),
    "verify": (
        (
            "モデルが 13 の法則を守るかを、手元のチェックポイントで確かめる。\n"
            "終了コード: 0 すべて成立、1 不成立あり、4 試せない法則あり。"
        ),
        (
            "Try the 13 laws on a checkpoint.\n"
            "Exit codes: 0 all hold, 1 one fails, 4 one could not be tried here."
        ),
    ),
    "option.verify.law": (
        "この番号の法則だけ。何度でも指定できる。",
        "Only the law of this number; may be repeated.",
    ),
    "verify.bar": ("法則を確かめています", "trying the laws"),
}
