"""`manako generate` and `manako chat`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "generate": (
        (
            "モデルに一度だけ尋ねる。\n"
            "PART は文、または @画像や動画のパス。並べた順にモデルへ渡る。@ で始まる文は @@ と書く。"
            "ファイルが見つからなければエラーになり、文として扱われることはない。動画（.mp4 .mov .webm "
            ".mkv）には manako[video] が要り、1 秒に 2 コマ、64 コマまでを見る。"
        ),
        (
            "Ask a model once.\n"
            "A PART is text, or @picture or @video; the model gets them in the order given. Write @@ for "
            "a text that begins with @. A file that does not exist is an error, never text. A video "
            "(.mp4 .mov .webm .mkv) needs manako[video]; two frames a second are seen, 64 at most."
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
    "option.revision": (
        "Hub にあるモデルのブランチ、タグ、またはコミット。",
        "Branch, tag or commit of a model on the Hub.",
    ),
    "option.adapter": (
        "モデルに重ねるアダプターのフォルダー、または Hub での名前。",
        "Folder of an adapter for the model, or its name on the Hub.",
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
    "model.download": ("{model} をダウンロードしています", "downloading {model}"),
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
    "chat.video": (
        "動画を加えました: {path}（{frames} コマ）",
        "Added video {path} ({frames} frames)",
    ),
    "chat.forgotten": ("忘れました。", "Forgotten."),
    "chat.unknown": (
        "{command} という命令はありません。/image パス、/reset、/quit。",
        "There is no {command}. Known: /image PATH, /reset, /quit.",
    ),
    "chat.not_utf8": ("入力が UTF-8 ではありません。", "The input is not UTF-8 text."),
    "chat.interrupted": ("（中断しました）", "(interrupted)"),
}
