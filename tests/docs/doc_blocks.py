"""Reads the documents: fenced blocks, commands, inline code, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
READMES = ("README.md", "README.ja.md")
DOCUMENTS = (*READMES, "CHANGELOG.md", *(f"docs/{p.name}" for p in sorted(ROOT.glob("docs/*.md"))))

FENCE = re.compile(
    r"^```(?P<language>\w*)(?: (?P<name>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
LINK = re.compile(r"\]\((?P<link>[^)\s]+)\)|src=\"(?P<source>[^\"]+)\"")
HEADING = re.compile(r"^#+ (?P<words>.+)$", re.MULTILINE)
NO_WORD = re.compile(r"[^\w\- ]")


class Block(NamedTuple):
    """A fenced block. `name`: the file that it is, if the fence names one."""

    document: str
    line: int
    language: str
    name: str
    text: str


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks_of(document: str) -> list[Block]:
    text = read(document)
    return [
        Block(
            document,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["name"] or "",
            match["text"],
        )
        for match in FENCE.finditer(text)
    ]


def commands_of(block: Block) -> list[list[str]]:
    """The commands of a shell block, one a line."""
    joined = block.text.replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [line for line in lines if line]


def prose_of(document: str) -> str:
    """The document without its fenced blocks."""
    return FENCE.sub("", read(document))


def inline_code_of(document: str) -> list[str]:
    return [" ".join(code.split()) for code in INLINE.findall(prose_of(document))]


def calls_of(document: str) -> Iterator[list[str]]:
    """Every call of `manako` in the document, in blocks and in the text."""
    for block in blocks_of(document):
        if block.language == "sh":
            yield from (line[1:] for line in commands_of(block) if line[0] == "manako")
    for code in inline_code_of(document):
        if code.startswith("manako "):
            yield shlex.split(code)[1:]


def links_of(document: str) -> list[str]:
    return [match["link"] or match["source"] for match in LINK.finditer(prose_of(document))]


def anchors_of(path: Path) -> set[str]:
    """The anchors that a page's headings get."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    words = [match["words"] for match in HEADING.finditer(text)]
    return {NO_WORD.sub("", heading.lower()).replace(" ", "-") for heading in words}
