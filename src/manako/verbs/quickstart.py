"""The quickstart: the whole path on real scans, on a CPU, in minutes.

data → one stored form → census and preview → plan → train → measure → ask → report. Nothing here
is special: every step calls what the other verbs call, and the recipe is an ordinary one
(`samples/quickstart_recipe.yaml`). Each step that is done is written down with its time, so a
quickstart that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from manako.core.errors import InputError
from manako.core.files import read_json, write_json
from manako.core.recipe import Recipe

if TYPE_CHECKING:
    from manako.core.conversation import Conversation
    from manako.core.family import Processor
    from manako.data.store import Store
    from manako.report.texts import Lang
    from manako.samples.forms import FormsReport

SAMPLES = Path(__file__).parent.parent / "samples"
RECIPE = SAMPLES / "quickstart_recipe.yaml"
MODEL = SAMPLES / "quickstart_model.yaml"
SETS = ("one", "short", "long", "test")
STEPS = ("forms", "convert", "model", "look", "plan", "train", "measure", "ask", "report")
PREVIEW_ROWS_PER_SET = 2
ANSWER_TOKENS = 16
"""The longest answer, two sheets of four digits, is shorter."""
ASKED_AT_ONCE = 128
TEMPLATE_WORDS = ("system\n", "user\n", "assistant\n", "\n")


class Watcher(Protocol):
    """Who is told how the quickstart goes on; the command line draws it."""

    def step(self, number: int, name: str, *, is_done: bool) -> None:
        """Step `number` (from 1) of `STEPS` begins, or was done before."""
        ...

    def progress(self, done: float, total: float) -> None:
        """How far the step has come."""
        ...

    def tell(self, kind: str, value: Any) -> None:
        """Something to show: `forms` (FormsReport), `converted` (ConvertReport), `census` (name
        and fields), `preview` (page), `plan` (Plan), `train` (an event of the run), `scores` (the
        fields of result.json), `asked` (Asked), `report` (page)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """One quickstart: where it lives, what it overrides in the recipe, who watches."""

    folder: Path
    watcher: Watcher
    lang: Lang = "en"
    assignments: tuple[str, ...] = ()
    rows: Mapping[str, int] | None = None
    test_questions_per_kind: int = 160
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def journal(self) -> Path:
        return self.folder / "quickstart.json"

    @property
    def recipe(self) -> Recipe:
        """The shipped recipe with this folder's paths and the caller's overrides."""
        recipe = Recipe.load(RECIPE, self.assignments)
        data = tuple(_moved(source, self.folder) for source in recipe.data)
        model = str(self.folder / recipe.model)
        return recipe.replace(data=data, model=model, output_dir=str(self.folder))

    def data(self, name: str) -> Path:
        return self.folder / "data" / name


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as a sample event, whose pictures lie in `folder`, and its answer."""

    event: Mapping[str, Any]
    folder: Path
    answer: str
    expected: str


class Stopped(Exception):
    """Training was asked to stop; it has saved, and the same command goes on from there."""


def run_quickstart(quickstart: Quickstart) -> dict[str, Any]:
    """Run what is not done yet; the fields of `result.json`.

    Raises `Stopped` when training was asked to stop, and the errors of every step.
    """
    _recall(quickstart)
    actions: dict[str, Callable[[Quickstart], None]] = {
        "forms": _make_forms,
        "convert": _convert,
        "model": _make_model,
        "look": _look,
        "plan": _plan,
        "train": _train,
        "measure": _measure,
        "ask": _ask,
        "report": _report,
    }
    for number, name in enumerate(STEPS, 1):
        is_done = name in quickstart.seconds and name != "ask"
        quickstart.watcher.step(number, name, is_done=is_done)
        if not is_done:
            with _timed(quickstart, name):
                actions[name](quickstart)
    result: dict[str, Any] = read_json(quickstart.folder / "result.json")
    quickstart.watcher.tell("report", quickstart.folder / "report.html")
    return result


def _recall(quickstart: Quickstart) -> None:
    """Read which steps are done; refuse a journal of other settings."""
    settings = {
        "assignments": list(quickstart.assignments),
        "rows": dict(quickstart.rows) if quickstart.rows else None,
        "test_questions_per_kind": quickstart.test_questions_per_kind,
    }
    if quickstart.journal.is_file():
        found = read_json(quickstart.journal)
        if found["settings"] != settings:
            raise InputError(
                f"{quickstart.folder} holds a quickstart with other settings: {found['settings']}",
                next_step="repeat the call as it was, or delete the folder to begin anew",
            )
        quickstart.seconds.update(found["seconds"])
    else:
        write_json(quickstart.journal, {"settings": settings, "seconds": {}})


@contextlib.contextmanager
def _timed(quickstart: Quickstart, name: str) -> Iterator[None]:
    """Write the step down as done, with its time, when it ends well."""
    started = time.monotonic()
    yield
    quickstart.seconds[name] = time.monotonic() - started
    found = read_json(quickstart.journal)
    write_json(quickstart.journal, {**found, "seconds": quickstart.seconds})


def _make_forms(quickstart: Quickstart) -> None:
    from manako.samples.forms import DEFAULT_ROWS, write_forms

    report: FormsReport = write_forms(
        quickstart.folder / "raw",
        rows=quickstart.rows or DEFAULT_ROWS,
        test_questions_per_kind=quickstart.test_questions_per_kind,
        progress=quickstart.watcher.progress,
    )
    quickstart.watcher.tell("forms", report)


def _convert(quickstart: Quickstart) -> None:
    from manako.data.convert import convert

    for number, name in enumerate(SETS):
        out = quickstart.data(name)
        if out.exists():  # a killed start left it: a store is whole or not there
            continue

        def told(_: int, share: float, number: int = number) -> None:
            quickstart.watcher.progress(number + share, len(SETS))

        report = convert(quickstart.folder / "raw" / name, out, progress=told)
        quickstart.watcher.tell("converted", report)
    shutil.rmtree(quickstart.folder / "raw")


def _make_model(quickstart: Quickstart) -> None:
    """A checkpoint with random weights; its tokenizer is trained on the words of the training sets."""
    import yaml

    from manako.core.family import families

    shape = yaml.safe_load(MODEL.read_text(encoding="utf-8"))
    family = families().items["qwen2_vl"]
    start = Path(quickstart.recipe.model)
    shutil.rmtree(start, ignore_errors=True)
    family.make_tiny(start, seed=quickstart.recipe.seed, corpus=_words(quickstart), **shape)


def _words(quickstart: Quickstart) -> list[str]:
    """Every different text of the training sets once, in order, and what templates write."""
    texts = set(TEMPLATE_WORDS)
    for name in SETS[:-1]:
        for batch in _store(quickstart, name).batches(["messages"]):
            for messages in batch.column("messages").to_pylist():
                texts.update(
                    part["text"] for m in messages for part in m["content"] if part["text"]
                )
    return sorted(texts)


def _look(quickstart: Quickstart) -> None:
    """A census of every set, and a page that shows rows as the model will see them."""
    from manako.data.census import take_census, write_census
    from manako.report.events import encode_sample, write_entries
    from manako.report.samples import write_samples_page

    processor = _processor(quickstart)
    entries = []
    for name in SETS:
        store = _store(quickstart, name)
        census = take_census(store)
        write_census(quickstart.folder / "census" / f"{name}.jsonl", census, data=name)
        quickstart.watcher.tell("census", (name, census.as_dict()))
        for index in range(0, store.rows, -(-store.rows // PREVIEW_ROWS_PER_SET)):
            row = store.conversation(index)
            entries.append(encode_sample(row, processor, number=index))
    record = write_entries(
        quickstart.folder / "samples", entries, verb="view", data="quickstart", model="start"
    )
    page = quickstart.folder / "preview.html"
    write_samples_page(record, page, lang=quickstart.lang, title="quickstart")
    quickstart.watcher.tell("preview", page)


def _plan(quickstart: Quickstart) -> None:
    from manako.verbs.plan import look

    plan = look(quickstart.recipe).measured(quickstart.watcher.progress).plan
    write_json(quickstart.folder / "plan.json", plan.as_dict())
    quickstart.watcher.tell("plan", plan)


def _train(quickstart: Quickstart) -> None:
    from manako.verbs.runs import is_run, read_run
    from manako.verbs.tune import train

    recipe = quickstart.recipe
    if is_run(quickstart.folder) and read_run(quickstart.folder).state == "finished":
        return  # killed between the run's own last word and the journal's

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step":
            quickstart.watcher.progress(event["step"], recipe.max_steps)
        quickstart.watcher.tell("train", event)

    outcome = train(recipe, listener=listen)
    if outcome.state == "stopped":
        raise Stopped


def _measure(quickstart: Quickstart) -> None:
    """Exact match on questions about held-out scans, beside two controls that cannot read."""
    from manako.evaluate.runner import evaluate
    from manako.infer.open import open_model
    from manako.report.events import prediction_entry, write_entries

    questions = _questions(quickstart)
    evaluation = evaluate(
        open_model(quickstart.folder),
        questions,
        batch_size=ASKED_AT_ONCE,
        max_new_tokens=ANSWER_TOKENS,
        progress=quickstart.watcher.progress,
    )
    evaluation.write(quickstart.folder / "evaluation")
    entries = (
        prediction_entry(
            _prompt(questions[prediction.number]),
            group=prediction.kind,
            expected=prediction.expected,
            answer=prediction.answer,
            correct=prediction.correct,
            finish_reason=prediction.finish_reason,
        )
        for prediction in evaluation.predictions
    )
    write_entries(quickstart.folder / "evaluation", entries, verb="quickstart")
    result = evaluation.as_dict()
    write_json(quickstart.folder / "result.json", result)
    quickstart.watcher.tell("scores", result)


def _ask(quickstart: Quickstart) -> None:
    """One question about a test picture, answered as a user would ask it."""
    from manako.infer.open import open_model
    from manako.report.events import sample_entry, write_entries

    asked = _example_question(_questions(quickstart), quickstart.lang)
    prompt = _prompt(asked)
    reply = open_model(quickstart.folder).generate_content(prompt, max_new_tokens=ANSWER_TOKENS)
    entry = sample_entry(prompt, number=0)
    write_entries(quickstart.folder / "asked", [entry], verb="quickstart")
    answer = Asked(
        event=entry.event,
        folder=quickstart.folder / "asked",
        answer=reply.text,
        expected=asked.messages[-1].text,
    )
    quickstart.watcher.tell("asked", answer)


def _report(quickstart: Quickstart) -> None:
    from manako.report.run import write_run_report

    result = read_json(quickstart.folder / "result.json")
    result["seconds"] = round(sum(quickstart.seconds.values()), 1)
    result["seconds_by_step"] = {k: round(v, 1) for k, v in quickstart.seconds.items()}
    result["peak_memory_bytes"] = peak_memory_bytes()
    planned = read_json(quickstart.folder / "plan.json")["memory"]
    result["predicted_memory_bytes"] = planned["cpu_process_high_bytes"]
    write_json(quickstart.folder / "result.json", result)
    write_run_report(quickstart.folder, lang=quickstart.lang)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process and of its largest child so far, together."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * sum(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def _prompt(row: Conversation) -> Conversation:
    """What is asked: all but the last answer."""
    from manako.core.conversation import Conversation

    return Conversation(row.messages[:-1], id=row.id, source=row.source)


def _questions(quickstart: Quickstart) -> list[Conversation]:
    store = _store(quickstart, "test")
    return [store.conversation(index) for index in range(store.rows)]


def _example_question(questions: Sequence[Conversation], lang: Lang) -> Conversation:
    """The first question in the reader's language that needs the whole picture read."""
    wanted = f"forms/read_all/{lang}"
    return next((q for q in questions if q.source == wanted), questions[0])


def _store(quickstart: Quickstart, name: str) -> Store:
    from manako.data.store import Store

    return Store.open(quickstart.data(name))


def _processor(quickstart: Quickstart) -> Processor:
    from manako.core.family import family_of

    folder = Path(quickstart.recipe.model)
    return family_of(folder).open(folder)


def _moved(source: Any, folder: Path) -> Any:
    from dataclasses import replace

    return replace(source, path=str(folder / source.path))
