"""`manako models refresh`."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "models.refresh": (
        (
            "カードの数値を、Hub または手元のチェックポイントの実物と比べる。\n"
            "設定、重みのヘッダー（重みそのものは読まない）、ライセンス、利用申請の要否を照らし合わせる。"
            "カードは書き換えない。"
        ),
        (
            "Compare a card with what the Hub or a checkpoint folder really holds.\n"
            "Reads the config, the headers of the weights (not the weights), licence and access. "
            "Writes nothing: the card stays as it is."
        ),
    ),
    "option.refresh.folder": (
        "Hub に尋ねず、このチェックポイントのフォルダーを読む。",
        "Read this checkpoint folder instead of asking the Hub.",
    ),
    "option.refresh.revision": (
        "比べるブランチ、タグ、コミット（既定: main）。",
        "Branch, tag or commit to compare with (default: main).",
    ),
    "refresh.working": (
        "設定と重みのヘッダーを読んでいます",
        "reading the config and the headers of the weights",
    ),
    "refresh.title": ("{id} — {source}", "{id} — {source}"),
    "refresh.field": ("項目", "field"),
    "refresh.card": ("カード", "card"),
    "refresh.found": ("実物", "found"),
    "refresh.state": ("結果", "result"),
    "refresh.state.same": ("同じ", "same"),
    "refresh.state.differs": ("違う", "differs"),
    "refresh.state.contradicts": ("実物どうしが食い違う", "contradicts itself"),
    "refresh.state.new": ("カードにない", "not on the card"),
    "refresh.state.not_found": ("実物にない", "not found"),
    "refresh.counts": (
        "同じ {same}、違う {differs}、食い違い {contradicts}、カードにない {new}、実物にない {not_found}。",
        (
            "{same} the same, {differs} differ, {contradicts} contradict themselves, "
            "{new} not on the card, {not_found} not found."
        ),
    ),
    "refresh.no_card": (
        "{id} のカードはない。見つかった値だけを示す。",
        "There is no card for {id}: what was found is shown alone.",
    ),
    "refresh.unread": ("読めなかったもの: {message}", "not read: {message}"),
    "refresh.next": ("  → {next_step}", "  → {next_step}"),
    "refresh.kept": (
        "{id} のカードはそのまま残っている（`manako models show {id}`）。",
        "The card of {id} is unchanged (`manako models show {id}`).",
    ),
}
