"""`manako view`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "view": (
        (
            "読むのではなく、見る。データの中身、または学習の経過を一枚のページにする。\n"
            "データフォルダーなら見本のページ、実行フォルダーならレポート。"
            "--model を付けると、モデルが見る絵と学習されるトークンも出る。"
        ),
        (
            "Look instead of read: samples of a data set, or the report of a run, as one page.\n"
            "With --model also the picture as the model sees it and which tokens are trained."
        ),
    ),
    "option.view.model": (
        "このモデルの目とトークンで見せる。",
        "Show pictures and tokens as this model has them.",
    ),
    "option.view.row": (
        "この番号（0 から）の行を一つだけ、端末に表示する。",
        "Print this one row (from 0) in the terminal.",
    ),
    "option.view.out": ("ページを書くファイル。", "File to write the page to."),
    "option.view.samples": ("見せる行の数。", "How many rows to show."),
    "view.bar": ("ページを作っています", "making the page"),
    "view.done": ("{path} をブラウザーで開いてください。", "Open {path} in a browser."),
}
