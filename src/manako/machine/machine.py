"""This machine as one value, made from what the probes found: what plans and advice are made for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from manako.machine.finding import Finding

Backend = Literal["cuda", "rocm", "xpu", "mps"]
BACKENDS: tuple[Backend, ...] = ("cuda", "rocm", "xpu", "mps")
MACHINE_PROBES = ("cpu", "memory", "disk", *BACKENDS)
"""What a Machine is made of, and `NUMBER_PROBES` for the numbers it computes with."""
NUMBER_PROBES = ("bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One device. memory_bytes: all of it; on a Mac what one may use of the Mac's memory.

    free_bytes: when it was asked; None where the backend does not tell. capability: NVIDIA's
    generation such as 9.0. dtypes: those that were tried on this backend and work.
    """

    name: str
    backend: Backend
    memory_bytes: int
    free_bytes: int | None = None
    capability: str = ""
    dtypes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What is free where something is kept: `hub`, `torch`, `here`."""

    what: str
    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """None and empty where a probe did not find out.

    cores: those that may be used. memory_bytes: of the machine, or the container's limit.
    available_bytes: of it, when it was asked. cpu_dtypes: tried on the CPU, and working.
    """

    cpu: str = ""
    cores: int | None = None
    instruction_sets: tuple[str, ...] = ()
    memory_bytes: int | None = None
    available_bytes: int | None = None
    disks: tuple[Disk, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    cpu_dtypes: tuple[str, ...] = ()

    @property
    def device(self) -> Literal["gpu", "mac", "cpu"]:
        """What a model would run on here."""
        if not self.accelerators:
            return "cpu"
        return "mac" if self.accelerators[0].backend == "mps" else "gpu"

    @property
    def room_bytes(self) -> int | None:
        """Memory of one such device: of the smallest where there are several, as all do the same
        work; without any, the machine's. None where it is not known."""
        found = [accelerator.memory_bytes for accelerator in self.accelerators]
        return min(found) if found else self.memory_bytes

    @property
    def devices(self) -> int:
        """How many devices of that kind there are."""
        return max(1, len(self.accelerators))


def machine_of(findings: Iterable[Finding]) -> Machine:
    """The machine that the findings describe; probes that were not run leave their fields empty."""
    found = {finding.probe: finding for finding in findings}
    facts = {name: finding.facts for name, finding in found.items() if finding.state == "works"}
    cpu, memory = facts.get("cpu", {}), facts.get("memory", {})
    return Machine(
        cpu=str(cpu.get("name", "")),
        cores=cpu.get("cores"),
        instruction_sets=tuple(cpu.get("instruction_sets", ())),
        memory_bytes=memory.get("total_bytes"),
        available_bytes=memory.get("available_bytes"),
        disks=tuple(_disks(facts.get("disk", {}))),
        accelerators=tuple(_accelerators(facts)),
        cpu_dtypes=_dtypes(facts, "cpu"),
    )


def _disks(facts: Mapping[str, Any]) -> Iterator[Disk]:
    for disk in facts.get("disks", ()):
        yield Disk(**{key: disk[key] for key in ("what", "path", "free_bytes", "total_bytes")})


def _accelerators(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Accelerator]:
    """Of the first backend that works: a job uses one kind of device."""
    backend = next((name for name in BACKENDS if name in facts), None)
    if backend is None:
        return
    # ROCm calls its devices cuda, also where the numbers were tried.
    dtypes = _dtypes(facts, "cuda" if backend == "rocm" else backend)
    for device in facts[backend].get("devices", ()):
        yield Accelerator(
            name=device["name"],
            backend=backend,
            memory_bytes=device["memory_bytes"],
            free_bytes=device.get("free_bytes"),
            capability=device.get("capability", ""),
            dtypes=dtypes,
        )


def _dtypes(facts: Mapping[str, Mapping[str, Any]], device: str) -> tuple[str, ...]:
    return tuple(
        facts[name]["dtype"]
        for name in NUMBER_PROBES
        if name in facts and facts[name].get("device") == device
    )
