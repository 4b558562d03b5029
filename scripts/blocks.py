"""Stretches of documents that programs write, between marks that stay where they are.

<!-- figures:quickstart -->
... rewritten ...
<!-- /figures -->
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def read_block(text: str, name: str) -> str:
    """What stands between the marks of block `name` (`kind:of-what`)."""
    return _pattern(name).search(_with_block(text, name))["inside"].strip("\n")


def replace_block(text: str, name: str, inside: str) -> str:
    """`text` with other words between the marks of block `name`."""
    inside = inside.strip("\n")
    new = f"\n\n{inside}\n\n"  # Markdown begins a table only behind an empty line
    return _pattern(name).sub(
        lambda found: found["open"] + new + found["close"], _with_block(text, name)
    )


def write_block(path: Path, name: str, inside: str) -> bool:
    """Rewrite a block of a file; whether that changed it."""
    before = path.read_text(encoding="utf-8")
    after = replace_block(before, name, inside)
    return write_if_changed(path, after)


def write_if_changed(path: Path, text: str) -> bool:
    """Write a file where it would differ, and say so; whether it did."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    return True


def table(head: list[str], rows: list[list[str]], *, right: frozenset[int] = frozenset()) -> str:
    """A Markdown table; `right` are the numbers of the columns that hold figures."""
    rule = ["---:" if place in right else "---" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def _pattern(name: str) -> re.Pattern[str]:
    kind = name.partition(":")[0]
    return re.compile(
        rf"(?P<open><!-- {re.escape(name)} -->)(?P<inside>.*?)(?P<close><!-- /{kind} -->)",
        re.DOTALL,
    )


def _with_block(text: str, name: str) -> str:
    if not _pattern(name).search(text):
        sys.exit(f"The text has no block <!-- {name} --> with its end mark.")
    return text
