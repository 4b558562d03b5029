"""Whatever a probe does, there is an honest finding in time, and no process left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manako.machine.finding import Finding
from manako.machine.runner import MAX_SAID_BYTES, examine, probes


def run(package: str, *names: str) -> dict[str, Finding]:
    return {found.probe: found for found in examine(names, package=package)}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def ends(pid: int) -> bool:
    until = time.monotonic() + 2
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


def test_what_is_printed_on_the_way_does_not_disturb_the_answer(fakes: str) -> None:
    found = run(fakes, "well")["well"]
    assert (found.state, found.why.en, found.facts) == ("works", "fine", {"number": 3})
    assert found.seconds > 0


def test_a_hanging_probe_is_stopped_with_all_it_started(fakes: str) -> None:
    started = time.monotonic()
    found = run(fakes, "hangs", "deaf")
    assert time.monotonic() - started < 6
    for one in found.values():
        assert one.state == "does not"
        assert one.why.en == "no end after 1 s; stopped"
    assert ends(int(str(found["hangs"].facts["said"]).split()[-1]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("segfaults", "its process died of SIGSEGV"),
        ("killed", "its process died of SIGKILL (out of memory does that)"),
        ("exits", "SystemExit: this version of Python is not supported"),
        ("leaves", "its process ended without an answer (exit code 3)"),
        ("raises", "RuntimeError: operator torchvision::nms does not exist"),
        ("nonsense", "TypeError: the probe returned a dict, not a finding"),
        ("garbage", "its answer cannot be read"),
    ],
)
def test_a_death_or_nonsense_is_told_as_it_is(fakes: str, name: str, words: str) -> None:
    found = run(fakes, name)[name]
    assert found.state == "does not"
    assert words in found.why.en
    assert found.why.ja
    assert "Traceback" not in found.why.en


def test_a_flood_is_thrown_away(fakes: str) -> None:
    assert run(fakes, "floods")["floods"].state == "works"


def test_what_a_probe_leaves_behind_is_killed(fakes: str) -> None:
    found = run(fakes, "orphan")["orphan"]
    assert found.state == "works"
    assert ends(int(found.facts["child"]))


def test_words_cannot_steer_a_terminal(fakes: str) -> None:
    found = run(fakes, "escapes")["escapes"]
    for text in (found.why.en, found.why.ja, str(found.facts["name"])):
        assert "\x1b" not in text
    assert found.facts["odd"] is None


def test_several_run_at_once_and_are_told_in_their_order(fakes: str) -> None:
    told: list[tuple[int, int]] = []
    names = ("well", "raises", "leaves", "exits")
    found = examine(
        names, package=fakes, processes=2, progress=lambda done, of: told.append((done, of))
    )
    assert [one.probe for one in found] == sorted(names)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_file_that_is_no_probe_stops_none_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn_probes").mkdir()
    (tmp_path / "torn_probes" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "torn_probes" / "empty.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert list(probes("torn_probes")) == ["empty"]
    found = run("torn_probes", "empty")["empty"]
    assert found.state == "does not"
    assert "has no attribute 'PROBE'" in found.why.en


def test_a_file_in_the_working_folder_stands_in_for_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "psutil.py").write_text("raise SystemExit('mine')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = run("manako.machine.probes", "memory")["memory"]
    assert found.state == "works"
    assert found.facts["source"] == "psutil"


def test_the_doctors_own_process_stays_light() -> None:
    """It reads all probes and runs light ones; frameworks are for the processes of the probes."""
    program = """
import sys
from manako.machine.machine import machine_of
from manako.machine.runner import examine, probes
assert len(probes()) > 30
machine = machine_of(examine(["cpu", "memory", "disk", "cuda"]))
assert machine.memory_bytes
heavy = {"torch", "transformers", "numpy", "psutil", "packaging", "rich", "huggingface_hub"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupted_look_leaves_nothing(fakes: str) -> None:
    """Ctrl-C reaches this process alone, because every probe has a group of its own."""
    program = f"""
import os, sys
from manako.machine.runner import examine
sys.path.insert(0, {os.environ["PYTHONPATH"]!r})
def stop(done, of):
    raise KeyboardInterrupt
try:
    examine(["deaf", "well"], package={fakes!r}, processes=2, progress=stop)
except KeyboardInterrupt:
    import subprocess
    found = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True).stdout
    mine = [line for line in found.splitlines() if line.split()[0] == str(os.getpid())]
    print([line for line in mine if "run_probe" in line and "defunct" not in line])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_little_of_what_a_process_said_is_kept(fakes: str) -> None:
    found = run(fakes, "shouts")["shouts"]
    assert found.why.en == "RuntimeError: enough"
    assert 0 < len(str(found.facts["said"])) <= MAX_SAID_BYTES
