"""`manako models recommend`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "recommend": (
        (
            "用途、答えの言語、機械、やり方に合うモデルを、順位と理由つきで挙げる。\n"
            "尺度の違う成績は決して比べない。除いたモデルも理由とともに示す。"
        ),
        (
            "Which models fit a use, a language, a machine and a way of working, and why.\n"
            "Scores of two scales are never compared; what is left out is named with its reason."
        ),
    ),
    "option.recommend.task": (
        "用途: describe, compare, vqa, read, charts, video, science, mobile, drones。",
        "The use: describe, compare, vqa, read, charts, video, science, mobile, drones.",
    ),
    "option.recommend.language": (
        "答えの言語（例: ja, en）。指定しなければ ja。",
        "Language of the answers (ja, en, ...); ja unless given.",
    ),
    "option.recommend.gpu": (
        "GPU のメモリー（例: 24GB、8 台なら 8x80GB）。",
        "Memory of the GPU: 24GB, or 8x80GB for eight.",
    ),
    "option.recommend.mac": (
        "Apple シリコンの Mac のメモリー（例: 16GB）。",
        "Memory of a Mac with Apple silicon (16GB).",
    ),
    "option.recommend.cpu": (
        "GPU のない機械のメモリー（例: 16GB）。",
        "Memory of a machine without GPU (16GB).",
    ),
    "option.recommend.here": (
        "この機械（機械を何も指定しないときも同じ）。",
        "This machine; the same as naming none.",
    ),
    "recommend.looking": ("この機械を調べています", "looking at this machine"),
    "option.recommend.method": (
        "やり方: run（動かすだけ）、lora、qlora、full（全体の学習）。",
        "run, or train: lora, qlora, full.",
    ),
    "option.recommend.commercial": (
        "商用に使えるものだけ（条件付きを含む）。",
        "Only what may be used in a business, if under conditions.",
    ),
    "option.recommend.image": (
        "一度に見せる画像（幅x高さ、または @ファイル）。何度でも指定できる。",
        "A picture of one question: WIDTHxHEIGHT or @file; repeat for several.",
    ),
    "option.recommend.context": (
        "文脈（run）またはパック（学習）のトークン数。",
        "Tokens of the context (run) or of a pack (training).",
    ),
    "option.recommend.top": ("挙げる数。", "How many places to show."),
    "option.recommend.all": (
        "すべての順位と、除いたモデルを一つずつ示す。",
        "Every place, and every model that is left out.",
    ),
    "recommend.head": (
        "{title}（{language}で答える）・{machine}（使えるのは {usable}）・{method}・画像 {pictures}",
        "{title}, answers in {language} · {machine}, {usable} of it usable · {method} · {pictures}",
    ),
    "recommend.machine.gpu": ("GPU {size}", "{size} GPU"),
    "recommend.machine.mac": ("Mac {size}", "{size} Mac"),
    "recommend.machine.cpu": ("GPU なし {size}", "{size} without GPU"),
    "recommend.method.run": ("動かす", "run"),
    "recommend.method.lora": ("LoRA で学習", "train with LoRA"),
    "recommend.method.qlora": ("QLoRA で学習", "train with QLoRA"),
    "recommend.method.full": ("全体を学習", "train in full"),
    "recommend.ranked": (
        "成績で並べられるモデル: {column}（{title}、採点 {judge}、{date}）",
        "Ranked by {column} ({title}, judge {judge}, {date})",
    ),
    "recommend.no_ranked": (
        "{language}の成績で並べられるモデルは残っていない。",
        "No candidate has a score in {language} that ranks it.",
    ),
    "recommend.others": (
        "比べられる{language}の成績が知られていないモデル: 成績がないだけで、劣るとは限らない",
        "No comparable score in {language} is known: these may be better or worse than those above",
    ),
    "recommend.place": ("順", "#"),
    "recommend.score": ("成績", "score"),
    "recommend.form": ("形", "form"),
    "recommend.memory": ("メモリー", "memory"),
    "recommend.manako": ("Manako で", "in Manako"),
    "recommend.today": ("今できる", "today"),
    "recommend.planned": ("予定 (planned)", "planned"),
    "recommend.form.bits": ("{bits} ビット", "{bits} bit"),
    "recommend.form.checkpoints": ("{form}・再計算", "{form}, checkpoints"),
    "recommend.form.gpus": ("{form} × {gpus} GPU", "{form} × {gpus} GPUs"),
    "recommend.at_least": ("{size} 以上", "at least {size}"),
    "recommend.above": ("{anchor:g} 以上", "≥ {anchor:g}"),
    "recommend.below": ("（下）", "(below)"),
    "recommend.why": ("理由", "Why"),
    "recommend.why.score": (
        "{column} {score:g}（{table}、採点 {judge}、{date}）。",
        "{column} {score:g} ({table}, judge {judge}, {date}).",
    ),
    "recommend.why.above": (
        (
            "{column}（{table}、採点 {judge}）で {score:g} と、{other} の {other_score:g} を上回る。"
            "少なくともその上。"
        ),
        (
            "At least here: in {column} ({table}, judge {judge}) it has {score:g}, "
            "{other} has {other_score:g}."
        ),
    ),
    "recommend.why.below": (
        (
            "{column}（{table}、採点 {judge}）で {score:g}。{other} の {other_score:g} をはっきり"
            "上回らないので、成績のあるモデルの下。"
        ),
        (
            "Below the models with a score: in {column} ({table}, judge {judge}) its {score:g} does "
            "not clearly beat the {other_score:g} of {other}."
        ),
    ),
    "recommend.why.none": (
        "公開 {released}、{parameters} パラメーター。比べられる成績は知られていない。",
        "Released {released}, {parameters} parameters; no comparable score is known.",
    ),
    "recommend.why.close": (
        "上との差は小さく、信頼区間も公表されていない。順は入れ替わりうる。",
        "Close to the one above; no interval is published, so the two may change places.",
    ),
    "recommend.why.small": (
        "この用途か機械では小さいほどよい。成績が最良の {share:.0f} % 以上あるモデルを小さい順に並べた。",
        (
            "The use or the machine wants a small model: those with {share:.0f} % of the best score "
            "come by size, the smallest first."
        ),
    ),
    "recommend.why.memory": (
        "メモリー {total} / {usable}（{tightness}）: {terms}。",
        "Memory {total} of {usable} ({tightness}): {terms}.",
    ),
    "recommend.tight.easily": ("余裕がある", "fits easily"),
    "recommend.tight.well": ("収まる", "fits well"),
    "recommend.tight.tightly": ("ぎりぎり", "fits tightly"),
    "recommend.unknown_terms": (
        "残りは寸法が分からず数えられない",
        "the rest cannot be counted, its sizes are not known",
    ),
    "recommend.why.tokens": (
        "画像は合わせて {tokens:,} トークン。",
        "The pictures cost {tokens:,} tokens.",
    ),
    "recommend.why.runtimes": ("動かせるところ: {names}。", "Runs in {names}."),
    "recommend.why.today": (
        "この版の Manako でできる（{count} の法則が成り立つ）。",
        "This version of Manako does it ({count} laws hold).",
    ),
    "recommend.why.planned": (
        "この版の Manako ではまだできない（planned）: {reasons}。",
        "Planned, not in this version of Manako: {reasons}.",
    ),
    "recommend.planned.family": ("このモデルの系統", "this family of models"),
    "recommend.planned.video": ("このモデルの系統の動画", "videos for this family of models"),
    "recommend.planned.qlora": ("4 ビットでの学習", "training in 4 bits"),
    "recommend.planned.gpus": ("複数の GPU", "several GPUs"),
    "recommend.planned.mac": ("Mac の GPU", "a Mac's GPU"),
    "recommend.planned.quantised": ("量子化した重み", "quantised weights"),
    "recommend.why.licence": (
        "ライセンス {licences}、商用は{commercial}。",
        "Licence {licences}; in a business: {commercial}.",
    ),
    "recommend.why.no_licence": ("ライセンスは不明。", "Licence unknown."),
    "recommend.why.pitfall": ("注意: {text}", "Mind: {text}"),
    "needs.weights": ("重み", "weights"),
    "needs.adapters": ("アダプター", "adapters"),
    "needs.casts": ("重みの写し", "copies of weights"),
    "needs.gradients": ("勾配", "gradients"),
    "needs.optimizer": ("最適化器", "optimizer"),
    "needs.activations_vision": ("中間値（視覚）", "activations (vision)"),
    "needs.activations_projector": ("中間値（接続）", "activations (projector)"),
    "needs.activations_language": ("中間値（言語）", "activations (language)"),
    "needs.logits": ("ロジット", "logits"),
    "needs.inputs": ("入力", "inputs"),
    "needs.gathered": ("集めた層", "gathered layers"),
    "needs.mmproj": ("視覚と接続（mmproj）", "mmproj"),
    "needs.kv_cache": ("KV キャッシュ", "KV cache"),
    "needs.compute": ("計算用", "compute"),
    "needs.runtime": ("実行環境", "runtime"),
    "needs.process": ("プロセスの余分", "rest of the process"),
    "recommend.excluded": ("除いたモデル: {count}", "Left out: {count}"),
    "recommend.and_more": ("{names} ほか {more}", "{names} and {more} more"),
    "recommend.out.recalled": (
        "記憶による値がないと判断できない（--strict）",
        "cannot be judged without recalled figures (--strict)",
    ),
    "recommend.out.inputs_unknown": ("入力が分からない", "inputs are not known"),
    "recommend.out.no_pictures": ("画像を受け取れない", "takes no pictures"),
    "recommend.out.no_images": ("画像を複数受け取れない", "takes one picture at most"),
    "recommend.out.no_video": ("動画を受け取れない", "takes no video"),
    "recommend.out.purpose": ("別の用途に作られている", "made for another use"),
    "recommend.out.language": (
        "対応言語に含まれず、成績もない",
        "does not claim the language, and has no score in it",
    ),
    "recommend.out.not_commercial": (
        "ライセンスが商用を認めない",
        "licence forbids use in a business",
    ),
    "recommend.out.licence_unknown": (
        "商用に使えるか分からない",
        "whether a business may use it is not known",
    ),
    "recommend.out.remote_code": (
        "配布元のコードでしか動かない（Manako は決して実行しない）",
        "runs only through code from its repository, which Manako never executes",
    ),
    "recommend.out.no_runtime": (
        "このやり方で動かせるプログラムが知られていない",
        "no program is known that does this with it here",
    ),
    "recommend.out.picture_refused": (
        "この大きさの画像を受け付けない",
        "refuses a picture of this size",
    ),
    "recommend.out.context_short": (
        "画像が文脈に入りきらない",
        "the pictures do not fit its context",
    ),
    "recommend.out.size_unknown": ("大きさが分からない", "size is not known"),
    "recommend.out.unproven": (
        "重みしか分からず、収まると言えない",
        "only its weights are known, too little to say that it fits",
    ),
    "recommend.out.unfit": ("メモリーに収まらない", "does not fit"),
    "recommend.detail.sizes": ("必要 {needs}、使えるのは {usable}", "needs {needs} of {usable}"),
    "recommend.detail.context": (
        "必要 {tokens:,} トークン、文脈は {context:,}",
        "needs {tokens:,} tokens of {context:,}",
    ),
    "recommend.basis": (
        (
            "メモリーは計算による。± はまだ測っていないので付けない。Manako がまだ学習できない系統は標準的な"
            "デコーダーとして数えた。"
        ),
        (
            "Memory is arithmetic; nothing was measured on a GPU yet, so no ± stands. Families that "
            "Manako cannot train yet are counted as a standard decoder."
        ),
    ),
    "recommend.basis.training": (
        (
            "学習: 視覚は固定、接続は全体、パックは {tokens:,} トークン（画像が要るなら増やす）、"
            "「再計算」は gradient_checkpointing: true。画像を小さくすると減る: --image 620x877。"
        ),
        (
            "Training: vision frozen, projector in full, packs of {tokens:,} tokens (more where the "
            "pictures need it); `checkpoints` means gradient_checkpointing: true. Smaller pictures "
            "need less: --image 620x877."
        ),
    ),
    "recommend.basis.running": (
        "動かす: 文脈は {tokens:,} トークン（画像が要るなら増やす）。8・4 ビットでも視覚部は 16 ビットのまま。",
        (
            "Running: a context of {tokens:,} tokens (more where the pictures need it); what sees "
            "stays at 16 bits in 8 and 4 bit forms."
        ),
    ),
    "recommend.language.ja": ("日本語", "Japanese"),
    "recommend.language.en": ("英語", "English"),
    "recommend.comma": ("、", ", "),
    "recommend.series": ("{name} {count} 種", "{count} of {name}"),
    "recommend.needing": ("{name}（{size}）", "{name} ({size})"),
    "recommend.next": ("次に: {command}", "next: {command}"),
    "recommend.next_today": (
        "この版の Manako でできる最初のもの: {model}",
        "the first that this version of Manako does itself: {model}",
    ),
    "recommend.none_today": (
        "この条件では、この版の Manako が自分でできるものはない。",
        "None of these is something that this version of Manako does itself.",
    ),
}
