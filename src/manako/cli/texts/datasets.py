"""`manako datasets`, `list`, `show` and `mix`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "datasets": (
        "学習用と評価用のデータの大きさ、ライセンス、入手方法を調べ、混ぜ方を確かめる。",
        "The survey of data: sizes, licences, how to get it, and what a mix really holds.",
    ),
    "datasets.list": (
        (
            "データセットの一覧を、条件で絞り、並べ替えて表示する。\n"
            "TEXT は名前に含まれる語。\n"
            "列: id, title, group, kind, category, languages, images, rows, questions, "
            "answer_tokens, size, share, licence, commercial, layout, reads, access, split。"
        ),
        (
            "List training sets and benchmarks: filter, sort, choose the columns.\n"
            "TEXT stands in the name.\n"
            "Columns: id, title, group, kind, category, languages, images, rows, questions, "
            "answer_tokens, size, share, licence, commercial, layout, reads, access, split."
        ),
    ),
    "datasets.show": (
        "一つのデータセットについて分かっていることを、出典とともにすべて表示する。",
        "Everything that is known of one set, with the source of every figure.",
    ),
    "datasets.mix": (
        (
            "混ぜたときに各データが実際に占める割合を、行・問答・回答トークンで計算する。\n"
            "重みが何についてのものかで結果は大きく変わる。ID:* は、すべての構成（config）を表す。"
        ),
        (
            "What share each set of a mix really gets, in rows, questions and answer tokens.\n"
            "What the weights are meant in changes it much. ID:* stands for all configurations."
        ),
    ),
    "option.datasets.kind": ("学習用か評価用か。", "To train on, or to measure with."),
    "option.datasets.category": ("種類。", "Kind of task."),
    "option.datasets.language": (
        "この言語のもの（例: ja）。何度でも指定できる。",
        "In this language (ja, en); may be repeated.",
    ),
    "option.datasets.licence": (
        "このライセンスのもの（例: cc-by-4.0）。",
        "Under this licence (cc-by-4.0, ...).",
    ),
    "option.datasets.commercial": (
        "商用に使えるもの（条件付きを含む）。不明なものは除く。",
        "May be used in a business, if under conditions; not where that is unknown.",
    ),
    "option.datasets.reads": (
        "Manako のこの形式で読めるもの（the_cauldron、llava_json）。",
        "Read by this format of Manako (the_cauldron, llava_json).",
    ),
    "option.datasets.sort": (
        "並べ替え: name, images, rows, questions, answer_tokens, size, share。前に - を付けると逆順。",
        "Sort by name, images, rows, questions, answer_tokens, size or share; - turns it round.",
    ),
    "option.datasets.columns": ("表示する列を , で区切って並べる。", "Columns to show."),
    "option.datasets.in": (
        "重みが何についてのものか。指定がなければ rows（行）。epochs は各データを通す回数。",
        "What the weights are meant in (default: rows); epochs: how often a set is drawn.",
    ),
    "option.datasets.size": (
        "混ぜたものの全体の大きさ（--in の単位。例: 1M）。指定がなければ各データの合計。",
        "Size of the whole mix in the unit of --in (1M); else what all sets hold together.",
    ),
    "option.datasets.as": (
        "公表されている混ぜ方（idefics2）。データと重みは指定しない。",
        "A published mix (idefics2), in place of sets and weights.",
    ),
    "option.datasets.for": (
        "このベンチマークで測る予定。学習に混ざってはいけないものを知らせる。何度でも指定できる。",
        "Will be measured with this benchmark: warns of what must not meet it; may be repeated.",
    ),
    "datasets.column.id": ("ID", "id"),
    "datasets.column.title": ("名前", "title"),
    "datasets.column.group": ("まとまり", "group"),
    "datasets.column.kind": ("用途", "use"),
    "datasets.column.category": ("種類", "category"),
    "datasets.column.languages": ("言語", "languages"),
    "datasets.column.images": ("画像", "pictures"),
    "datasets.column.rows": ("行", "rows"),
    "datasets.column.questions": ("問答", "questions"),
    "datasets.column.answer_tokens": ("回答トークン", "answer tokens"),
    "datasets.column.size": ("大きさ", "size"),
    "datasets.column.share": ("公表の割合", "published share"),
    "datasets.column.licence": ("ライセンス", "licence"),
    "datasets.column.commercial": ("商用", "business"),
    "datasets.column.layout": ("形式", "layout"),
    "datasets.column.reads": ("読める形式", "read as"),
    "datasets.column.access": ("入手方法", "how to get it"),
    "datasets.column.split": ("分割", "split"),
    "datasets.kind.training": ("学習", "training"),
    "datasets.kind.benchmark": ("評価", "benchmark"),
    "datasets.kind.both": ("学習・評価", "both"),
    "datasets.category.mixture": ("混合", "mixture"),
    "datasets.category.vqa": ("画像の質問", "questions"),
    "datasets.category.caption": ("説明文", "captions"),
    "datasets.category.pairs": ("画像と言葉の組", "picture and words"),
    "datasets.category.document": ("文字・文書", "documents"),
    "datasets.category.chart": ("図表・グラフ", "charts"),
    "datasets.category.table": ("表", "tables"),
    "datasets.category.reasoning": ("推論・数学", "reasoning"),
    "datasets.category.exam": ("試験・教科書", "exams"),
    "datasets.category.medical": ("医用画像", "medical"),
    "datasets.category.recognition": ("物の認識", "recognition"),
    "datasets.category.several": ("複数の画像", "several pictures"),
    "datasets.category.code": ("画面・図からコード", "code"),
    "datasets.category.chat": ("会話", "conversation"),
    "datasets.category.interleaved": ("画像入りの文書", "interleaved"),
    "datasets.category.text": ("文字だけ", "text only"),
    "datasets.commercial.yes": ("可", "yes"),
    "datasets.commercial.no": ("不可", "no"),
    "datasets.commercial.conditions": ("条件付き", "conditions"),
    "datasets.commercial.unknown": ("不明", "unknown"),
    "datasets.way.hub": ("Hub から `load_dataset`", "`load_dataset` from the Hub"),
    "datasets.way.gated": ("申請してから Hub で", "on the Hub, after asking"),
    "datasets.way.files": ("ファイルを取得して結び付ける", "fetch files and join them"),
    "datasets.way.addresses": ("アドレスだけ（画像は別に取得）", "addresses only"),
    "datasets.way.elsewhere": ("Hub の外", "not on the Hub"),
    "datasets.way.build": ("プログラムで組み立てる", "built by a program"),
    "datasets.relation.leak": (
        "評価データの漏れ",
        "training on one spoils a measurement with the other",
    ),
    "datasets.relation.same pictures": ("同じ画像", "the same pictures"),
    "datasets.relation.contains": ("重複", "rows of one lie in the other"),
    "datasets.count": ("{count} データセット", "{count} data sets"),
    "datasets.fact": ("項目", "fact"),
    "datasets.value": ("値 [出典]", "value [source]"),
    "datasets.aliases": ("別の ID", "also known as"),
    "datasets.part_of": ("これの構成（config）", "a configuration of"),
    "datasets.parts": ("構成（config）", "configurations"),
    "datasets.held_rows": ("入手できる行", "rows to be had"),
    "datasets.share_of": ("{mix} の回答トークンの {share} %", "{share} % of {mix}'s answer tokens"),
    "datasets.allows": ("許されること", "allows"),
    "datasets.fields": ("列", "fields"),
    "datasets.metric": ("採点", "measure"),
    "datasets.prompt": ("問い方", "prompt"),
    "datasets.max_new_tokens": ("生成トークンの上限", "max_new_tokens"),
    "datasets.layout": ("行の形: {layout}", "layout of a row: {layout}"),
    "datasets.reads_it": (
        "Manako では形式 {name} で読める（manako data convert --format {name}）。",
        "Manako reads it as {name} (manako data convert --format {name}).",
    ),
    "datasets.reads_nothing": (
        "Manako はこの形をまだ読めない。",
        "Manako cannot read this layout yet.",
    ),
    "datasets.must_not_meet": ("混ぜてはいけないもの", "Must not meet"),
    "datasets.met": ("{ids}（{relation}）: {why}", "{ids} ({relation}): {why}"),
    "datasets.way_note": ("{way}。{note}", "{way}. {note}"),
    "datasets.pitfalls": ("つまずくところ", "What one trips over"),
    "datasets.unknown": ("不明", "unknown"),
    "datasets.unit.rows": ("行", "rows"),
    "datasets.unit.questions": ("問答", "questions"),
    "datasets.unit.answer_tokens": ("回答トークン", "answer tokens"),
    "datasets.unit.epochs": ("通す回数", "epochs"),
    "datasets.mix.title": ("重みの単位: {unit}", "weights are meant in {unit}"),
    "datasets.mix.size": ("、全体の大きさ: {size}（{unit}）", "; the whole mix: {size} {unit}"),
    "datasets.mix.set": ("データセット", "data set"),
    "datasets.mix.weight": ("重み", "weight"),
    "datasets.mix.passes": ("通す回数", "passes"),
    "datasets.mix.rows": ("行の割合", "of rows"),
    "datasets.mix.questions": ("問答の割合", "of questions"),
    "datasets.mix.answer_tokens": ("回答トークンの割合", "of answer tokens"),
    "datasets.mix.published": ("公表の割合", "published"),
    "datasets.mix.drowned": (
        "注意: {id} は{unit}の {share} を占める。公表されている {mix} では回答トークンの {published} にすぎない（ここにあるデータの間では {among}）。",
        "note: {id} takes {share} of the {unit}; the published {mix} mix gives it {published} of the answer tokens ({among} among these sets)",
    ),
    "datasets.mix.unknown": (
        "{unit}の数が分からないもの: {ids}。ほかの割合は上限（≤）になる。",
        "{unit} that nobody has counted: {ids}; shares of the others are bounds (≤)",
    ),
    "datasets.mix.held": (
        "{id}: 入手できるのは {rows} 行のうち {held} 行だけで、通す回数はその分増える。",
        "{id}: only {held} of {rows} rows can be had; it is drawn that much more often",
    ),
    "datasets.mix.computed": (
        "割合と回数は、公表された件数からの計算。回答トークンは、公表した側のトークナイザーで数えたもの。",
        "shares and passes are computed from published counts; answer tokens are those of the publisher's tokenizer",
    ),
    "datasets.mix.no_size": (
        "全部でどれだけあるかが分からないので、通す回数は計算できない。--size で全体の大きさを与える。",
        "how much there is in all is unknown, so passes cannot be computed; give a --size",
    ),
    "datasets.mix.more": ("{ids} ほか {count} 件", "{ids} and {count} more"),
}
