"""`manako models tokens`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "models.tokens_command": (
        (
            "画像一枚が何トークンになり、文脈の何割を占めるかを、モデルごとに計算する。\n"
            "重みも画像処理のライブラリーも要らず、画像の大きさだけから求める。"
        ),
        (
            "What a picture costs in tokens, and how much of the context that is, model by model.\n"
            "Computed from the picture's size alone; no weights and no image library are needed."
        ),
    ),
    "option.tokens.image": (
        "画像の大きさ（例: 1240x1754）か、@ を付けたファイル（例: @page.png）。何度でも指定できる。既定は 150 dpi の A4。",
        "A size in pixels (1240x1754), or @ and a file (@page.png); may be repeated. Otherwise A4 at 150 dpi.",
    ),
    "option.tokens.all": (
        "カードのあるすべてのモデルについて計算する。",
        "All models that have a card.",
    ),
    "option.tokens.set": (
        "規則の設定を置き換える（例: max_pixels=1003520、複数画像の会話なら pictures=3）。何度でも指定できる。",
        "Replace a setting of the rule (max_pixels=1003520; pictures=3 for a conversation of three).",
    ),
    "tokens.rule": ("規則と設定", "Rule and settings"),
    "tokens.share": ("文脈に占める割合", "Of the context"),
    "tokens.refused": ("受け付けない", "refused"),
    "tokens.what_counts": (
        "画像そのものを表す位置だけを数える。前後や区画の間に入る印は、どれも数トークンで、含めていない。",
        "Counted are the positions that hold the picture; the few marks around it and between tiles are not.",
    ),
    "tokens.why_refused": ("受け付けない大きさ: {why}", "Refused: {why}"),
    "tokens.text_only": (
        "画像を受け取らない（文字だけの）モデル: {models}",
        "These take no pictures, only text: {models}",
    ),
    "tokens.unknown": (
        "画像のトークン数の規則が分かっていないモデル: {models}",
        "The image-token rule of these is not known: {models}",
    ),
}
