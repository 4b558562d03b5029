"""Everything the command line says, in Japanese and English side by side.

Errors that Manako raises on purpose stay English: their words are searched for. A text with several
lines has its first line alone in lists of commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TEXTS: Mapping[str, tuple[str, str]] = {
    # help
    "manako": (
        "眼 オープンな視覚言語モデルを、手元の機械で選び、学習し、測り、動かす道具。",
        "Choose, feed, train, measure and run open vision-language models on your own machine.",
    ),
    "help.usage": ("使い方", "Usage"),
    "help.options": ("オプション", "Options"),
    "help.commands": ("コマンド", "Commands"),
    "help.examples": ("例", "Examples"),
    "option.help": ("この説明を表示する。", "Show this help."),
    "option.version": ("バージョンを表示する。", "Show the version."),
    "option.lang": (
        "表示の言語（または環境変数 MANAKO_LANG、ロケール）。",
        "Language of the output (or MANAKO_LANG, or the locale).",
    ),
    "option.json": (
        "結果を JSON だけで標準出力に出す。ほかの表示は標準エラーへ。",
        "Print the result as JSON alone on stdout; all else goes to stderr.",
    ),
    # quickstart
    "quickstart": (
        (
            "データ作りから学習、測定、質問、レポートまでを数分で一通り試す。\n"
            "本物の手書き数字の画像を使い、CPU だけで動く。途中で止めても、同じコマンドで続きから再開する。"
        ),
        (
            "The whole path in minutes: data, training, measuring, asking, report.\n"
            "Real scans, a CPU is enough. Stopped at any point, the same command goes on from there."
        ),
    ),
    "option.quickstart.out": (
        "結果を置くフォルダー。",
        "Folder for everything that is made.",
    ),
    "quickstart.forms": ("本物の手書き数字から用紙の画像を作る", "compose forms of real scans"),
    "quickstart.convert": ("共通の Parquet 形式に変換する", "convert to one stored form"),
    "quickstart.model": ("小さなモデルを乱数で用意する", "make a small model, random weights"),
    "quickstart.look": ("データを数え、見本のページを作る", "count the data, make a preview page"),
    "quickstart.plan": ("メモリーと時間を見積もる", "plan memory and time"),
    "quickstart.train": ("学習する", "train"),
    "quickstart.measure": (
        "学習に使っていない数字で測る（白紙と入れ替えの対照つき）",
        "measure on scans never seen, beside two controls",
    ),
    "quickstart.ask": ("一問きいてみる", "ask one question"),
    "quickstart.report": ("レポートを書く", "write the report"),
    "quickstart.before": ("済み", "done before"),
    "quickstart.made": (
        "用紙 {pictures:,} 枚、対話 {rows:,} 件",
        "{pictures:,} pictures, {rows:,} conversations",
    ),
    "quickstart.converted": (
        "{name}: {rows:,} 行、除外 {dropped:,}（{size}）",
        "{name}: {rows:,} rows, {dropped:,} dropped ({size})",
    ),
    "quickstart.sets": ("データセット", "Data sets"),
    "quickstart.page": ("ページ: {page}", "page: {page}"),
    "quickstart.resumed": (
        "ステップ {step:,} から再開（エポック {epoch}）",
        "going on from step {step:,} (epoch {epoch})",
    ),
    "quickstart.answer": (
        "答え: {answer}（正解: {expected}）",
        "answer: {answer} (right: {expected})",
    ),
    "quickstart.stopped": (
        "止めました。チェックポイントは保存済みです。同じコマンドで続きから再開します。",
        "Stopped; the checkpoint is saved. The same command goes on from there.",
    ),
    "quickstart.done": (
        "正解率 {accuracy:.1%}（{questions:,} 問）、全体で {seconds}。",
        "{accuracy:.1%} of {questions:,} questions right, {seconds} in all.",
    ),
    "quickstart.next": ("次は: {command}", "next: {command}"),
    # data
    "data": ("データセットを変換し、調べる。", "Convert data sets and look into them."),
    "data.convert": (
        (
            "画像と対話のデータを、共通の Parquet 形式に変換する。\n"
            "SRC はファイルかフォルダー。使えない行は理由とともに dropped.parquet に残る。"
        ),
        (
            "Turn pictures and conversations into one Parquet form.\n"
            "SRC is a file or folder. Rows that cannot be used stay on record in dropped.parquet."
        ),
    ),
    "option.convert.out": ("書き込む新しいフォルダー。", "New folder to write."),
    "option.convert.format": (
        "元の形式（省略すると自動で判定）: {formats}。",
        "Format of the source (found out if left out): {formats}.",
    ),
    "option.convert.images": (
        "画像ファイルがある別のフォルダー。",
        "A further folder in which the picture files lie.",
    ),
    "convert.bar": ("変換中", "converting"),
    "convert.done": (
        "{rows:,} 行、画像 {images:,} 枚を {out} に書きました（{size}、{seconds}）。",
        "{rows:,} rows with {images:,} pictures are in {out} ({size}, {seconds}).",
    ),
    "convert.dropped": (
        "{dropped:,} 行は使えませんでした: {reasons}。詳しくは {file}",
        "Rows that could not be used: {dropped:,} ({reasons}). Each is in {file}",
    ),
    "convert.left_out": (
        "形式の違うファイル {count} 個は読みませんでした（最初の一つ: {file}）。",
        "{count} files are of another format and were not read (the first: {file}).",
    ),
    "convert.next": ("次は: {command}", "Next: {command}"),
    "data.census": (
        (
            "データセットを数字で見る。行数、画像、文字、回答、重複など。\n"
            "DIR は data convert が作ったフォルダー。"
        ),
        (
            "A data set in figures: rows, pictures, words, answers, repeats.\n"
            "DIR is a folder that `data convert` made."
        ),
    ),
    "option.census.model": (
        "このモデルで数えたトークン数も出す。",
        "Also count tokens as this model makes them.",
    ),
    "census.working": ("数えています", "counting"),
    "census.bar": ("トークンを数えています", "counting tokens"),
    # view
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
    # plan
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
    # train and runs
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
    # generate and chat
    "generate": (
        (
            "モデルに一度だけ尋ねる。\n"
            "PART は文、または @画像のパス。並べた順にモデルへ渡る。@ で始まる文は @@ と書く。"
            "画像が見つからなければエラーになり、文として扱われることはない。"
        ),
        (
            "Ask a model once.\n"
            "A PART is text, or @picture; the model gets them in the order given. Write @@ for a text "
            "that begins with @. A picture that does not exist is an error, never text."
        ),
    ),
    "chat": (
        (
            "モデルと対話する。\n"
            '画像は、文の中の置きたい場所に @パス と書く（空白を含むなら @"パス"、@ の文字は @@）。'
            "/image パス は次の文の前に置く。/reset で忘れ、/quit で終わる。"
        ),
        (
            "Talk with a model, turn by turn.\n"
            'Write @path where a picture belongs in the line (@"path" if it has blanks, @@ for an @); '
            "/image PATH puts one before the next line. /reset forgets, /quit ends."
        ),
    ),
    "option.adapter": (
        "モデルに重ねるアダプターのフォルダー。",
        "Folder of an adapter for the model.",
    ),
    "option.system": ("はじめに与えるシステムの文。", "A system text to begin with."),
    "option.max_new_tokens": ("答えの長さの上限（トークン）。", "Longest answer, in tokens."),
    "option.temperature": (
        "0 なら最も確からしい答え。大きいほど散らばる。",
        "0 takes the likeliest answer; above, tokens are drawn.",
    ),
    "option.top_p": (
        "確率の合計がこの割合になる上位のトークンから選ぶ。",
        "Draw among the likeliest tokens that make up this share.",
    ),
    "option.seed": ("くじ引きの種。", "Makes drawing repeatable."),
    "option.stop": (
        "この文字列が出たら止める。何度でも指定できる。",
        "End the answer at this string; may be repeated.",
    ),
    "model.working": ("モデルを開いています", "opening the model"),
    "generate.working": ("考えています", "thinking"),
    "generate.length": (
        "答えは {tokens} トークンの上限で切れています（--max-new-tokens で伸ばせます）。",
        "The answer was cut at {tokens} tokens (--max-new-tokens makes it longer).",
    ),
    "chat.hello": (
        "{model} と対話します。画像は @パス、終わりは /quit。",
        "Talking with {model}. Pictures as @path, /quit ends.",
    ),
    "chat.image": (
        "画像を加えました: {path}（{width}×{height}）",
        "Added picture {path} ({width}×{height})",
    ),
    "chat.forgotten": ("忘れました。", "Forgotten."),
    "chat.unknown": (
        "{command} という命令はありません。/image パス、/reset、/quit。",
        "There is no {command}. Known: /image PATH, /reset, /quit.",
    ),
    "chat.not_utf8": ("入力が UTF-8 ではありません。", "The input is not UTF-8 text."),
    "chat.interrupted": ("（中断しました）", "(interrupted)"),
    # export and verify
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
    # errors
    "error.head": ("エラー", "error"),
    "error.interrupted": (
        "止めました。書きかけのものは残っていません。同じコマンドでやり直せます。",
        "Stopped. Nothing half written is left; the same command starts again.",
    ),
    "error.unexpected": ("予期しないエラー: {error}", "unexpected error: {error}"),
    "error.traceback": (
        "詳しい記録は {path} にあります（{variable} を付けると画面に出ます）。報告に添えてください。",
        "the traceback is in {path} ({variable} prints it); please report it",
    ),
    "error.see_help": ("{command} で使い方を見る", "see {command}"),
}


class Texts:
    """The texts of one language; call it with a key and the values that the text names."""

    def __init__(self, lang: Literal["ja", "en"]) -> None:
        self._place = 0 if lang == "ja" else 1

    def __call__(self, key: str, /, **values: object) -> str:
        text = TEXTS[key][self._place]
        return text.format(**values) if values else text
