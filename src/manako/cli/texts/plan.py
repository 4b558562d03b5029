"""`manako plan`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "plan": (
        (
            "学習の前に、メモリー・時間・容量を見積もる。\n"
            "はじめの 3 ステップを実際に動かして時間を測る（--no-measure で計算だけ）。何も書き残さない。"
        ),
        (
            "Memory, time and disk of a recipe before anything is spent.\n"
            "Times the first three steps for real (--no-measure: arithmetic alone). Leaves nothing behind."
        ),
    ),
    "option.plan.measure": (
        "3 ステップを実際に動かして測る。",
        "Run three steps and measure them.",
    ),
    "option.set": (
        "レシピの項目を上書きする。何度でも指定できる（例: --set train.vision=frozen）。",
        "Override a field of the recipe; may be repeated (--set train.vision=frozen).",
    ),
    "plan.working": ("データとモデルを調べています", "reading data and model"),
    "plan.measuring": ("3 ステップを測っています", "measuring three steps"),
    "part.vision": ("視覚", "vision"),
    "part.projector": ("接続", "projector"),
    "part.language": ("言語", "language"),
    "how.full": ("全体", "full"),
    "how.lora": ("LoRA", "LoRA"),
    "how.frozen": ("固定", "frozen"),
    "plan.parts": ("何を学習するか", "What is trained"),
    "plan.part": ("部分", "Part"),
    "plan.how": ("方法", "Method"),
    "plan.parameters": ("パラメータ", "Parameters"),
    "plan.trained": ("うち学習", "Trained"),
    "plan.total": ("合計", "Total"),
    "plan.memory": ("メモリー（テンソル、計算による）", "Memory (tensors, by arithmetic)"),
    "plan.term": ("内訳", "What for"),
    "plan.bytes": ("大きさ", "Size"),
    "plan.memory.weights": ("重み", "weights"),
    "plan.memory.adapters": ("アダプター", "adapters"),
    "plan.memory.casts": ("重みの bfloat16 の写し", "bfloat16 copies of weights"),
    "plan.memory.gradients": ("勾配", "gradients"),
    "plan.memory.optimizer": ("最適化器の状態", "optimizer state"),
    "plan.memory.activations_vision": ("中間値: 視覚", "activations: vision"),
    "plan.memory.activations_projector": ("中間値: 接続", "activations: projector"),
    "plan.memory.activations_language": ("中間値: 言語", "activations: language"),
    "plan.memory.recomputed": ("計算し直す1層の中間値", "one layer computed again"),
    "plan.memory.logits": ("ロジット（学習する位置だけ）", "logits of trained positions"),
    "plan.memory.inputs": ("入力", "inputs"),
    "plan.memory.total": ("最大になる瞬間", "at the worst moment"),
    "plan.memory.process": ("CPU のプロセス全体", "whole process on a CPU"),
    "plan.memory.measured_process": (
        "実測: プロセス全体（3 ステップ）",
        "measured: whole process (three steps)",
    ),
    "plan.memory.measured_tensors": (
        "実測: テンソル（3 ステップ）",
        "measured: tensors (three steps)",
    ),
    "plan.run": ("学習の規模", "The run"),
    "plan.item": ("項目", "Item"),
    "plan.value": ("値", "Value"),
    "plan.steps": ("ステップ", "Steps"),
    "plan.steps.estimated": ("{steps:,}（見積もり）", "{steps:,} (estimated)"),
    "plan.tokens": ("1 ステップのトークン", "Tokens per step"),
    "plan.tokens.value": (
        "{tokens:,.0f}（うち学習 {trained:,.0f}）",
        "{tokens:,.0f} ({trained:,.0f} trained)",
    ),
    "plan.rows": ("1 ステップの行", "Rows per step"),
    "plan.fill": ("パックの充填率", "Pack fill"),
    "plan.data": ("データの行", "Rows of data"),
    "plan.data.value": (
        "{rows:,}（{sampled:,} 行を調査、使えない行 {refused}、長すぎる行 {long}）",
        "{rows:,} ({sampled:,} looked at, {refused} refused, {long} too long)",
    ),
    "plan.step_seconds": ("1 ステップの時間", "Time per step"),
    "plan.seconds": (
        "全体の時間（検証と保存を除く）",
        "Time in all, without validation and saving",
    ),
    "plan.checkpoint": ("チェックポイント 1 個", "One checkpoint"),
    "plan.disk": ("ディスク", "Disk"),
}
