"""Every probe is read and says something sane here; the states that matter are simulated."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from manako.machine.finding import Finding, works
from manako.machine.machine import machine_of
from manako.machine.probes import _torch, cpu, disk, memory, requirements
from manako.machine.probes import compile as compile_probe
from manako.machine.run_probe import first_line, look
from manako.machine.runner import GROUPS, PROBES, examine, probes


def test_every_probe_has_both_titles_and_a_group() -> None:
    found = probes()
    assert len(found) > 30
    for name, probe in found.items():
        assert probe.group in GROUPS, name
        assert probe.title.ja.strip(), name
        assert probe.title.en.strip(), name
        assert probe.limit_seconds <= 180, name
    assert [probe.group for probe in found.values()] == sorted(
        (probe.group for probe in found.values()), key=GROUPS.index
    )


def test_what_manako_needs_is_little() -> None:
    needed = {name for name, probe in probes().items() if probe.is_needed}
    assert needed == {"python", "requirements", "memory", "disk", "torchvision"}


@pytest.mark.slow
def test_every_probe_gives_a_sane_finding_here() -> None:
    found = examine()
    assert [one.probe for one in found] == list(probes())
    for one in found:
        assert one.why.ja, one
        assert one.why.en, one
        assert "Traceback" not in one.why.en, one
        assert one.seconds <= probes()[one.probe].limit_seconds + 1, one
    states = {one.probe: one.state for one in found}
    for name in ("python", "requirements", "cpu", "memory", "disk", "bf16", "attention_packed"):
        assert states[name] == "works", name
    machine = machine_of(found)
    assert machine.accelerators or "bfloat16" in machine.cpu_dtypes


def run_with(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Finding:
    """The finding of one probe while `folder` stands in front of the installed packages."""
    monkeypatch.setenv("PYTHONPATH", str(folder))
    (found,) = examine([name])
    return found


def fake_package(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text, encoding="utf-8")


def test_a_broken_torchvision_is_named_with_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = 'raise RuntimeError("operator torchvision::nms does not exist")'
    fake_package(tmp_path, "torchvision", error)
    found = run_with(tmp_path, "torchvision", monkeypatch)
    assert found.state == "does not"
    assert found.mends == "pip uninstall torchvision"
    assert "torchvision::nms" in found.facts["error"]


def test_a_torchvision_that_takes_the_process_with_it_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package(tmp_path, "torchvision", "import ctypes\nctypes.string_at(0)")
    found = run_with(tmp_path, "torchvision", monkeypatch)
    assert found.state == "does not"
    assert found.facts["signal"] == "SIGSEGV"


def test_torchvision_absent_is_well_and_working_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_with(tmp_path, "torchvision", monkeypatch).state == "not installed"
    fake_package(tmp_path, "torchvision", "")
    assert run_with(tmp_path, "torchvision", monkeypatch).state == "works"


def test_a_package_that_prints_on_import_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package(tmp_path, "ray", "print('{')")
    assert run_with(tmp_path, "ray", monkeypatch).state == "works"


def test_an_optional_package_that_is_broken_says_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package(tmp_path, "ray", "import a_module_that_is_not_there")
    found = run_with(tmp_path, "ray", monkeypatch)
    assert found.state == "does not"
    assert "No module named 'a_module_that_is_not_there'" in found.why.en
    assert found.mends == "pip install --upgrade ray"


def test_a_build_for_another_accelerator_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NVIDIA GPU beside a CPU build of PyTorch, which is told without importing PyTorch."""
    fake_package(tmp_path, "torch", "raise SystemExit('imported')")
    version = "__version__ = '2.13.0+cpu'\ncuda = None\nhip = None\nxpu = None\n"
    (tmp_path / "torch" / "version.py").write_text(version, encoding="utf-8")
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    found = run_with(tmp_path, "cuda", monkeypatch)
    assert found.state == "does not"
    assert "2.13.0+cpu" in found.why.en
    assert "pip uninstall torch" in found.mends


