"""A run in the terminal while it goes on. It only reads `record.jsonl`: closing it stops nothing."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from manako.core.units import show_bytes, show_seconds
from manako.report.curves import show_small
from manako.report.figures import finite
from manako.report.texts import Labels, Lang, labels

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

RECENT_STEPS = 30
"""Steps over which loss and speed are averaged, so that the line reads calmly."""
CURVE_CHARACTERS = 24
BLOCKS = "▁▂▃▄▅▆▇█"
POLL_SECONDS = 0.5
PLAIN_SECONDS = 15.0
"""How often a line is written where no terminal can redraw one."""


class RecordTail:
    """Reads what was added to a record since the last look; whole lines only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = 0
        self._inode = 0

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """New events, and whether the record was written anew (a resumed run forgets steps).

        A line that is no JSON object is left out: a run that was killed may leave a torn one, and
        the live line must go on.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return [], False
        is_new = bool(self._inode) and (
            status.st_ino != self._inode or status.st_size < self._place
        )
        if is_new:
            self._place = 0
        self._inode = status.st_ino
        with self.path.open("rb") as file:
            file.seek(self._place)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._place += len(whole) + len(newline)
        return [event for line in whole.split(b"\n") if (event := _event(line))], is_new


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line.decode("utf-8", "replace")) if line.strip() else None
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


@dataclass
class Progress:
    """Where a run stands, from its events."""

    total_steps: int = 0
    step: int = 0
    eval_loss: float | None = None
    pack_fill: float | None = None
    memory_bytes: float | None = None
    peak_memory_bytes: float | None = None
    state: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    shares: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))

    def take(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Follow `events` in order."""
        for event in events:
            kind = event.get("kind")
            if kind == "step":
                self._take_step(event)
            elif kind == "eval":
                self.eval_loss = finite(event.get("loss"))
            elif kind in ("setup", "resumed"):
                self.total_steps = int(finite(event.get("total_steps")) or self.total_steps)
                self.step = int(finite(event.get("step")) or self.step)
                self.state = ""
            elif kind == "end":
                self.state = str(event.get("state", "finished"))

    def _take_step(self, event: Mapping[str, Any]) -> None:
        self.step = int(finite(event.get("step")) or self.step)
        if (loss := finite(event.get("loss"))) is not None:
            self.losses.append((self.step, loss))
        if (speed := finite(event.get("tokens_per_second"))) is not None:
            self.speeds.append(speed)
        if (rate := finite(event.get("tflops"))) is not None:
            self.rates.append(rate)
        if (share := finite(event.get("mfu"))) is not None:
            self.shares.append(share)
        if (seconds := finite(event.get("seconds"))) is not None:
            self.step_seconds.append(seconds)
        self.pack_fill = _latest(event, "pack_fill", self.pack_fill)
        self.memory_bytes = _latest(event, "memory_bytes", self.memory_bytes)
        self.peak_memory_bytes = _latest(event, "peak_memory_bytes", self.peak_memory_bytes)

    @property
    def loss(self) -> float | None:
        recent = [loss for _, loss in self.losses[-RECENT_STEPS:]]
        return fmean(recent) if recent else None

    @property
    def tokens_per_second(self) -> float | None:
        return median(self.speeds) if self.speeds else None

    @property
    def tflops(self) -> float | None:
        """10^12 operations per second of one device; None where they are not counted."""
        return median(self.rates) if self.rates else None

    @property
    def mfu(self) -> float | None:
        """Share of the device's peak; None where that is not known."""
        return median(self.shares) if self.shares else None

    @property
    def seconds_left(self) -> float | None:
        """Time left at the speed of the last steps; None where it is not known."""
        if not self.step_seconds or not self.total_steps:
            return None
        return fmean(self.step_seconds) * max(0, self.total_steps - self.step)


def _latest(event: Mapping[str, Any], name: str, before: float | None) -> float | None:
    value = finite(event.get(name))
    return before if value is None else value


def follow(
    path: Path,
    console: Console,
    *,
    lang: Lang,
    is_running: Callable[[], bool],
    poll_seconds: float = POLL_SECONDS,
) -> Progress:
    """Show the run that writes `path` until it ends or `is_running` says no; where it then stands.

    On a terminal two lines redraw themselves; elsewhere a line is printed now and then.
    """
    from rich.live import Live

    watched, t = _watched(path, is_running, poll_seconds), labels(lang)
    progress = Progress()
    if not console.is_terminal:
        return _print_now_and_then(watched, console, t)
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        for progress in watched:
            live.update(live_lines(progress, t, width=console.width))
    return progress


