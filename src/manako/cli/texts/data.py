"""`manako data`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
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
}
