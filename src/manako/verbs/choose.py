"""`manako models recommend`: from words to a question, and from the answer to plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from manako.catalogue.ability import ability_of
from manako.catalogue.cards import Card, cards
from manako.catalogue.facts import with_sources
from manako.catalogue.scores import score_tables
from manako.catalogue.search import nearest
from manako.catalogue.tasks import Task, tasks
from manako.core.errors import InputError
from manako.plan.conditions import Ask, Excluded
from manako.plan.fitting import Fit
from manako.plan.job import Job, Method
from manako.plan.ladder import Evidence, score_in
from manako.plan.machines import Budget, cpu_budget, gpu_budget, mac_budget
from manako.plan.recommend import Answer, Place, recommend
from manako.verbs.tokens import read_picture

PROBES = ("memory", "cuda", "rocm", "xpu", "mps")
"""What the doctor is asked about this machine."""


def find_task(name: str) -> Task:
    """The task of a name. Raises `InputError` with the nearest for one that is none."""
    if name in tasks():
        return tasks()[name]
    near = nearest(name, tasks())
    raise InputError(f"no task {name!r}{near}", next_step=f"one of {', '.join(tasks())}")


def find_budget(*, gpu: str = "", mac: str = "", cpu: str = "", is_here: bool = False) -> Budget:
    """The machine that one of the options describes; without any, this one.

    Raises `InputError` for more than one.
    """
    given = {"--gpu": gpu, "--mac": mac, "--cpu": cpu, "--here": is_here}
    named = [option for option, value in given.items() if value]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} are two machines", next_step="give one of them")
    if gpu:
        return gpu_budget(gpu)
    if mac:
        return mac_budget(mac)
    return cpu_budget(cpu) if cpu else this_machine()


def this_machine() -> Budget:
    """This machine as the doctor's probes see it: its GPUs by the smallest, or a Mac's shared
    memory, or main memory alone. Raises `InputError` where not even that can be read."""
    from manako.machine.runner import examine

    found = {one.probe: one for one in examine(PROBES)}
    for name in ("cuda", "rocm", "xpu"):
        sizes = [int(gpu["memory_bytes"]) for gpu in found[name].facts.get("devices", ())]
        if found[name].state == "works" and sizes:
            return gpu_budget(f"{len(sizes)}x{min(sizes)}B")
    memory = found["memory"]
    if memory.state != "works":
        raise InputError(
            f"the memory of this machine cannot be read: {memory.why.en}",
            next_step="give it: --gpu 24GB, --mac 16GB or --cpu 16GB",
        )
    size = f"{memory.facts['total_bytes']}B"
    return mac_budget(size) if found["mps"].state == "works" else cpu_budget(size)


def make_ask(
    *,
    task: str,
    language: str,
    budget: Budget,
    method: Method,
    images: Sequence[str] = (),
    context_tokens: int | None = None,
    is_commercial: bool = False,
    is_strict: bool = False,
) -> Ask:
    """The question. Raises `InputError` for an unknown task and for what is no picture."""
    found = find_task(task)
    pictures = [read_picture(text) for text in images or found.pictures]
    job = Job(method=method, pictures=tuple((one.width, one.height) for one in pictures))
    if context_tokens is not None:
        job = replace(job, context_tokens=context_tokens, pack_tokens=context_tokens)
    return Ask(
        task=found,
        language=language,
        budget=budget,
        job=job,
        is_commercial=is_commercial,
        is_strict=is_strict,
    )


def answer(ask: Ask) -> Answer:
    """The models for a question. Raises `InputError` naming the condition that left none."""
    return recommend(cards(), ask)


def as_json(found: Answer) -> dict[str, Any]:
    """The answer as plain values; every figure names its source."""
    ask = found.ask
    return {
        "task": ask.task.key,
        "answers_in": ask.language,
        "method": ask.job.method,
        "images": [f"{width}x{height}" for width, height in ask.job.pictures],
        "commercial": ask.is_commercial,
        "strict": ask.is_strict,
        "machine": {
            "device": ask.budget.device,
            "count": ask.budget.count,
            "each_bytes": ask.budget.each_bytes,
            "usable_bytes": ask.budget.usable_bytes,
        },
        "columns": [_column(name) for name in found.columns],
        "ranked": [_place(place) for place in found.ranked],
        "without_score": [_place(place) for place in found.others],
        "excluded": [_excluded(one) for one in found.excluded],
        "excluded_counts": found.counts,
    }


def _column(name: str) -> dict[str, Any]:
    key, _, column = name.partition(".")
    table = score_tables()[key]
    source = with_sources(table)
    return {
        "column": name,
        "title": table.columns[column].title,
        "scale": table.columns[column].scale.en,
        "judge": table.judge,
        "date": table.date,
        **{name: source[name] for name in ("how", "source", "url")},
    }


def _place(place: Place) -> dict[str, Any]:
    card = place.card
    return {
        "id": card.id,
        "rank": place.rank,
        "close_to_the_one_above": place.is_close,
        "small_and_good_enough": place.is_small,
        "evidence": _evidence(place.evidence),
        "memory": memory_as_json(place.fit),
        "runs_in": list(place.fit.runtimes),
        "manako": {
            "today": not place.fit.planned,
            "planned": list(place.fit.planned),
            "laws": with_sources(ability_of(card.family)),
        },
        "commercial": card.commercial,
        **{name: with_sources(getattr(card, name)) for name in FACTS},
    }


FACTS = ("licences", "parameters", "weight_bytes", "released", "context", "languages", "pitfalls")
"""Facts of a card that stand in the answer with their sources."""


def _evidence(evidence: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": evidence.kind}
    if evidence.kind != "none":
        found |= {**_column(evidence.column), "score": evidence.score}
    if evidence.other is not None:
        found["compared_with"] = {
            "id": evidence.other.id,
            "score": evidence.other_score,
            "score_in_first_column": evidence.anchor_score,
        }
    return found


def memory_as_json(fit: Fit) -> dict[str, Any]:
    """What a job takes, term by term."""
    needs = fit.needs
    return {
        "total_bytes": needs.total_bytes,
        "is_at_least": needs.is_lower_bound,
        "basis": needs.basis,
        "usable_bytes": fit.budget.usable_bytes,
        "fits": fit.tightness,
        "bits": needs.job.held_bits,
        "gpus": needs.job.gpus,
        "is_checkpointed": needs.job.is_checkpointed,
        "tokens": needs.tokens,
        "picture_tokens": needs.picture_tokens,
        "terms": [
            {"term": term.name, "bytes": term.bytes, "how": term.how} for term in needs.terms
        ],
    }


def _excluded(one: Excluded) -> dict[str, Any]:
    return {"id": one.card.id, "reason": one.reason, **one.values}


def notable(excluded: Sequence[Excluded]) -> list[Card]:
    """The excluded that people will look for first: those of the survey, then those with scores."""
    found = [one.card for one in excluded]
    return sorted(found, key=lambda card: (card.survey == "", not card.scores))


def best_known(excluded: Sequence[Excluded], columns: Sequence[str]) -> list[Excluded]:
    """The excluded by their score in the first column of the question, the best first."""

    def place(one: Excluded) -> tuple[bool, float]:
        score = score_in(one.card, columns[0]) if columns else None
        return score is None, -(score or 0.0)

    return sorted(excluded, key=place)
