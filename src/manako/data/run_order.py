"""From settings to the schedule of a whole run, and how many steps it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from manako.data.order import SourceOrder, whole_weights
from manako.data.schedule import Place, RowLengths, Schedule, StagePlan
from manako.data.settings import LoaderSettings

Orders = tuple[SourceOrder, ...]


def schedule_of(
    settings: LoaderSettings, orders: Orders, lengths: RowLengths
) -> tuple[Schedule, int]:
    """The schedule and its number of steps.

    `max_steps` needs no lengths. `num_train_epochs` needs those of every row, and means as many
    draws as that many times the rows of all sources. Without stages exactly those rows are
    delivered; with stages, which are shares of *steps*, it decides the number of steps: as many as
    it takes to deliver that many rows, each stage its share of them.
    """
    if settings.max_steps:
        return _build(
            settings, orders, _stage_plans(settings, settings.max_steps)
        ), settings.max_steps
    schedule, packs = _measured(settings, orders, lengths)
    steps = -(-packs // settings.global_batch_packs)
    if settings.stages:
        schedule = _build(settings, orders, _stage_plans(settings, steps))
    return schedule, steps


def _build(
    settings: LoaderSettings,
    orders: Orders,
    stages: tuple[StagePlan, ...],
    draws: int | None = None,
) -> Schedule:
    return Schedule(
        orders=orders,
        stages=stages,
        pack_tokens=settings.pack_tokens,
        window_rows=settings.pack_window_rows,
        weight_in=settings.weight_in,
        seed=settings.seed,
        draws=draws,
    )


def _whole(settings: LoaderSettings, named: Mapping[str, float]) -> tuple[int, ...]:
    return whole_weights([named.get(name, 0.0) for name in settings.names])


def _stage_plans(settings: LoaderSettings, steps: int) -> tuple[StagePlan, ...]:
    """Stages as packs; a share that rounds to no step is no stage. The last has no end, so that
    it does not matter where the run ends."""
    if not settings.stages:
        return (StagePlan(weights=_whole(settings, settings.weights)),)
    total = sum(stage.share for stage in settings.stages)
    plans, share, before = [], 0.0, 0
    for stage in settings.stages:
        share += stage.share
        end = round(steps * share / total)
        if end > before:
            packs = end * settings.global_batch_packs
            plans.append(StagePlan(weights=_whole(settings, stage.weights), end_pack=packs))
        before = end
    return (*plans[:-1], replace(plans[-1], end_pack=None))


def _measured(
    settings: LoaderSettings, orders: Orders, lengths: RowLengths
) -> tuple[Schedule, int]:
    """The schedule that draws so many epochs and ends (with stages: that of the last), and how
    many packs it makes."""
    rows = max(1, round(settings.num_train_epochs * sum(order.rows for order in orders)))
    stages = [(stage.share, stage.weights) for stage in settings.stages]
    stages = stages or [(1.0, settings.weights)]
    total = sum(share for share, _ in stages)
    place, share = Place.start(len(orders)), 0.0
    for part, weights in stages:
        share += part
        plan = StagePlan(weights=_whole(settings, weights))
        draws = max(place.draws, round(rows * share / total))
        schedule = _build(settings, orders, (plan,), draws)
        place = _end_of(schedule, replace(place, spent=(0,) * len(orders)), lengths)
    return schedule, place.packs


def _end_of(schedule: Schedule, place: Place, lengths: RowLengths) -> Place:
    while (window := schedule.window(place, lengths)) is not None:
        place = window.next
    return place
