"""Curves as plain geometry; the template draws them as inline SVG.

Written by hand because the page's own colours (light, dark, print) must reach every stroke, and a
curve must stay sharp and small: a few kilobytes each, no script needed to see it. Long runs are
shown as means over stretches of steps, with the range inside each stretch as a band, so a single
spike stays in sight.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 360.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 24.0
MAX_POINTS = 160
LOG_RATIO = 25
"""A curve whose largest value is this many times its smallest is drawn on a logarithmic axis."""

Format = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve: (x, y) points in order of x. `has_dots` for few, far apart points."""

    name: str
    points: Sequence[tuple[float, float]]
    has_dots: bool = False


@dataclass(frozen=True)
class Tick:
    """A grid line at `at` (view units) with its label."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve as SVG paths: `path` the mean, `band` the range around it (empty: none)."""

    name: str
    path: str
    band: str
    dots: tuple[tuple[float, float], ...]
    last: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn chart in view units of `WIDTH` × `HEIGHT`."""

    title: str
    note: str
    is_log: bool
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    readout: str
    """JSON for the pointer: per curve [name, [[x in view units, step, value], …]]."""

    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True)
class _Bucket:
    x: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class _Axis:
    """A value range laid on a range of view units; `log` uses logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def draw(
    title: str, series: Sequence[Series], *, show: Format, note: str = "", from_zero: bool = False
) -> Chart | None:
    """A chart of the finite points of `series`; None when there is no point at all."""
    kept = [(one, _buckets(one.points)) for one in series]
    kept = [(one, buckets) for one, buckets in kept if buckets]
    if not kept:
        return None
    lows = [bucket.low for _, buckets in kept for bucket in buckets]
    highs = [bucket.high for _, buckets in kept for bucket in buckets]
    is_log = min(lows) > 0 and max(highs) / min(lows) > LOG_RATIO and not from_zero
    x_axis = _x_axis([bucket.x for _, buckets in kept for bucket in buckets])
    y_axis = _y_axis(min(lows), max(highs), is_log=is_log, from_zero=from_zero)
    y_values = _log_ticks(y_axis) if is_log else nice_ticks(y_axis.low, y_axis.high, 4)
    x_values = [v for v in nice_ticks(x_axis.low, x_axis.high, 5) if v == int(v)]
    return Chart(
        title=title,
        note=note,
        is_log=is_log,
        lines=tuple(_line(one, buckets, x_axis, y_axis, show) for one, buckets in kept),
        x_ticks=tuple(Tick(x_axis.at(v), f"{v:,.0f}") for v in x_values),
        y_ticks=tuple(Tick(y_axis.at(v), show(v)) for v in y_values),
        readout=_readout(kept, x_axis, show),
    )


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) inside [low, high], about `about` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.15g}") for k in range(first, last + 1)]


def _log_ticks(axis: _Axis) -> list[float]:
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
    steps = (1, 3) if last - first <= 2 else (1,)
    values = [m * 10.0**power for power in range(first, last + 1) for m in steps]
    return [value for value in values if axis.low <= value <= axis.high]


def _x_axis(values: Sequence[float]) -> _Axis:
    return _Axis(min(values), max(values), LEFT, WIDTH - RIGHT)


def _y_axis(low: float, high: float, *, is_log: bool, from_zero: bool) -> _Axis:
    if is_log:
        return _Axis(low / 1.1, high * 1.1, HEIGHT - BOTTOM, TOP, log=True)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    floor = 0.0 if from_zero or 0 <= low <= (high - low) * 0.5 else low - pad
    return _Axis(floor, high + pad, HEIGHT - BOTTOM, TOP)


def _buckets(points: Sequence[tuple[float, float]]) -> list[_Bucket]:
    """Means and ranges over at most `MAX_POINTS` stretches of equally many points."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    size = max(1, math.ceil(len(finite) / MAX_POINTS))
    stretches = [finite[i : i + size] for i in range(0, len(finite), size)]
    return [_bucket(stretch) for stretch in stretches]


def _bucket(points: Sequence[tuple[float, float]]) -> _Bucket:
    values = [y for _, y in points]
    return _Bucket(points[-1][0], math.fsum(values) / len(values), min(values), max(values))


def _line(
    series: Series, buckets: Sequence[_Bucket], x_axis: _Axis, y_axis: _Axis, show: Format
) -> Line:
    means = [(x_axis.at(b.x), y_axis.at(b.mean)) for b in buckets]
    upper = [(x_axis.at(b.x), y_axis.at(b.high)) for b in buckets]
    lower = [(x_axis.at(b.x), y_axis.at(b.low)) for b in buckets]
    has_band = any(low != high for (_, low), (_, high) in zip(lower, upper, strict=True))
    return Line(
        name=series.name,
        path=_path(means),
        band=f"{_path(upper + lower[::-1])}Z" if has_band else "",
        dots=tuple(means) if series.has_dots or len(means) == 1 else (),
        last=show(buckets[-1].mean),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path with relative steps, which are shorter than absolute ones."""
    x, y = points[0]
    steps = [f"{b[0] - a[0]:.4g} {b[1] - a[1]:.4g}" for a, b in pairwise(points)]
    return f"M{x:g} {y:g}" + (f"l{' '.join(steps)}" if steps else "")


def _readout(kept: Sequence[tuple[Series, list[_Bucket]]], x_axis: _Axis, show: Format) -> str:
    curves = [
        [one.name, [[x_axis.at(b.x), f"{b.x:,.0f}", show(b.mean)] for b in buckets]]
        for one, buckets in kept
    ]
    return json.dumps(curves, ensure_ascii=False, separators=(",", ":"))
