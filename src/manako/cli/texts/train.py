"""`manako train` and `manako runs`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "train": (
        (
            "レシピのとおりに学習する。\n"
            "学習は独立したプロセスで走り、端末を閉じても続く。画面はその記録を読むだけ。"
            "Ctrl-C で保存して止まり、同じコマンドで続きから再開する。"
        ),
        (
            "Train by a recipe.\n"
            "The run is a process of its own: closing the terminal does not end it, and what you see "
            "only reads its record. Ctrl-C saves and stops; the same command goes on from there."
        ),
    ),
    "option.train.foreground": (
        "別のプロセスにせず、このプロセスの中で学習する（コンテナや CI 向け）。",
        "Train in this process instead of one of its own (for containers and CI).",
    ),
    "train.started": (
        "学習を {folder} で始めます。端末を閉じても続きます。Ctrl-C で保存して止まります。",
        (
            "Starting the run in {folder}. It goes on when this terminal is closed; Ctrl-C saves "
            "and stops it."
        ),
    ),
    "train.goes_on": (
        "{folder} では、このレシピの学習がすでに進んでいます。それを表示します。Ctrl-C で保存して止まります。",
        "The run in {folder} goes on already, by this recipe. Watching it; Ctrl-C saves and stops it.",
    ),
    "train.log": ("詳しくは {path}", "see {path}"),
    "train.preparing": ("モデルとデータを準備しています", "preparing model and data"),
    "train.resuming": (
        "続きから再開: ステップ {step:,}/{total:,}、エポック {epoch:.2f}、データ {positions}",
        "Going on from step {step:,}/{total:,}, epoch {epoch:.2f}, data {positions}",
    ),
    "train.position": (
        "{name} {epoch} 周目の {row:,}/{rows:,} 行",
        "{name} round {epoch}, row {row:,}/{rows:,}",
    ),
    "train.other_setting": (
        "前回と違う環境です。続けますが、ビット単位では一致しません: {differences}",
        "The setting differs from before; the run goes on, but not bit for bit: {differences}",
    ),
    "train.trains": (
        "学習する: {parts}（全 {parameters} 中 {trained} パラメータ）",
        "Training {parts} ({trained} of {parameters} parameters)",
    ),
    "train.part": ("{part} {how} 学習率 {rate:g}", "{part} {how} at {rate:g}"),
    "train.saving": (
        "止めています。保存が済むまでお待ちください（もう一度 Ctrl-C で、待たずに離れます）。",
        "Stopping: the run saves first (Ctrl-C once more leaves without waiting).",
    ),
    "train.left": (
        "離れました。状態を見るには: manako runs attach {folder}",
        "Left. To look again: manako runs attach {folder}",
    ),
    "train.finished": (
        "終わりました。{step:,} ステップ、重みは {checkpoint}。次は: manako view {folder}",
        "Finished after {step:,} steps; the weights are in {checkpoint}. Next: manako view {folder}",
    ),
    "train.speed": (
        "速度: {speed:,.0f} トークン/秒",
        "Speed: {speed:,.0f} tokens/s",
    ),
    "train.speed.tflops": (
        "速度: {speed:,.0f} トークン/秒、デバイスあたり {tflops:.3g} TFLOP/s",
        "Speed: {speed:,.0f} tokens/s, {tflops:.3g} TFLOP/s per device",
    ),
    "train.speed.mfu": (
        "速度: {speed:,.0f} トークン/秒、デバイスあたり {tflops:.3g} TFLOP/s（ピーク性能の {share:.1f}%）",
        "Speed: {speed:,.0f} tokens/s, {tflops:.3g} TFLOP/s per device ({share:.1f}% of its peak)",
    ),
    "train.stopped": (
        "ステップ {step:,}/{total:,} で保存して止まりました。続けるには: {command}",
        "Stopped at step {step:,}/{total:,}, saved. To go on: {command}",
    ),
    "train.stopped_early": (
        "始まる前に止まりました。始めるには: {command}",
        "Stopped before the first step. To start: {command}",
    ),
    "train.killed": (
        (
            "学習のプロセスが途中で消えました（強制終了、またはメモリー不足）。最後のチェックポイントは無事です。"
            "続けるには: {command}。プロセスの最後の出力:"
        ),
        (
            "The process of the run is gone (killed, or out of memory). Its last checkpoint is whole. "
            "To go on: {command}. What it printed last:"
        ),
    ),
    "runs": ("学習の一覧、観察、停止。", "List, watch and stop runs."),
    "runs.list": (
        "学習を新しい順に並べる。\nフォルダーを省略すると runs/ を見る。",
        "List runs, latest first.\nLooks into runs/ unless a folder is given.",
    ),
    "runs.attach": (
        (
            "学習の経過を見る。見るだけなので、Ctrl-C で離れても学習は続く。\n"
            "RUN は実行フォルダー、または runs/ の下の名前。"
        ),
        (
            "Watch a run. It only reads: Ctrl-C leaves, and the run goes on.\n"
            "RUN is the folder of a run, or its name below runs/."
        ),
    ),
    "runs.stop": (
        "学習に、保存して止まるよう頼む。\nRUN は実行フォルダー、または runs/ の下の名前。",
        "Ask a run to save and stop.\nRUN is the folder of a run, or its name below runs/.",
    ),
    "runs.none": ("{folder} に学習はありません。", "There is no run in {folder}."),
    "runs.title": ("学習の一覧", "Runs"),
    "runs.name": ("名前", "Name"),
    "runs.state": ("状態", "State"),
    "runs.steps": ("ステップ", "Steps"),
    "runs.loss": ("損失", "Loss"),
    "runs.left": ("残り", "Left"),
    "runs.updated": ("更新", "Updated"),
    "runs.state.starting": ("準備中", "starting"),
    "runs.state.running": ("実行中", "running"),
    "runs.state.stopped": ("停止（再開可）", "stopped, can go on"),
    "runs.state.finished": ("完了", "finished"),
    "runs.state.failed": ("失敗", "failed"),
    "runs.state.killed": ("途中で終了（再開可）", "killed, can go on"),
    "runs.stopping": ("{name} の保存と停止を待っています", "waiting for {name} to save and stop"),
    "runs.not_running": (
        "{name} は動いていません（{state}）。",
        "{name} is not running ({state}).",
    ),
    "runs.stopped": (
        "{name} はステップ {step:,}/{total:,} で止まりました（{state}）。",
        "{name} has ended at step {step:,}/{total:,} ({state}).",
    ),
}
