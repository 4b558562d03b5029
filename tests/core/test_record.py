"""The record: whole lines are read, torn ones are not, and nothing that was written is lost."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from manako.core.errors import InputError, MissingFileError, WriteError
from manako.core.record import RecordWriter, forget_after, read_record, write_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "record.jsonl"


def write_steps(path: Path, *steps: int) -> None:
    with RecordWriter(path, verb="train", recipe="型") as record:
        for step in steps:
            record.write("step", step=step, loss=1.0 / step)


def test_what_was_written_is_read_back_with_its_header(path: Path) -> None:
    write_steps(path, 1, 2)
    record = read_record(path)
    assert record.header["verb"] == "train"
    assert record.header["recipe"] == "型"
    assert record.header["versions"]["numpy"]
    assert [event["step"] for event in record.of_kind("step")] == [1, 2]
    assert record.of_kind("other") == []


def test_a_second_writer_goes_on_without_a_second_header(path: Path) -> None:
    write_steps(path, 1)
    write_steps(path, 2)
    assert [event["kind"] for event in read_record(path).events] == ["step", "step"]


def test_every_byte_at_which_a_writer_may_die_leaves_a_record_that_goes_on(path: Path) -> None:
    write_steps(path, 1, 2)
    whole = path.read_bytes()
    header_bytes = whole.index(b"\n") + 1
    for kept in range(header_bytes, len(whole) + 1):
        path.write_bytes(whole[:kept])
        complete = whole[:kept].count(b"\n") - 1
        assert len(read_record(path).events) == complete
        write_steps(path, 9)
        assert [e["step"] for e in read_record(path).events] == [*[1, 2][:complete], 9]


def test_a_torn_header_is_written_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"kind": "header", "ver', encoding="utf-8")
    with pytest.raises(InputError, match="no header"):
        read_record(path)
    write_steps(path, 1)
    assert read_record(path).header["verb"] == "train"


def test_damage_that_is_no_torn_line_is_an_error_with_its_line(path: Path) -> None:
    write_steps(path, 1, 2)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(lines[0] + "{]\n" + lines[2], encoding="utf-8")
    with pytest.raises(InputError, match="line 2 is no JSON"):
        read_record(path)
    path.write_text(lines[0] + "3\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2 is no JSON object"):
        read_record(path)
    with pytest.raises(MissingFileError):
        read_record(path.with_name("none.jsonl"))


def test_forget_after_keeps_the_header_and_the_steps_that_stand(path: Path) -> None:
    write_steps(path, 1, 2, 3)
    header = read_record(path).header
    forget_after(path, 2)
    record = read_record(path)
    assert record.header == header
    assert [event["step"] for event in record.events] == [1, 2]
    forget_after(path.with_name("none.jsonl"), 2)  # nothing to forget is no error


def test_events_of_every_plain_kind_survive(path: Path) -> None:
    event = {"kind": "x", "text": "改行\n\u2028終", "number": 1.5, "none": None, "list": [1, {}]}
    write_record(path, "census", [event], data="forms")
    record = read_record(path)
    assert record.events == (event,)
    assert record.header["data"] == "forms"


def test_a_full_disk_is_said_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with RecordWriter(path, verb="train") as record:
        with monkeypatch.context() as patch:
            patch.setattr(record, "_file", Full())
            with pytest.raises(WriteError, match="No space left"):
                record.write("step", step=1)
        record.write("step", step=2)
    assert [event["step"] for event in read_record(path).events] == [2]


def test_a_whole_record_appears_or_the_old_one_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(path, "census", [{"kind": "a"}])

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteError):
        write_record(path, "census", [{"kind": "b"}])
    assert read_record(path).events == ({"kind": "a"},)
