"""`manako quickstart`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
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
}