def distribution(folder: Path, name: str, version: str, *requires: str) -> None:
    made = folder / f"{name}-{version}.dist-info"
    made.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    extras = ["Provides-Extra: more"] if any("extra" in r for r in requires) else []
    text = "\n".join(["Metadata-Version: 2.1", *lines, *extras, "", ""])
    (made / "METADATA").write_text(text, encoding="utf-8")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of made-up packages that `importlib.metadata` sees."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_wrong_and_missing_versions_are_named_all_the_way_down(packages: Path) -> None:
    distribution(packages, "manako", "0.1", "torch>=2.11", "transformers>=5.23,<6", "here>=1")
    distribution(packages, "torch", "2.9.0")
    distribution(packages, "here", "1.0", "below>=3", "elsewhere; sys_platform == 'nowhere'")
    distribution(packages, "below", "2.0")
    found = requirements.look()
    assert found.state == "does not"
    for words in ("torch>=2.11 ≠ 2.9.0", "transformers<6,>=5.23 ≠ -", "below>=3 ≠ 2.0"):
        assert words in found.why.en
    assert "'torch>=2.11'" in found.mends
    assert "elsewhere" not in found.why.en


def test_an_extra_that_does_not_fit_is_no_error(packages: Path) -> None:
    distribution(packages, "manako", "0.1", "torch>=2", "datasets>=5.0.1; extra == 'more'")
    distribution(packages, "torch", "2.13.0+cpu")
    assert requirements.look().facts["extras"] == {"more": False}
    distribution(packages, "datasets", "4.0")
    importlib.invalidate_caches()
    found = requirements.look()
    assert found.state == "works"
    assert "wrong for an extra only: datasets>=5.0.1 ≠ 4.0" in found.why.en


def test_packages_that_need_each_other_do_not_turn_in_circles(packages: Path) -> None:
    distribution(packages, "manako", "0.1", "one[more]")
    distribution(packages, "one", "1.0", "two", "three; extra == 'more'")
    distribution(packages, "two", "1.0", "one")
    assert list(requirements.conflicts("manako")) == [("three", "")]


def test_cpuinfo_of_three_kinds() -> None:
    intel = "model name\t: Xeon\nflags\t\t: fpu avx2 amx_bf16 avx512_bf16\n"
    assert cpu.read_cpuinfo(intel) == ("Xeon", {"fpu", "avx2", "amx_bf16", "avx512_bf16"})
    arm = "processor\t: 0\nFeatures\t: fp asimd bf16\n"
    assert cpu.read_cpuinfo(arm) == ("", {"fp", "asimd", "bf16"})
    assert cpu.read_cpuinfo("") == ("", frozenset())


def test_memory_without_psutil_is_read_from_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    found = memory.look()
    assert found.state == "works"
    assert "psutil is missing" in found.why.en
    monkeypatch.setattr(memory, "MEMINFO", Path("/nowhere"))
    assert memory.look().mends == "pip install psutil"
    assert memory.read_meminfo("MemTotal: 10 kB\n") is None


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from manako.machine.cgroups import Limits

    limits = Limits(memory_bytes=1_000_000, used_bytes=300_000, cores=1.5)
    monkeypatch.setattr(memory, "read_limits", lambda: limits)
    monkeypatch.setattr(cpu, "read_limits", lambda: limits)
    found = memory.look()
    assert (found.facts["total_bytes"], found.facts["available_bytes"]) == (1_000_000, 700_000)
    assert "the container's limit" in found.why.en
    assert cpu.look().facts["cores"] == 1


def test_disks_are_those_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "there" / "yet"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    found = disk.look()
    assert found.facts["disks"][0]["path"] == str(tmp_path / "not" / "there" / "yet" / "hub")
    assert found.facts["disks"][0]["free_bytes"] > 0
    monkeypatch.setattr(disk, "LITTLE_BYTES", 10**18)
    assert disk.look().why.en.startswith("little is free")
    monkeypatch.setattr(disk.os, "access", lambda *_: False)
    assert "HF_HOME" in disk.look().mends


def test_a_missing_compiler_comes_with_the_line_for_this_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compile_probe.platform, "system", lambda: "Darwin")
    assert compile_probe.install_line() == "xcode-select --install"
    monkeypatch.setattr(compile_probe.platform, "system", lambda: "Linux")
    monkeypatch.setattr(compile_probe.shutil, "which", lambda name: name == "dnf" or None)
    assert compile_probe.install_line() == "sudo dnf install gcc-c++"


