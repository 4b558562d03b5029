"""Which curves a run's record holds, and how each is labelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from manako.core.record import Record
from manako.core.units import show_bytes, show_count
from manako.report.charts import Chart, Format, Series, draw
from manako.report.figures import finite
from manako.report.texts import Labels

Event = Mapping[str, Any]


def run_charts(record: Record, t: Labels) -> list[Chart]:
    """Every curve of which the record holds at least one value."""
    steps = record.of_kind("step")
    charts = [
        _losses(record, steps, t),
        _per_part("learning_rate", "learning_rates", steps, t, show=show_small, from_zero=True),
        _single("speed_chart", "tokens_per_second", steps, t, show=show_count, from_zero=True),
        _per_part("grad_norm", "grad_norms", steps, t, show=show_small),
        _single("fill", "pack_fill", steps, t, show=_show_percent),
        _memory(steps, t),
        _single("data_wait", "data_wait_seconds", steps, t, show=_show_brief, from_zero=True),
    ]
    return [chart for chart in charts if chart is not None]


def show_small(value: float) -> str:
    """Three digits; a power of ten where that is shorter: 0.0421, 3.2e-05 → '3.2e-5'."""
    text = f"{value:.3g}"
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def numbers(events: Sequence[Event], read: Callable[[Event], Any]) -> list[tuple[float, float]]:
    """(step, value) of every event in which `read` finds a number; not finite ones too."""
    points = []
    for place, event in enumerate(events, 1):
        value = read(event)
        if isinstance(value, int | float) and not isinstance(value, bool):
            points.append((float(event.get("step", place)), float(value)))
    return points


def _losses(record: Record, steps: Sequence[Event], t: Labels) -> Chart | None:
    train = numbers(steps, lambda event: event.get("loss"))
    held_out = numbers(record.of_kind("eval"), lambda event: event.get("loss"))
    series = [
        Series(name=t("train_loss"), points=train),
        Series(name=t("eval_loss"), points=held_out, has_dots=len(held_out) <= 40),
    ]
    return draw(t("loss"), series, show=show_small, note=_not_finite(train, t))


def _single(
    label: str,
    field: str,
    steps: Sequence[Event],
    t: Labels,
    *,
    show: Format,
    from_zero: bool = False,
) -> Chart | None:
    points = numbers(steps, lambda event: event.get(field))
    series = [Series(name="", points=points)]
    return draw(t(label), series, show=show, note=_not_finite(points, t), from_zero=from_zero)


def _per_part(
    label: str,
    field: str,
    steps: Sequence[Event],
    t: Labels,
    *,
    show: Format,
    from_zero: bool = False,
) -> Chart | None:
    """One curve per part where the field holds a mapping, one curve where it holds a number."""
    names = dict.fromkeys(
        name
        for event in steps
        if isinstance(values := event.get(field), Mapping)
        for name in values
    )
    if not names:
        return _single(label, field, steps, t, show=show, from_zero=from_zero)
    curves: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for name in names:  # parts that share every value share a curve, or one would hide the other
        points = tuple(numbers(steps, lambda event, name=name: _inside(event, field, name)))  # type: ignore[misc]
        curves.setdefault(points, []).append(t.named("part", name))
    series = [Series(name=" · ".join(same), points=points) for points, same in curves.items()]
    bad = [_not_finite(one.points, t) for one in series]
    note = next(filter(None, bad), "")
    return draw(t(label), series, show=show, note=note, from_zero=from_zero)


def _inside(event: Event, field: str, name: str) -> Any:
    values = event.get(field)
    return values.get(name) if isinstance(values, Mapping) else None


def _memory(steps: Sequence[Event], t: Labels) -> Chart | None:
    now = numbers(steps, lambda event: event.get("memory_bytes"))
    points = now or numbers(steps, lambda event: event.get("peak_memory_bytes"))
    series = [Series(name="", points=points)]
    return draw(t("memory"), series, show=show_bytes, from_zero=True)


def _show_brief(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _show_percent(value: float) -> str:
    return f"{100 * value:.4g}%"


def _not_finite(points: Sequence[tuple[float, float]], t: Labels) -> str:
    """A note when a curve holds NaN or infinity, which no line can show."""
    bad = [step for step, value in points if finite(value) is None]
    return t("not_finite", count=len(bad), step=f"{bad[0]:,.0f}") if bad else ""
