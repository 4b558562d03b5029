"""`manako quickstart`: the whole path, drawn step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.commands.plan import draw as draw_plan
from manako.cli.failures import Ended
from manako.cli.screen import PLAIN_SECONDS, Bar, Screen
from manako.core.units import show_bytes, show_seconds
from manako.verbs.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.live import Live

    from manako.report.live import Progress
    from manako.verbs.quickstart import Asked

CENSUS_FIELDS = ("rows", "images", "turns", "answers", "characters")


@command(
    "quickstart",
    key="quickstart",
    examples=("manako quickstart", "manako quickstart --out runs/first --json"),
)
@option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/quickstart"),
    show_default=True,
    key="option.quickstart.out",
)
@option("--set", "assignments", multiple=True, metavar="K=V", key="option.set")
def quickstart(screen: Screen, out: Path, assignments: tuple[str, ...]) -> None:
    """Run what is not done yet and show it."""
    from manako.verbs.quickstart import Quickstart, Stopped, run_quickstart

    with Drawing(screen) as drawing:
        try:
            result = run_quickstart(
                Quickstart(folder=out, watcher=drawing, lang=screen.lang, assignments=assignments)
            )
        except Stopped:
            screen.note("quickstart.stopped")
            raise Ended(Exit.STOPPED) from None
    screen.result(result, lambda _: _tell_end(screen, out, result))


def _tell_end(screen: Screen, out: Path, result: Mapping[str, Any]) -> None:
    screen.show(
        "quickstart.done",
        accuracy=result["accuracy"],
        questions=result["test_questions"],
        seconds=show_seconds(result["seconds"]),
    )
    screen.show("quickstart.page", page=out / "report.html")
    screen.show("quickstart.next", command=f"manako chat {out}")


class Drawing:
    """Draws a quickstart on a screen; everything but the end goes to stderr with `--json`."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.console = screen.err if screen.is_json else screen.out
        self._bar: Bar | None = None
        self._name = ""
        self._census: dict[str, Mapping[str, Any]] = {}
        self._training: Training | None = None

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def step(self, number: int, name: str, *, is_done: bool) -> None:
        """Begin a step with its heading."""
        from manako.verbs.quickstart import STEPS

        self._clear()
        self._name = name
        words = self.screen.texts(f"quickstart.{name}")
        done = f"  ({self.screen.texts('quickstart.before')})" if is_done else ""
        self.console.print(f"[{number}/{len(STEPS)}] {words}{done}", style="bold cyan")

    def progress(self, done: float, total: float) -> None:
        """Move the step's bar; training draws itself."""
        if self._name == "train":
            return
        if self._bar is None:
            self._bar = Bar(self.screen.err, self.screen.texts(f"quickstart.{self._name}"))
        self._bar(done, total)

    def tell(self, kind: str, value: Any) -> None:
        """Show one result."""
        if kind not in ("train", "census"):
            self._clear()
        drawers: dict[str, Callable[[Any], object]] = {
            "forms": self._forms,
            "converted": self._converted,
            "census": self._count,
            "preview": self._preview,
            "plan": lambda plan: draw_plan(self.console, plan, self.screen),
            "train": self._train,
            "scores": self._scores,
            "asked": self._asked,
            "report": lambda page: None,
        }
        drawers[kind](value)

    def _say(self, key: str, **values: object) -> None:
        self.console.print(f"  {self.screen.texts(key, **values)}", soft_wrap=True)

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._training is not None:
            self._training.close()
            self._training = None

    def _forms(self, report: Any) -> None:
        rows = sum(report.rows.values())
        self._say("quickstart.made", pictures=report.pictures, rows=rows)

    def _converted(self, report: Any) -> None:
        self._say(
            "quickstart.converted",
            name=report.out.name,
            rows=report.rows,
            dropped=report.dropped,
            size=show_bytes(report.bytes),
        )

    def _count(self, found: tuple[str, Mapping[str, Any]]) -> None:
        name, census = found
        self._census[name] = {field: census[field] for field in CENSUS_FIELDS}

    def _preview(self, page: Path) -> None:
        from manako.report.tables import facts_tables

        title = self.screen.texts("quickstart.sets")
        for table in facts_tables(title, self._census, lang=self.screen.lang):
            self.console.print(table.rich())
        self._say("quickstart.page", page=page)

    def _train(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "resume":
            self._say("quickstart.resumed", step=event["step"], epoch=event.get("epoch", 0))
        if self._training is None:
            self._training = Training(self.screen)
        self._training.take(event)

    def _scores(self, result: Mapping[str, Any]) -> None:
        from manako.report.tables import scores_table

        table = scores_table(result, lang=self.screen.lang)
        if table is not None:
            self.console.print(table.rich())

    def _asked(self, asked: Asked) -> None:
        from manako.report.terminal import print_sample

        print_sample(asked.event, self.console, lang=self.screen.lang, folder=asked.folder)
        self._say("quickstart.answer", answer=asked.answer, expected=asked.expected)


class Training:
    """The live picture of training: redrawn on a terminal, elsewhere a line now and then."""

    def __init__(self, screen: Screen) -> None:
        from manako.report.live import Progress
        from manako.report.texts import labels

        self._console = screen.err
        self._labels = labels(screen.lang)
        self._progress: Progress = Progress()
        self._printed = time.monotonic()
        self._live: Live | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Follow one event of the run."""
        from manako.report.live import live_lines, plain_line

        self._progress.take([event])
        if not self._console.is_terminal:
            if time.monotonic() - self._printed >= PLAIN_SECONDS:
                self._printed = time.monotonic()
                self._console.print(plain_line(self._progress, self._labels), soft_wrap=True)
            return
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(live_lines(self._progress, self._labels, width=self._console.width))

    def close(self) -> None:
        """Leave the last picture on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None


COMMAND = quickstart
