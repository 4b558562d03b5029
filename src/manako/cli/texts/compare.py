"""`manako models compare`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "compare": (
        (
            "モデルを 2 つから 6 つ、横に並べて比べる。\n"
            "成績は、同じ表の同じ列にあるものだけを並べる。--image で画像のトークン数も比べる。"
        ),
        (
            "Two to six models side by side.\n"
            "Scores stand side by side within one table and column alone. --image: what pictures cost."
        ),
    ),
    "option.compare.image": (
        "画像の大きさ（幅x高さ）または @ファイル。何度でも指定できる。指定しなければ 150 dpi の A4。",
        "A picture: WIDTHxHEIGHT or @file; may be repeated. A4 at 150 dpi unless given.",
    ),
    "compare.fact": ("項目", "fact"),
    "compare.tokens": ("{picture} のトークン", "tokens of {picture}"),
    "compare.runtime": ("動く: {name}", "runs in {name}"),
    "compare.laws": ("{count} 成立", "{count} hold"),
    "compare.memory.run": ("動かす（{bits} ビット）", "run ({bits} bit)"),
    "compare.memory.qlora": ("QLoRA で学習", "train with QLoRA"),
    "compare.memory.lora": ("LoRA で学習", "train with LoRA"),
    "compare.memory.full": ("全体を学習", "train in full"),
    "compare.section.facts": ("何であるか", "What it is"),
    "compare.section.pictures": ("画像", "Pictures"),
    "compare.section.memory": ("GPU のメモリー（計算による）", "GPU memory, by arithmetic"),
    "compare.section.runtimes": ("動かせるところ", "Where it runs"),
    "compare.section.scores": (
        "成績: {title}（採点 {judge}、{date}）",
        "Scores: {title} (judge {judge}, {date})",
    ),
    "compare.no_scores": (
        "2 つ以上のモデルに共通する成績はない。",
        "There is no score that two of them share.",
    ),
    "compare.lonely_scores": (
        "1 つのモデルにしかない成績が {count} ある（`manako models show` で見る）。",
        "{count} scores stand with one of them alone; see `manako models show`.",
    ),
    "compare.memory_note": (
        (
            "メモリー: 動かすときは文脈 {context:,} トークン、学習はパック {pack:,} トークン、視覚は固定、"
            "勾配チェックポイントなし。± は測っていないので付けない。"
        ),
        (
            "Memory: running with a context of {context:,} tokens; training with packs of {pack:,}, "
            "vision frozen, no gradient checkpointing. Nothing was measured yet, so no ± stands."
        ),
    ),
}
