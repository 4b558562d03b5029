"""The Hub's token: whether there is one, and where from. It is never shown, nor its length."""

from __future__ import annotations

import os
from pathlib import Path

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, does_not, not_installed, works

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def look() -> Finding:
    """Looked for where `huggingface_hub` does."""
    for name in VARIABLES:
        if os.environ.get(name, "").strip():
            return works(f"{name} にある", f"in {name}", source=name)
    file = token_file()
    try:
        is_there = bool(file.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        is_there = False
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return does_not(
            f"ファイルが読めない（{reason}）",
            f"its file cannot be read ({reason})",
            mends="hf auth login",
        )
    if is_there:
        return works("ファイルにある", "in its file", source="file")
    return not_installed(
        "ない（申請の要るモデルにだけ要る）",
        "none; only models behind a request need one",
        mends="hf auth login",
    )


def token_file() -> Path:
    """The file that `hf auth login` writes."""
    environment = os.environ.get
    cache = Path(environment("XDG_CACHE_HOME") or "~/.cache")
    home = Path(environment("HF_HOME") or cache / "huggingface")
    return Path(environment("HF_TOKEN_PATH") or home / "token").expanduser()


PROBE = Probe(
    group="hub",
    title=Words(ja="トークン", en="token"),
    look=look,
    place=10,
)
