"""`manako models`, `list` and `show`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "models": (
        "公開モデルの大きさ、ライセンス、成績を調べ、手元の機械に合うものを選ぶ。",
        "The survey of published models: sizes, licences, scores, and what fits here.",
    ),
    "models.list": (
        (
            "モデルの一覧を、条件で絞り、並べ替えて表示する。\n"
            "TEXT は名前に含まれる語。列と並べ替えには成績の名前も使える（例: jdocqa, llm-jp-eval-mm.heron_bench）。\n"
            "列: id, series, released, parameters, parts, active, size, licence, commercial, context, "
            "inputs, languages, runtimes, survey, manako。"
        ),
        (
            "List models: filter, sort, choose the columns.\n"
            "TEXT stands in the name. Scores are columns too (jdocqa, llm-jp-eval-mm.heron_bench).\n"
            "Columns: id, series, released, parameters, parts, active, size, licence, commercial, "
            "context, inputs, languages, runtimes, survey, manako."
        ),
    ),
    "models.show": (
        "一つのモデルについて分かっていることを、出典とともにすべて表示する。",
        "Everything that is known of one model, with the source of every figure.",
    ),
    "option.models.survey": (
        "調査での扱い: popular（広く使われる）、watch（様子見）。",
        "What the survey says: popular, or wait and see.",
    ),
    "option.models.input": (
        "この入力を受け取るもの（images は複数の画像）。何度でも指定できる。",
        "Takes this (images: several at once); may be repeated.",
    ),
    "option.models.language": (
        "この言語を扱うと書かれているか、この言語での成績があるもの（例: ja）。何度でも指定できる。",
        "Said to handle this language, or scored in it (ja, en, ...); may be repeated.",
    ),
    "option.models.licence": (
        "このライセンスのもの（例: apache-2.0）。",
        "Under this licence (apache-2.0, ...).",
    ),
    "option.models.commercial": (
        "商用に使えるもの（条件付きを含む）。",
        "May be used in a business, if under conditions.",
    ),
    "option.models.max_parameters": (
        "パラメーター数の上限（例: 8B）。",
        "At most this many parameters (8B).",
    ),
    "option.models.max_size": (
        "重みの大きさの上限（例: 20GB）。",
        "Weights of at most this (20GB).",
    ),
    "option.models.runtime": (
        "このプログラムで動くもの。何度でも指定でき、どれか一つに当てはまればよい。",
        "Runs in this program; several mean any of them.",
    ),
    "option.models.trainable": (
        "この版の Manako で学習できるもの。",
        "Can be trained with this version of Manako.",
    ),
    "option.models.sort": (
        "並べ替え: name, parameters, size, released, context、または成績の名前。前に - を付けると逆順。",
        "Sort by name, parameters, size, released, context or a score; -FIELD turns it round.",
    ),
    "option.models.columns": ("表示する列（コンマ区切り）。", "The columns to show."),
    "option.strict": (
        "記憶だけに頼る（確かめていない）値を除く。",
        "Leave out figures that are recalled and not looked up.",
    ),
    "facts.recalled": (
        "{mark} 記憶による値で、出典を確かめていない。",
        "{mark} recalled: written down from memory, not looked up again.",
    ),
    "models.column.id": ("モデル", "model"),
    "models.column.series": ("系列", "series"),
    "models.column.released": ("公開", "released"),
    "models.column.parameters": ("パラメーター", "parameters"),
    "models.column.parts": ("視覚 / 接続 / 言語", "vision / projector / language"),
    "models.column.active": ("動く分", "active"),
    "models.column.size": ("大きさ", "size"),
    "models.column.licence": ("ライセンス", "licence"),
    "models.column.commercial": ("商用", "commercial"),
    "models.column.context": ("文脈長", "context"),
    "models.column.inputs": ("入力", "takes"),
    "models.column.languages": ("言語", "languages"),
    "models.column.runtimes": ("動くところ", "runs in"),
    "models.column.survey": ("調査", "survey"),
    "models.column.manako": ("法則", "laws"),
    "models.commercial.yes": ("可", "yes"),
    "models.commercial.no": ("不可", "no"),
    "models.commercial.conditions": ("条件付き", "conditions"),
    "models.commercial.unknown": ("不明", "unknown"),
    "models.input.text": ("文字だけ", "text only"),
    "models.input.image": ("画像 1 枚", "one picture"),
    "models.input.images": ("画像", "pictures"),
    "models.input.video": ("動画", "video"),
    "models.input.audio": ("音声", "audio"),
    "models.survey.popular": ("広く使われる", "popular"),
    "models.survey.watch": ("様子見", "watch"),
    "models.laws": ("{count} 成立", "{count} hold"),
    "models.count": ("{count} モデル", "{count} models"),
    "models.scores_from": (
        "成績: {title}、採点 {judge}、{date}。表が違えば尺度も違い、比べられない。",
        "scores: {title}, judge {judge}, {date}; scores of two tables do not compare",
    ),
    "facts.how.published": ("公表", "published"),
    "facts.how.computed": ("計算", "computed"),
    "facts.how.measured": ("実測", "measured"),
    "facts.how.recalled": ("記憶", "recalled"),
    "models.fact": ("項目", "fact"),
    "models.value": ("値 [出典]", "value [source]"),
    "models.aliases": ("別の ID", "also known as"),
    "models.base": ("もとのモデル", "tuned from"),
    "models.size_counted": (
        "{size}（1 パラメーター 2 バイトとして計算）",
        "{size} (two bytes a parameter)",
    ),
    "models.allows": ("許されること", "allows"),
    "models.gated": ("入手に申請が必要", "access on request"),
    "models.yes": ("はい", "yes"),
    "models.no": ("いいえ", "no"),
    "models.model_type": ("model_type", "model_type"),
    "models.image_rule": ("画像トークンの規則", "image-token rule"),
    "models.tokens": ("画像 1 枚のトークン数", "tokens of a picture"),
    "models.takes.text": ("文字", "text"),
    "models.takes.image": ("画像", "picture"),
    "models.takes.images": ("複数の画像", "several pictures"),
    "models.takes.video": ("動画（コマの列）", "video (frames)"),
    "models.takes.audio": ("音声", "audio"),
    "models.part.vision": ("視覚", "vision"),
    "models.part.projector": ("接続", "projector"),
    "models.part.language": ("言語", "language"),
    "models.part.audio": ("音声", "audio"),
    "models.active": ("1 トークンで動くのは {count}", "{count} active"),
    "models.measure": ("測るもの", "measure"),
    "models.score": ("成績", "score"),
    "models.scale": ("尺度", "scale"),
    "models.judge": ("採点 {judge}、{date}", "judge {judge}, {date}"),
    "models.runtimes": ("動かせるところ", "Runs in"),
    "models.runtime": ("プログラム", "program"),
    "models.state": ("状態", "state"),
    "models.since": ("いつから", "since"),
    "models.detail": ("詳細", "detail"),
    "models.runtime.yes": ("動く", "yes"),
    "models.runtime.no": ("動かない", "no"),
    "models.runtime.remote code": ("配布元のコードが要る", "remote code only"),
    "models.runtime.unfaithful": ("動くが計算が違う", "loads, computes otherwise"),
    "models.runtime.text only": ("文字だけ", "text only"),
    "models.runtime.community": ("有志の変換だけ", "community builds only"),
    "models.runtime.unknown": ("不明", "unknown"),
    "models.downloads": ("ほかの形のファイル", "In other forms"),
    "models.file": ("ファイル・タグ", "file or tag"),
    "models.form": ("形式", "form"),
    "models.pitfalls": ("つまずくところ", "What one trips over"),
    "models.no_laws": (
        "Manako: {family} はまだ学習も推論もできない（法則を一度も試していない）。",
        "Manako: cannot train or run {family} yet (no law was ever tried on it).",
    ),
    "models.laws_hold": (
        "Manako: {family} の配置をもつ小さなチェックポイントで {count} の法則が成り立つ（{laws}）。",
        "Manako: on a tiny checkpoint of {family}'s layout {count} laws hold ({laws}).",
    ),
}
