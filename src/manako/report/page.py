"""Turns templates into pages that need nothing but themselves.

Escaping is on for every template, so text from data never becomes markup. Style and script stand
inside the page, and its content security policy allows exactly these two by their hash, pictures
from data URLs, and nothing else: even a slip in escaping could not load or run anything.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.files import write_text
from manako.report.texts import Lang, labels

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def write_page(out: Path, template: str, *, lang: Lang, **values: Any) -> Path:
    """Write the page that `template` makes of `values` to `out`, atomically."""
    write_text(out, render(template, lang=lang, **values))
    return out


def render(template: str, *, lang: Lang, **values: Any) -> str:
    """The page as text; a half character (lone surrogate) in the data becomes `?`."""
    style, script = _asset("style.css"), _asset("script.js")
    html = (
        _environment()
        .get_template(template)
        .render(
            t=labels(lang),
            lang=lang,
            style=_trusted(style),
            script=_trusted(script),
            style_hash=_csp_hash(style),
            script_hash=_csp_hash(script),
            **values,
        )
    )
    return html.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": _count,
        "percent": _percent,
    }
    return environment


def _count(value: object) -> str:
    """A number with separators; anything else as it is, for it came from a file."""
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _trusted(text: str) -> Any:
    """Our own style or script, which must not be escaped."""
    from markupsafe import Markup

    return Markup(text)


def _csp_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