def _watched(path: Path, is_running: Callable[[], bool], poll_seconds: float) -> Iterator[Progress]:
    """Where the run stands, again and again until it ends.

    An end that stood in the record from the start, of a run that goes on, is that of an earlier
    start.
    """
    tail, progress, is_first, is_earlier_end = RecordTail(path), Progress(), True, False
    while True:
        running = is_running()  # asked before reading, so the last lines are not missed
        events, is_new = tail.read()
        progress = Progress() if is_new else progress
        progress.take(events)
        is_earlier_end = bool(progress.state) if is_first else is_earlier_end and not events
        is_first = False
        yield progress
        if not running or (progress.state and not is_earlier_end):
            return
        time.sleep(poll_seconds)


def _print_now_and_then(watched: Iterator[Progress], console: Console, t: Labels) -> Progress:
    progress, printed, line = Progress(), -math.inf, ""
    for progress in watched:
        if progress.step and time.monotonic() - printed >= PLAIN_SECONDS:
            line, printed = plain_line(progress, t), time.monotonic()
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if (last := plain_line(progress, t)) != line:
        console.print(last, markup=False, highlight=False, soft_wrap=True)
    return progress


def live_lines(progress: Progress, t: Labels, *, width: int) -> RenderableType:
    """A bar with steps and time left, and below it the figures of the moment."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if not progress.step:
        return Text(t("waiting"), style="dim")
    line = Table.grid(padding=(0, 1))
    line.add_row(
        ProgressBar(
            total=progress.total_steps or None, completed=progress.step, width=min(40, width // 3)
        ),
        Text(_steps(progress), style="bold"),
        Text(_left(progress, t), style="dim"),
    )
    figures = Text(" · ".join(_figures(progress, t)), overflow="ellipsis", no_wrap=True)
    curve = Text(f"{t('loss')} {sparkline([loss for _, loss in progress.losses])}", style="green")
    return Group(line, curve, figures)


def plain_line(progress: Progress, t: Labels) -> str:
    """The same in one line of text."""
    if not progress.step:
        return t("waiting")
    state = [t.named("run", progress.state)] if progress.state else []
    left = _left(progress, t)
    words = [f"{t('step')} {_steps(progress)}", *_figures(progress, t), *([left] if left else [])]
    return " · ".join([*state, *words])


def sparkline(values: list[float], characters: int = CURVE_CHARACTERS) -> str:
    """Values as a row of blocks; logarithmic where all are positive, so a long tail still moves."""
    if not values:
        return ""
    size = math.ceil(len(values) / characters)
    means = [fmean(values[i : i + size]) for i in range(0, len(values), size)]
    heights = [math.log(v) for v in means] if min(means) > 0 else means
    low, high = min(heights), max(heights)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((height - low) * scale)] for height in heights)


def _steps(progress: Progress) -> str:
    if not progress.total_steps:
        return f"{progress.step:,}"
    share = 100 * progress.step / progress.total_steps
    return f"{progress.step:,}/{progress.total_steps:,} {share:.0f}%"


def _left(progress: Progress, t: Labels) -> str:
    seconds = progress.seconds_left
    return f"{t('eta')} {show_seconds(seconds)}" if seconds and not progress.state else ""


def _figures(progress: Progress, t: Labels) -> list[str]:
    peak = progress.peak_memory_bytes or progress.memory_bytes
    found: list[tuple[float | None, Callable[[float], str]]] = [
        (progress.loss, lambda value: f"{t('loss')} {show_small(value)}"),
        (progress.eval_loss, lambda value: f"{t('eval_loss')} {show_small(value)}"),
        (progress.tokens_per_second, lambda value: f"{value:,.0f} {t('tokens_per_second')}"),
        (progress.pack_fill, lambda value: f"{t('fill')} {100 * value:.0f}%"),
        (peak, lambda value: f"{t('memory')} {show_bytes(value)}"),
    ]
    return [show(value) for value, show in found if value is not None]
