"""`manako cautions`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "cautions": (
        (
            "VLM についての注意と評判が、今も正しいかを根拠とともに調べる。\n"
            "ID を付けると、その一つの根拠・出典と、Manako がしていることを表示する。"
        ),
        (
            "Warnings, claims and silent traps, each checked: is it still so?\n"
            "With an ID: its evidence, its sources, and what Manako does about it."
        ),
    ),
    "option.cautions.for": (
        "この話題のもの。何度でも指定でき、どれか一つに当てはまればよい。話題: {topics}。",
        "On this topic; several mean any of them. Topics: {topics}.",
    ),
    "option.cautions.state": (
        "この状態のもの。状態: {states}。",
        "In this state. States: {states}.",
    ),
    "cautions.id": ("ID", "id"),
    "cautions.state": ("今は", "today"),
    "cautions.said": ("言われていること・起こること", "what is said, or happens"),
    "cautions.count": ("{count} 件", "{count} cautions"),
    "cautions.kind": ("種類", "kind"),
    "cautions.topics": ("話題", "topics"),
    "cautions.since": ("いつから", "since"),
    "cautions.evidence": ("根拠 [出典]", "Evidence [source]"),
    "cautions.does": ("Manako がしていること", "What Manako does about it"),
    "cautions.see": ("あわせて見る", "see also"),
    "cautions.kind.claim": ("調査にある評判", "claim of the survey"),
    "cautions.kind.warning": ("調査にある注意", "warning of the survey"),
    "cautions.kind.trap": ("黙って起こる落とし穴", "trap"),
    "cautions.state.right": ("正しい", "right"),
    "cautions.state.outdated": ("古い", "outdated"),
    "cautions.state.wrong": ("誤り", "wrong"),
    "cautions.state.depends": ("場合による", "depends"),
    "cautions.state.unproven": ("裏づけなし", "unproven"),
    "cautions.topic.choose": ("選ぶ", "choose"),
    "cautions.topic.licence": ("ライセンス", "licence"),
    "cautions.topic.data": ("データ", "data"),
    "cautions.topic.train": ("学習", "train"),
    "cautions.topic.memory": ("メモリー", "memory"),
    "cautions.topic.mac": ("Mac", "Mac"),
    "cautions.topic.run": ("実行", "run"),
    "cautions.topic.export": ("書き出し", "export"),
    "cautions.topic.measure": ("測定", "measure"),
    "cautions.topic.install": ("導入", "install"),
    "cautions.topic.safety": ("安全", "safety"),
}
