"""Runs probes, each in a process of its own: importing a broken package can kill, hang or shout.

A process that dies, hangs, floods its output or answers nonsense becomes a finding that says so.
Everything a probe has started is killed when it is done or its time is up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manako.core.discovery import discover
from manako.core.settings import build, plain
from manako.core.words import Words
from manako.machine.finding import Finding, Group, Probe, does_not
from manako.machine.run_probe import first_line

PROBES = "manako.machine.probes"
GROUPS: tuple[Group, ...] = ("machine", "numbers", "packages", "programs", "hub")
LAST_PLACE = 99
LOOK_SECONDS = 0.05
"""How often is asked whether a process has ended."""
MAX_ANSWER_BYTES = 1_000_000
MAX_SAID_BYTES = 8_000
"""Of what a process says on stderr, this much is kept: the end."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "PYTHONUTF8": "1",
}
"""As many probes run as there are cores, so each is one thread of work."""
Progress = Callable[[int, int], None]


@dataclass
class _Running:
    """A probe under way. said: the end of its stderr."""

    name: str
    limit_seconds: float
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    answer: bytearray = field(default_factory=bytearray)
    said: bytearray = field(default_factory=bytearray)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def is_late(self) -> bool:
        return self.seconds > self.limit_seconds


def probes(package: str = PROBES) -> Mapping[str, Probe]:
    """All probes by name, as they are shown. A broken file is a probe whose process will say so."""
    found = discover(package, "PROBE")
    items: dict[str, Probe] = {**found.items, **{name: _torn(name) for name in found.broken}}
    ordered = sorted(
        items.items(), key=lambda item: (GROUPS.index(item[1].group), item[1].place, item[0])
    )
    return dict(ordered)


def _torn(name: str) -> Probe:
    return Probe(group="machine", title=Words(ja=name, en=name), look=_never, place=LAST_PLACE)


def _never() -> Finding:
    raise LookupError("a torn probe has no look; its module is imported in its own process")


def examine(
    names: Sequence[str] | None = None,
    *,
    package: str = PROBES,
    processes: int | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """What the named probes find (all of them by default), in the order in which they are shown.

    processes: how many run at once; one per usable core by default. progress: told (done, total).
    """
    known = probes(package)
    wanted = [name for name in known if names is None or name in names]
    found: dict[str, Finding] = {}
    # The longest first, so that it does not run alone at the end.
    waiting = sorted(wanted, key=lambda name: -known[name].limit_seconds)
    running: list[_Running] = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < (processes or usable_cores()):
                    name = waiting.pop(0)
                    running.append(_start(f"{package}.{name}", name, known[name], selector))
                _read(selector, LOOK_SECONDS)
                for one in [one for one in running if _has_ended(one) or one.is_late]:
                    running.remove(one)
                    found[one.name] = _finish(one, selector)
                    if progress is not None:
                        progress(len(found), len(wanted))
        finally:
            for one in running:
                _kill(one)
    return [found[name] for name in wanted]


def usable_cores() -> int:
    """Cores that this process may run on; those of the machine where the system does not say."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(module: str, name: str, probe: Probe, selector: selectors.BaseSelector) -> _Running:
    # -P: a file in the working folder never stands in for a package.
    command = [sys.executable, "-P", "-m", "manako.machine.run_probe", module]
    process = subprocess.Popen(
        [*command, str(probe.limit_seconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )
    one = _Running(name, probe.limit_seconds, process)
    for stream, kept in ((process.stdout, one.answer), (process.stderr, one.said)):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        selector.register(stream, selectors.EVENT_READ, (kept, kept is one.said))
    return one


def _read(selector: selectors.BaseSelector, seconds: float) -> None:
    """Take what has come; a flood is read and thrown away, or its writer would wait for ever."""
    if not selector.get_map():
        time.sleep(seconds)
        return
    for key, _ in selector.select(seconds):
        kept, is_said = key.data
        try:
            arrived = os.read(key.fd, 1 << 16)
        except BlockingIOError:
            continue
        if not arrived:
            selector.unregister(key.fileobj)
        elif is_said:
            kept += arrived
            del kept[:-MAX_SAID_BYTES]
        elif len(kept) <= MAX_ANSWER_BYTES:
            kept += arrived


def _has_ended(one: _Running) -> bool:
    return one.process.poll() is not None


def _finish(one: _Running, selector: selectors.BaseSelector) -> Finding:
    """The finding of a process that has ended, or is out of time; nothing of it is left."""
    is_late = one.process.poll() is None
    seconds = one.seconds
    _kill(one)
    for stream in (one.process.stdout, one.process.stderr):
        assert stream is not None
        if stream in {key.fileobj for key in selector.get_map().values()}:
            selector.unregister(stream)
        kept = one.answer if stream is one.process.stdout else one.said
        with contextlib.suppress(OSError):
            kept += stream.read(MAX_ANSWER_BYTES) or b""
        stream.close()
    found = _late(one) if is_late else _answer_of(one)
    if found.state == "does not":
        found = dataclasses.replace(found, facts={**found.facts, **_said(one)})
    return dataclasses.replace(
        _printable(found), probe=one.name, seconds=found.seconds or round(seconds, 3)
    )


def _kill(one: _Running) -> None:
    """End the process and all that it started and that stayed in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(one.process.pid, signal.SIGKILL)
    one.process.wait()


def _late(one: _Running) -> Finding:
    limit = f"{one.limit_seconds:g}"
    return does_not(
        f"{limit} 秒たっても終わらないので止めた",
        f"no end after {limit} s; stopped",
        is_late=True,
    )


def _answer_of(one: _Running) -> Finding:
    code = one.process.returncode
    if code < 0:
        return _died(code)
    if code > 0 or not one.answer:
        return does_not(
            f"プロセスが答えずに終わった（終了コード {code}）",
            f"its process ended without an answer (exit code {code})",
            exit_code=code,
        )
    try:
        return build(Finding, json.loads(one.answer), where="the answer")
    except (ValueError, RecursionError) as error:
        reason = first_line(str(error))
        return does_not(f"答えが読めない: {reason}", f"its answer cannot be read: {reason}")


def _died(code: int) -> Finding:
    name = str(-code)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    is_memory = name == "SIGKILL"
    ja = "（メモリー不足でも起こる）" if is_memory else "（パッケージが壊れている）"
    en = " (out of memory does that)" if is_memory else " (a broken package does that)"
    return does_not(
        f"プロセスが {name} で落ちた{ja}", f"its process died of {name}{en}", signal=name
    )


def _said(one: _Running) -> dict[str, Any]:
    text = bytes(one.said).decode(errors="replace").strip()
    return {"said": text[-MAX_SAID_BYTES // 4 :]} if text else {}


def _printable(found: Finding) -> Finding:
    """Without control characters: a server's or a package's words must not steer a terminal."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return "".join(
                c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value
            )
        if isinstance(value, Mapping):
            return {clean(key): clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    values = clean(plain(found))
    return Finding(**{**values, "why": Words(**values["why"])})
