"""What every command says: help, options, errors."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
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
