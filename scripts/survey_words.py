"""What docs/survey.md and docs/survey.ja.md say beside the data: headings and introductions.

Both are written for their readers; neither is a translation of the other.
"""

WORDS = {
    "en": {
        "title": "The survey, as things stand",
        "other": "[日本語](survey.ja.md)",
        "intro": """\
Manako began with a list: what its first user had gathered **before training a VLM**. Which models, which
data, what to watch. Lists like that grow old. This page is the same list, line by line, with what is known
of each line today, and with the traps that nobody had warned of.

Nothing on it is an opinion without a ground: every line has a state, the state has evidence, and the evidence
has a source with a date, listed at the end. `manako cautions`, `manako models` and `manako datasets` answer
from the same data, and can be asked for one topic, one model or one machine.""",
        "states": "The survey claimed and warned of {said} things. Today:",
        "state_head": ["state", "of the survey", "traps", "what it means"],
        "state_means": {
            "right": "it is so",
            "outdated": "it was so",
            "wrong": "it is not so",
            "depends": "in part, or under a condition that is named",
            "unproven": "nothing was found that speaks for or against it",
        },
        "popular": "Popular models",
        "popular_intro": """\
The six lines of the survey, with every size there is. Weights are two bytes a parameter where nobody wrote
their size down. *A4* is what a page of 1240 × 1754 pixels costs in tokens, by the model's own rule and its
published limits. Scores are those of one table, named below it, and compare within a column only.""",
        "watch": "Wait and see",
        "watch_intro": """\
Two language models, on the list for their Japanese. Neither can see, and three things on their line went
wrong: the length of context, the Ollama tag, and the word *only*.""",
        "said_today": "What the survey says of it, and today:",
        "know": "Know this first:",
        "cards_head": [
            "model",
            "parameters",
            "weights",
            "licence",
            "in a business",
            "context",
            "A4",
            "runs in",
        ],
        "scores_under": "Scores: {title}, judge {judge}, {date}.",
        "no_scores": "No comparable Japanese score is known for: {names}.",
        "newer": "What has come since",
        "newer_intro": """\
Models that the survey does not name. Of those with a score in the leaderboard's table, the best on Japanese
documents for their size; and those of late 2025 and 2026, for which hardly a comparable Japanese score is known.""",
        "newer_scored": "The best on documents (JDocQA) in each class of size, the survey's left out:",
        "newer_unscored": "Released since October 2025, up to 40 billion parameters:",
        "call": "How to call a model",
        "call_intro": """\
The wish was one call, with pictures and texts in any order. It is this call, on every model that Manako can
open: in this version the families Qwen2-VL and Qwen2.5-VL, and `mini`, which comes with it.""",
        "call_shell": "The same from the shell; a part is a text, or `@` and the path of a picture:",
        "advice": "Advice and warnings",
        "advice_intro": """\
Five pieces of advice, taken apart into single statements. Most of what was said about Macs and Ollama has
been overtaken; what was said about the work that each model makes has not.""",
        "machines": "1. Memory, disk and rented machines",
        "data": "2. Data on the disk",
        "models": "3. No standard model",
        "runtimes": "4. Ollama, code and articles",
        "macs": "5. Macs",
        "cauldron": "The Cauldron, and data after it",
        "cauldron_intro": """\
Fifty scattered data sets in one layout: that is what The Cauldron did, and most of what has come after it kept
the layout. What it does not do is weigh, license or place pictures in a text.""",
        "uses": "Uses, and what the evidence speaks for",
        "uses_intro": """\
For each use that the survey names: the measure that comes nearest, and the best model in it per class of size,
answers in Japanese. A place here is one score in one table, not a verdict; licence and memory are the next
questions (`manako models recommend`).""",
        "uses_head": ["use", "measure", "up to 4 B", "up to 10 B", "larger", "why this measure"],
        "no_evidence": "no score is known",
        "traps": "Traps nobody warned of",
        "traps_intro": """\
All of these happen without an error, or with one that names something else.""",
        "since": " (since {})",
        "colon": ": ",
        "said_of": " ({})",
        "scales": "What they are: {scales}.",
        "sources": "Sources",
        "footnote": "{mark} *recalled*: written down from memory and not looked up again.",
    },
    "ja": {
        "title": "調査のその後",
        "other": "[English](survey.md)",
        "intro": """\
Manako は、一つのメモから始まりました。最初の利用者が **VLM を学習する前に**調べた、モデル、データ、注意点のメモです。
こうしたメモは、すぐに古くなります。そこで、メモの一行一行について、今はどうなのかを調べ直しました。
誰も注意してくれなかった落とし穴も足してあります。

根拠のない意見は一つも載せていません。どの行にも「今の状態」があり、状態には根拠が、根拠には日付のある出典が付いています（出典は末尾の一覧）。
`manako cautions`、`manako models`、`manako datasets` も同じデータから答えるので、話題・モデル・機械を絞って尋ねられます。""",
        "states": "調査にあった評判と注意は、合わせて {said} 件です。今の状態は次のとおりです。",
        "state_head": ["今は", "調査の行", "落とし穴", "意味"],
        "state_means": {
            "right": "そのとおり",
            "outdated": "以前はそうだった",
            "wrong": "そうではない",
            "depends": "一部だけ、または書いてある条件のもとで正しい",
            "unproven": "裏づけも反証も見つからない",
        },
        "popular": "広く使われているモデル",
        "popular_intro": """\
調査にあった六つの系列を、すべての大きさで並べます。重みの大きさは、公表されていなければ 1 パラメーター 2 バイトとして計算しました。
「A4」は、1240 × 1754 画素のページ 1 枚が何トークンになるかで、モデル自身の規則と配布時の設定によります。
成績は表の下に名前を挙げた一つの表のもので、比べられるのは同じ列の中だけです。""",
        "watch": "様子見のモデル",
        "watch_intro": """\
日本語の良さで名前の挙がった、二つの言語モデルです。どちらも画像は見えません。
そして、この行には三つの思い違いがありました。文脈長、Ollama のタグ、それに「だけ」という一語です。""",
        "said_today": "調査で言われていたことと、その今：",
        "know": "先に知っておきたいこと：",
        "cards_head": [
            "モデル",
            "パラメーター",
            "重み",
            "ライセンス",
            "商用",
            "文脈長",
            "A4",
            "動くところ",
        ],
        "scores_under": "成績の出どころは「{title}」、採点は {judge}、{date} 時点。",
        "no_scores": "比べられる日本語の成績が知られていないもの：{names}。",
        "newer": "その後に出たモデル",
        "newer_intro": """\
調査にはなかったモデルです。リーダーボードに成績のあるものからは、日本語の文書に強いものを大きさごとに選びました。
2025 年末から 2026 年のモデルには、比べられる日本語の成績がまだほとんどありません。""",
        "newer_scored": "文書（JDocQA）の成績が良いものを、大きさごとに（調査にあるものを除く）：",
        "newer_unscored": "2025 年 10 月以降に公開された、400 億パラメーターまでのもの：",
        "call": "モデルの呼び出し方",
        "call_intro": """\
望まれていたのは、画像と文をどんな順でも渡せる、たった一つの呼び出しでした。Manako で開けるモデルなら、そのとおりに書けます。
この版で開けるのは Qwen2-VL と Qwen2.5-VL の系列、それに同梱の `mini` です。""",
        "call_shell": "シェルからも同じです。文はそのまま、画像は `@` に続けてパスを書きます。",
        "advice": "助言と注意",
        "advice_intro": """\
五つの助言を、一つ一つの文に分けて調べました。Mac と Ollama について言われていたことの多くは、もう過去の話です。
一方、モデルごとに手間がかかるという話は、今も変わっていません。""",
        "machines": "1. メモリー・ディスク・借りる機械",
        "data": "2. データの置き方",
        "models": "3. 標準のモデルがない",
        "runtimes": "4. Ollama・コード・記事",
        "macs": "5. Mac",
        "cauldron": "The Cauldron と、その後のデータ",
        "cauldron_intro": """\
散らばった五十のデータセットを一つの形に揃えたのが The Cauldron で、その後のデータの多くも同じ形を使っています。
ただし、配合の重み、ライセンス、文中での画像の位置までは面倒を見てくれません。""",
        "uses": "用途と、成績が示すモデル",
        "uses_intro": """\
調査にあった用途ごとに、最も近い測り方と、日本語で答えたときに一番良かったモデルを、大きさごとに挙げます。
ここでの順位は一つの表の一つの成績にすぎず、結論ではありません。次に見るべきはライセンスとメモリーです（`manako models recommend`）。""",
        "uses_head": [
            "用途",
            "測り方",
            "4 B まで",
            "10 B まで",
            "それより大",
            "この測り方にした理由",
        ],
        "no_evidence": "成績が知られていない",
        "traps": "誰も注意してくれない落とし穴",
        "traps_intro": """\
どれも、エラーなしに起こるか、関係のないことを言うエラーになるものです。""",
        "since": "（{} から）",
        "colon": "：",
        "said_of": "（{}）",
        "scales": "尺度は、{scales}。",
        "sources": "出典",
        "footnote": "{mark} 記憶による。書き留めたあと、出典を確かめていない。",
    },
}
"""Texts by language and place; `{}` are filled by `survey_pages.py`."""

