"""Limits of containers, from the files that both versions of control groups write."""

from __future__ import annotations

from pathlib import Path

import pytest

from manako.machine.cgroups import Limits, read_limits


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


def limits(tmp_path: Path, own: str, files: dict[str, str]) -> Limits:
    (tmp_path / "own").write_text(own, encoding="ascii")
    return read_limits(tree(tmp_path / "cgroup", files), tmp_path / "own")


def test_version_2_takes_the_smallest_limit_of_all_groups_above(tmp_path: Path) -> None:
    files = {
        "a/b/cpu.max": "max 100000\n",
        "a/cpu.max": "150000 100000\n",
        "a/b/memory.max": "max\n",
        "a/memory.max": "8000000000\n",
        "a/memory.current": "5000000000\n",
        "a/memory.stat": "anon 1\ninactive_file 2000000000\n",
        "memory.max": "16000000000\n",
    }
    found = limits(tmp_path, "0::/a/b\n", files)
    assert found == Limits(cores=1.5, memory_bytes=8_000_000_000, used_bytes=3_000_000_000)


def test_a_container_whose_path_is_the_hosts_is_bound_by_its_root(tmp_path: Path) -> None:
    files = {"memory.max": "1000\n", "memory.current": "400\n", "cpu.max": "200000 100000\n"}
    found = limits(tmp_path, "0::/docker/0123456789\n", files)
    assert found == Limits(cores=2.0, memory_bytes=1000, used_bytes=400)


def test_version_1_has_a_folder_per_controller(tmp_path: Path) -> None:
    own = "9:name=systemd:/\n4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n"
    files = {
        "memory/job/memory.limit_in_bytes": "4000\n",
        "memory/job/memory.usage_in_bytes": "1500\n",
        "memory/job/memory.stat": "total_inactive_file 500\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    }
    assert limits(tmp_path, own, files) == Limits(cores=0.5, memory_bytes=4000, used_bytes=1000)


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("", {}),
        ("0::/\n", {}),
        ("nonsense\n::\n", {"cpu.max": "x"}),
        ("0::/../..\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"}),
        ("0::/\n", {"cpu.max": "100000 0\n", "memory.max": "12 apples\n"}),
    ],
)
def test_no_limit_and_nonsense_are_no_limit(
    tmp_path: Path, own: str, files: dict[str, str]
) -> None:
    assert limits(tmp_path, own, files) == Limits()