def test_a_machine_is_made_of_findings() -> None:
    gpu = {"name": "H", "memory_bytes": 80, "free_bytes": 70, "capability": "9.0"}
    number = {"device": "cuda", "dtype": "bfloat16"}
    found = [
        Finding(**{**vars(works("", "", devices=[gpu, gpu])), "probe": "cuda"}),
        Finding(**{**vars(works("", "", **number)), "probe": "bf16"}),
        Finding(**{**vars(works("", "", total_bytes=9, available_bytes=5)), "probe": "memory"}),
    ]
    machine = machine_of(found)
    assert (machine.device, machine.devices, machine.room_bytes) == ("gpu", 2, 80)
    assert machine.accelerators[0].dtypes == ("bfloat16",)
    assert machine_of(found[2:]).room_bytes == 9
    assert machine_of([]).room_bytes is None
    assert machine_of([]).device == "cpu"


def test_errors_become_one_line() -> None:
    assert first_line("\n  a\nb") == "a"
    assert len(first_line("x" * 1000)) == 240
    assert look(f"{PROBES}.there_is_none").state == "does not"


class FakeBackend:
    """What `torch.cuda` looks like on a machine with two GPUs, or with a driver that fails."""

    def __init__(self, count: int, error: str = "") -> None:
        self.count, self.error = count, error

    def is_available(self) -> bool:
        return self.count > 0

    def device_count(self) -> int:
        return self.count

    def get_device_properties(self, number: int) -> Any:
        return SimpleNamespace(name=f"GPU {number}", total_memory=24_000_000_000)

    def mem_get_info(self, number: int) -> tuple[int, int]:
        return 23_000_000_000, 24_000_000_000

    def get_device_capability(self, number: int) -> tuple[int, int]:
        return 8, 9

    def init(self) -> None:
        if self.error:
            raise RuntimeError(self.error)


def look_at_fake(
    monkeypatch: pytest.MonkeyPatch, backend: FakeBackend, *, is_present: bool, error: float = 0.0
) -> Finding:
    import torch

    build = {"version": "2.13.0", "cuda": "13.0", "hip": None, "xpu": None}
    monkeypatch.setattr(_torch, "build_of_torch", lambda: build)
    monkeypatch.setattr(torch, "cuda", backend)
    monkeypatch.setattr(_torch, "multiply_error", lambda device: error)
    return _torch.look_at_backend(
        "cuda", build="cuda", is_present=is_present, ja="GPU ", en="a GPU", tool="nvidia-smi"
    )


def test_gpus_are_described_and_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look_at_fake(monkeypatch, FakeBackend(2), is_present=True)
    assert found.state == "works"
    assert found.why.en == "GPU 0 24 GB, GPU 1 24 GB"
    assert found.facts["devices"][0] == {
        "name": "GPU 0",
        "memory_bytes": 24_000_000_000,
        "free_bytes": 23_000_000_000,
        "capability": "8.9",
    }
    wrong = look_at_fake(monkeypatch, FakeBackend(2), is_present=True, error=0.5)
    assert (wrong.state, wrong.why.en) == ("does not", "GPU 0 multiplies wrongly (error 0.5)")


def test_a_silent_gpu_says_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    old = "The NVIDIA driver on your system is too old"
    found = look_at_fake(monkeypatch, FakeBackend(0, old), is_present=True)
    assert (found.state, found.mends) == ("does not", "nvidia-smi")
    assert old in found.why.en
    quiet = look_at_fake(monkeypatch, FakeBackend(0), is_present=True)
    assert "PyTorch does not see it" in quiet.why.en
    assert look_at_fake(monkeypatch, FakeBackend(0), is_present=False).state == "not here"


def test_a_gpu_build_without_a_gpu_asks_for_no_gpu_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build = {"version": "2.13.0", "cuda": "13.0", "hip": None, "xpu": None}
    monkeypatch.setattr(_torch, "build_of_torch", lambda: build)
    monkeypatch.setattr(_torch, "has_nvidia", lambda: False)
    assert not _torch.can_use_gpu()
    monkeypatch.setattr(_torch, "has_nvidia", lambda: True)
    assert _torch.can_use_gpu()
    monkeypatch.setattr(_torch, "build_of_torch", lambda: None)
    assert not _torch.can_use_gpu()