CALLS = """\
```python
from pathlib import Path

import manako

model = manako.load("mini")
image = Path("docs/images/form.png")
response = model.generate_content([image, "画像を説明してください。"], max_new_tokens=16)
print(response)

images = [Path("japan.jpg"), Path("austria.jpg")]
response = model.generate_content(
    [
        images[0],
        "これは日本の画像です",
        images[1],
        "これはオーストリアの画像です",
        "各画像の違いを説明して",
    ],
    max_new_tokens=16,
)
print(response)
```
"""
SHELL_CALL = """\
```sh
manako generate mini @japan.jpg "これは日本の画像です" @austria.jpg "これはオーストリアの画像です" "各画像の違いを説明して" --max-new-tokens 16
```
"""
"""The two calls that the survey wished for, and the second from the shell."""

CATEGORIES = {
    "en": {
        "mixture": "mixtures",
        "vqa": "everyday questions",
        "caption": "descriptions",
        "pairs": "pictures with the words beside them",
        "document": "text and documents",
        "chart": "charts and figures",
        "table": "tables",
        "reasoning": "reasoning and geometry",
        "exam": "schoolbooks and exams",
        "medical": "medicine",
        "recognition": "recognition",
        "several": "several pictures",
        "code": "pictures to code",
        "chat": "conversation",
        "interleaved": "pages with pictures",
        "text": "text alone",
    },
    "ja": {
        "mixture": "混合",
        "vqa": "日常の質問応答",
        "caption": "説明文",
        "pairs": "画像と周りの言葉",
        "document": "文字・文書",
        "chart": "図表",
        "table": "表",
        "reasoning": "推論・図形",
        "exam": "教科書・試験",
        "medical": "医療",
        "recognition": "認識",
        "several": "複数の画像",
        "code": "画像からコード",
        "chat": "会話",
        "interleaved": "画像入りの文書",
        "text": "文だけ",
    },
}
"""Categories of data sets."""

