import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from manako.core.record import RecordWriter, forget_after
from manako.report.live import (
    BLOCKS,
    Progress,
    RecordTail,
    follow,
    live_lines,
    plain_line,
    sparkline,
)
from manako.report.texts import labels


def console(**options):
    return Console(file=io.StringIO(), width=90, legacy_windows=False, _environ={}, **options)


def steps(first, last):
    return [{"kind": "step", "step": n, "loss": 1 / n, "seconds": 2.0} for n in range(first, last)]


def test_only_what_was_added_is_read_and_only_whole_lines(tmp_path):
    path = tmp_path / "record.jsonl"
    tail = RecordTail(path)
    assert tail.read() == ([], False)
    path.write_text('{"kind": "header"}\n{"kind": "step", "st', "utf-8")
    assert tail.read() == ([{"kind": "header"}], False)
    assert tail.read() == ([], False)
    with path.open("a", encoding="utf-8") as file:
        file.write('ep": 1}\n')
    assert tail.read() == ([{"kind": "step", "step": 1}], False)


def test_a_torn_line_of_a_killed_run_is_passed_over(tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_text('{"kind": "st\n[1]\n\n{"kind": "step", "step": 2}\n', "utf-8")
    assert RecordTail(path).read()[0] == [{"kind": "step", "step": 2}]


def test_a_record_that_was_written_anew_is_read_from_its_start(tmp_path):
    path = tmp_path / "record.jsonl"
    with RecordWriter(path, verb="train") as record:
        for n in range(1, 6):
            record.write("step", step=n)
    tail = RecordTail(path)
    tail.read()
    forget_after(path, 2)
    events, is_new = tail.read()
    assert is_new
    assert [event["step"] for event in events if event["kind"] == "step"] == [1, 2]


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), max_size=30))
def test_pieces_of_any_size_give_the_same_events(tmp_path_factory, cuts):
    path = tmp_path_factory.mktemp("tail") / "record.jsonl"
    text = "".join(
        json.dumps({"kind": "step", "語": n}, ensure_ascii=False) + "\n" for n in range(9)
    )
    data, place, tail, found = text.encode("utf-8"), 0, RecordTail(path), []
    with path.open("ab", buffering=0) as file:
        for cut in [*cuts, len(data)]:
            file.write(data[place : place + cut])
            place += cut
            found += tail.read()[0]
    assert [event["語"] for event in found] == list(range(9))


def test_progress_knows_steps_loss_and_time_left():
    progress = Progress()
    progress.take([{"kind": "setup", "total_steps": 100}, *steps(1, 41)])
    assert progress.step == 40
    assert progress.seconds_left == 120.0
    progress.take([{"kind": "eval", "loss": 0.25}, {"kind": "end", "state": "stopped"}])
    assert progress.eval_loss == 0.25
    assert progress.state == "stopped"
    progress.take([{"kind": "resumed", "step": 30, "total_steps": 100}])
    assert (progress.step, progress.state) == (30, "")


def test_missing_and_odd_fields_are_passed_over():
    progress = Progress()
    progress.take(
        [
            {"kind": "step"},
            {"kind": "step", "step": 3, "loss": None, "seconds": "x", "memory_bytes": None},
            {"kind": "step", "step": 4, "loss": float("nan")},
            {"kind": "something new"},
        ]
    )
    assert progress.step == 4
    assert progress.loss is None
    assert progress.seconds_left is None
    assert plain_line(progress, labels("en")) == "Step 4"


def test_the_lines_say_what_a_person_waits_for():
    progress = Progress()
    fields = {"tokens_per_second": 8600.4, "pack_fill": 0.98, "peak_memory_bytes": 9e8}
    progress.take([{"kind": "setup", "total_steps": 100}, *steps(1, 41)])
    progress.take([{"kind": "step", "step": 41, "loss": 0.1, "seconds": 2.0, **fields}])
    found = console()
    found.print(live_lines(progress, labels("en"), width=90))
    text = found.file.getvalue()
    for words in ("41/100 41%", "left 1 min 58 s", "8,600 tokens/s", "Pack fill 98%", "900 MB"):
        assert words in text
    assert any(block in text for block in BLOCKS)


def test_before_the_first_step_it_waits():
    assert plain_line(Progress(), labels("ja")) == "記録を待っています"


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=300))
def test_a_sparkline_has_a_bounded_number_of_blocks(values):
    line = sparkline(values)
    assert set(line) <= set(BLOCKS)
    assert bool(line) == bool(values)
    assert len(line) <= 24


@pytest.mark.parametrize("is_terminal", [True, False])
def test_following_ends_with_the_run(tmp_path, is_terminal):
    path = tmp_path / "record.jsonl"
    with RecordWriter(path, verb="train") as record:
        record.write("setup", total_steps=2)
        calls = iter(range(10))

        def is_running():
            step = next(calls)
            if step in (1, 2):
                record.write("step", step=step, loss=1.0)
            if step == 3:
                record.write("end", state="finished")
            return True

        found = console(force_terminal=is_terminal)
        progress = follow(path, found, lang="en", is_running=is_running, poll_seconds=0)
    assert (progress.state, progress.step) == ("finished", 2)
    assert "2/2 100%" in found.file.getvalue()
    assert next(calls) == 4


def test_the_end_of_an_earlier_start_does_not_end_following(tmp_path):
    path = tmp_path / "record.jsonl"
    with RecordWriter(path, verb="train") as record:
        record.write("step", step=3)
        record.write("end", step=3, state="stopped")
        calls = iter(range(10))

        def is_running():
            call = next(calls)
            if call == 3:
                record.write("resumed", step=3, total_steps=9)
                record.write("step", step=4)
            return call < 5

        progress = follow(path, console(), lang="en", is_running=is_running, poll_seconds=0)
    assert (progress.state, progress.step) == ("", 4)


def test_following_ends_when_the_process_is_gone(tmp_path):
    path = tmp_path / "record.jsonl"
    with RecordWriter(path, verb="train") as record:
        record.write("step", step=7)
    alive = iter([True, True, False])
    progress = follow(path, console(), lang="ja", is_running=lambda: next(alive), poll_seconds=0)
    assert (progress.step, progress.state) == (7, "")
    assert next(alive, None) is None
