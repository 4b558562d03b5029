import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.report.charts import MAX_POINTS, Series, draw, nice_ticks

NUMBERS = st.floats(-1e12, 1e12, allow_nan=False)


def draw_one(values, **options):
    return draw("t", [Series(name="a", points=list(enumerate(values)))], show=str, **options)


def path_points(path):
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@settings(deadline=None)
@given(NUMBERS, st.floats(1e-5, 1e6), st.integers(2, 8))
def test_ticks_are_round_inside_and_few(low, relative_width, about):
    """Widths down to 1e-5 of the value itself; float64 leaves no room for ticks far below that."""
    high = low + relative_width * max(1.0, abs(low))
    ticks = nice_ticks(low, high, about)
    slack = (high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert len(ticks) <= 2 * about + 1


def test_ticks_of_a_usual_range():
    assert nice_ticks(0, 1000, 5) == [0, 200, 400, 600, 800, 1000]
    assert nice_ticks(0.0012, 0.0031, 4) == [0.0015, 0.002, 0.0025, 0.003]
    assert nice_ticks(3, 3, 4) == [3]


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=400))
def test_any_values_make_a_chart_of_bounded_size_or_none(values):
    chart = draw_one(values)
    finite = [v for v in values if math.isfinite(v)]
    assert (chart is None) == (not finite)
    if chart is not None:
        (line,) = chart.lines
        assert "nan" not in line.path + line.band
        assert "inf" not in line.path + line.band
        assert len(json.loads(chart.readout)[0][1]) <= MAX_POINTS


def test_curves_stay_inside_the_frame():
    chart = draw_one([5 * math.exp(-k / 40) + 0.01 for k in range(300)])
    x, y = chart.left, None
    for place, (dx, dy) in enumerate(path_points(chart.lines[0].path)):
        x, y = (dx, dy) if place == 0 else (x + dx, y + dy)
        assert chart.left - 0.5 <= x <= chart.right + 0.5
        assert chart.top - 0.5 <= y <= chart.bottom + 0.5


def test_a_single_spike_in_a_long_run_stays_in_sight():
    values = [1.0 + 0.001 * (k % 3) for k in range(5000)]
    values[2500] = 9.0
    chart = draw_one(values)
    _, y = path_points(chart.lines[0].band)[0]
    heights = [y]
    for _, dy in path_points(chart.lines[0].band)[1:]:
        heights.append(heights[-1] + dy)
    frame = chart.bottom - chart.top
    assert min(heights) < chart.top + 0.1 * frame
    assert chart.bottom - 0.2 * frame < sorted(heights)[len(heights) // 2]


def test_a_falling_loss_is_drawn_on_a_logarithmic_axis_and_zero_is_not():
    assert draw_one([5.0, 0.5, 0.05]).is_log
    assert not draw_one([5.0, 0.5, 0.0]).is_log
    assert not draw_one([5.0, 0.5, 0.05], from_zero=True).is_log


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [0.0, 0.0]])
def test_flat_and_single_points_are_drawn(values):
    chart = draw_one(values)
    assert chart.lines[0].path.startswith("M")
    assert chart.y_ticks


def test_the_same_points_give_the_same_chart():
    values = [math.sin(k / 7) for k in range(500)]
    assert draw_one(values) == draw_one(values)