KINDS = {
    "en": {"training": "to train on", "benchmark": "to measure with", "both": "for both"},
    "ja": {"training": "学習用", "benchmark": "評価用", "both": "両用"},
}

WAYS = {
    "en": {
        "hub": "`load_dataset`",
        "gated": "`load_dataset`, on request",
        "files": "files to join",
        "addresses": "addresses of pictures",
        "elsewhere": "not on the Hub",
        "build": "build it",
    },
    "ja": {
        "hub": "`load_dataset`",
        "gated": "`load_dataset`（要申請）",
        "files": "ファイルを結合",
        "addresses": "画像は URL",
        "elsewhere": "Hub 以外",
        "build": "自分で生成",
    },
}
"""Ways to get a data set."""

DATA = {
    "en": {
        "all": "all",
        "cauldron_title": "### The fifty sets, by what they teach",
        "cauldron_under": """\
Per cent of the pairs is what comes out when everything is thrown together; per cent of the mix is what idefics2
gave each, in answer tokens (the rest was text without pictures). `manako datasets mix` counts both for weights
of your own.""",
        "cauldron_head": ["", "sets", "pictures", "pairs", "% of pairs", "% of the mix", "which"],
        "japanese_title": "### Japanese data",
        "training": "To train on:",
        "benchmark": "To measure with; what stands here must stay out of the training data:",
        "head": [
            "data set",
            "pictures",
            "questions or rows",
            "licence",
            "how to get it",
            "format",
            "",
        ],
        "counted": "{count} data sets have a record ({kinds}); `manako datasets list` shows all of them.",
    },
    "ja": {
        "all": "合計",
        "cauldron_title": "### 五十のデータセットで学べること",
        "cauldron_under": """\
「組の %」は、すべてをそのまま混ぜたときの割合です。「配合の %」は、idefics2 が答えのトークン数で与えた割合です（残りは画像のない文）。
自分で決めた重みについては、`manako datasets mix` が両方を計算します。""",
        "cauldron_head": ["", "数", "画像", "質問と答えの組", "組の %", "配合の %", "内訳"],
        "japanese_title": "### 日本語のデータ",
        "training": "学習に使うもの：",
        "benchmark": "測定に使うもの。学習データに混ぜてはいけません：",
        "head": ["データセット", "画像", "質問・行", "ライセンス", "入手", "形式", ""],
        "counted": "記録のあるデータセットは {count} 件です（{kinds}）。すべては `manako datasets list` で見られます。",
    },
}
"""Words about data sets."""
