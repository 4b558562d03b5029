"""Write one answer of `manako models recommend` into both READMEs, each in its language.

python scripts/readme_answer.py
"""

import re

from click.testing import CliRunner

from blocks import ROOT, write_block
from manako.cli.root import ROOT as MANAKO

BLOCK = "answer:recommend"
COMMAND = (
    "manako models recommend --task read --answers-in ja --gpu 24GB --method lora --commercial"
)
COLUMNS = 120
READMES = {"README.md": "en", "README.ja.md": "ja"}
CUT = "   ..."
NAMES = re.compile(r"(?P<reason>^- .*\(\d+\)): .*")
"""An exclusion: the reason, how many models, and their names."""


def answer(lang: str) -> str:
    """The block of one README: the command, and what it prints but for the reasons of lower places
    and the names behind each exclusion."""
    args = [*COMMAND.split()[1:], "--top", "3", "--lang", lang]
    done = CliRunner().invoke(MANAKO, args, env={"COLUMNS": str(COLUMNS)}, catch_exceptions=False)
    shown = "\n".join(_shortened(done.stdout.splitlines()))
    return f"```sh\n{COMMAND} --top 3\n```\n\n```text\n{shown}\n```"


def _shortened(lines: list[str]) -> list[str]:
    kept: list[str] = []
    firsts, is_cut = 0, False
    for line in (line.rstrip() for line in lines):
        is_first = line.startswith("1. ")
        firsts += is_first
        if is_first or line[:3] in ("2. ", "3. "):
            is_cut = not is_first or firsts > 1
            kept += [CUT] if is_cut and kept[-1] != CUT else []
        elif not line:
            is_cut = False
        if not is_cut:
            kept.append(NAMES.sub(r"\g<reason>: ...", line))
    return kept


def main() -> None:
    """Rewrite the block of both READMEs."""
    for name, lang in READMES.items():
        write_block(ROOT / name, BLOCK, answer(lang))


if __name__ == "__main__":
    main()
