"""One sample in the terminal: who says what, the picture, and every token with its mask.

Where a terminal shows colours, trained tokens stand on green and the rest is dim. Where it does not
(piped, `NO_COLOR`), runs of trained tokens stand in `[[ ]]`, so that nothing is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import ManakoError
from manako.report.pictures import read_picture, terminal_rows
from manako.report.texts import Labels, Lang, labels
from manako.report.tokens import Shown, count_tokens, safe, shown_tokens

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

STYLES = {"trained": "black on green", "untrained": "dim", "image": "cyan"}
EVERY_OTHER_TRAINED = "black on bright_green"
"""Two greens in turn, so that it shows where a trained token ends."""
CONTROL_STYLE = "italic magenta"
TRAINED_CONTROL_STYLE = "italic black on green"
OPEN, CLOSE = "[[", "]]"
MAX_PICTURE_COLUMNS, MAX_PICTURE_ROWS = 72, 20


def print_sample(
    event: Mapping[str, Any], console: Console, *, lang: Lang, folder: Path | None = None
) -> None:
    """Print a sample event; `folder`, where its record lies, also shows its pictures."""
    from rich.console import Group

    t, has_colour = labels(lang), shows_colour(console)
    parts: list[RenderableType] = [_title(event, t)]
    parts += _pictures(event, console, t, folder if has_colour else None)
    parts += [_turn(message, t) for message in event.get("messages") or ()]
    if event.get("refused"):
        parts.append(_refusal(event, t))
    tokens = shown_tokens(event.get("tokens") or ())
    if tokens:
        parts += [_rule(t("token_strip")), token_text(tokens, t, has_colour=has_colour)]
        parts += [_legend(t, has_colour=has_colour), _counts(tokens, t)]
    if notes := event.get("notes"):
        parts.append(_plain(f"{t('notes')}: {' · '.join(map(str, notes))}", "dim"))
    console.print(Group(*parts))


def shows_colour(console: Console) -> bool:
    """Whether colours reach whoever looks."""
    return console.color_system is not None and not console.no_color


def token_text(tokens: Sequence[Shown], t: Labels, *, has_colour: bool) -> Text:
    """All tokens as one text; trained runs in `[[ ]]` where there is no colour."""
    text = _plain("")
    for is_trained, run in groupby(tokens, key=lambda token: token.state == "trained"):
        marked = is_trained and not has_colour
        text.append(OPEN if marked else "")
        for place, token in enumerate(members := list(run)):
            text.append(_token(token, t), style=_style(token) if has_colour else "")
            is_last = place == len(members) - 1
            if token.ends_line and not (marked and is_last):
                text.append("\n")
        text.append(CLOSE if marked else "")
        if marked and members[-1].ends_line:
            text.append("\n")
    text.rstrip()
    return text


def _token(token: Shown, t: Labels) -> str:
    if token.state == "image":
        return t("image_run", n=token.picture + 1, count=f"{token.count:,}")
    return token.text


def _style(token: Shown) -> str:
    if token.is_control:
        return TRAINED_CONTROL_STYLE if token.state == "trained" else CONTROL_STYLE
    if token.state == "trained" and token.start % 2:
        return EVERY_OTHER_TRAINED
    return STYLES[token.state]


def _title(event: Mapping[str, Any], t: Labels) -> RenderableType:
    number = event.get("number")
    words = [f"#{number}" if number is not None else t("sample")]
    words += [safe(str(event[key])) for key in ("id", "source") if event.get(key)]
    return _rule(" · ".join(words), style="bold")


def _pictures(
    event: Mapping[str, Any], console: Console, t: Labels, folder: Path | None
) -> Iterator[RenderableType]:
    for number, image in enumerate(event.get("images") or (), 1):
        yield _picture_line(number, image, t)
        shown = image.get("seen") or image
        if folder is not None and console.is_terminal and shown.get("file"):
            yield _picture(folder, str(shown["file"]), console.width)


def _picture_line(number: int, image: Mapping[str, Any], t: Labels) -> Text:
    line = _plain("").append(f"{t('image_n', n=number)}  ", style="bold")
    if image.get("error"):
        return line.append(safe(str(image["error"])), style="red")
    size = f"{image.get('width')} × {image.get('height')}"
    seen = image.get("seen")
    if not seen:
        return line.append(f"{size} px")
    after = f"{seen.get('width')} × {seen.get('height')}"
    words = (
        t("not_resized", after=after) if after == size else t("resized", before=size, after=after)
    )
    grid = {key: seen.get(key) for key in ("rows", "columns", "tokens")}
    is_plain = grid["tokens"] == (grid["rows"] or 0) * (grid["columns"] or 0)
    return line.append(f"{words} · {t('grid' if is_plain else 'grid_plain', **grid)}")


def _picture(folder: Path, file: str, console_columns: int) -> RenderableType:
    """The picture in half blocks: two pixels above each other to one character."""
    from rich.color import Color
    from rich.style import Style

    text = _plain("")
    try:
        columns = min(MAX_PICTURE_COLUMNS, console_columns - 2)
        data = read_picture(folder, file)
        pixels = terminal_rows(data, max_columns=columns, max_rows=MAX_PICTURE_ROWS)
    except ManakoError as error:
        return text.append(safe(error.message), style="red")
    for place, upper in enumerate(pixels[::2].tolist()):
        text.append("\n" if place else "")
        for above, below in zip(upper, pixels[2 * place + 1].tolist(), strict=True):
            style = Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
            text.append("▀", style=style)
    return text


def _turn(message: Mapping[str, Any], t: Labels) -> Text:
    is_trained = bool(message.get("trained"))
    role = t.named("role", str(message.get("role", "")))
    text = _plain("").append(safe(role), style="bold green" if is_trained else "bold")
    text.append(f"  ({t('trained')})\n" if is_trained else "\n", style="dim")
    words = "".join(_part(part, t) for part in message.get("parts") or ())
    return text.append("\n".join(f"  {line}" for line in words.split("\n")))


def _part(part: Mapping[str, Any], t: Labels) -> str:
    if part.get("type") == "text":
        return safe(str(part.get("text") or ""))
    if part.get("type") == "video":
        return t("video_n", n=part.get("frames", 0))
    return f"⟨{t('image_n', n=int(part.get('image', -1)) + 1)}⟩"


def _refusal(event: Mapping[str, Any], t: Labels) -> Text:
    return _plain(f"{t('refused')}: {safe(str(event['refused']))}", "bold red")


def _legend(t: Labels, *, has_colour: bool) -> Text:
    legend = _plain("")
    if has_colour:
        legend.append(f" {t('trained')} ", style=STYLES["trained"])
    else:
        legend.append(f"{OPEN}{t('trained')}{CLOSE}")
    legend.append("  ").append(t("untrained"), style=STYLES["untrained"])
    legend.append("  ").append(t("image"), style=STYLES["image"])
    legend.append("  ").append(t("control"), style=CONTROL_STYLE)
    return legend.append(f"  · ⏎ □ = {t('blanks')}", style="dim")


def _counts(tokens: Sequence[Shown], t: Labels) -> Text:
    counts = count_tokens(tokens)
    return _plain(
        f"{t('tokens')} {counts.tokens:,} = {t('image')} {counts.image:,} + "
        f"{t('untrained')} {counts.untrained:,} + {t('trained')} {counts.trained:,}",
        "bold",
    )


def _rule(title: str, style: str = "dim") -> RenderableType:
    from rich.rule import Rule
    from rich.text import Text

    return Rule(Text(title, style=style), style="dim", align="left")


def _plain(words: str, style: str = "") -> Text:
    """Rich text that is never read as markup."""
    from rich.text import Text

    return Text(words, style=style)
