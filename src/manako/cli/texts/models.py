"""`manako models`, `list` and `show`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "models": (
        "公開モデルの大きさ、ライセンス、成績を調べ、手元の機械に合うものを選ぶ。",
        "The survey of published models: sizes, licences, scores, and what fits here.",
    ),
}
