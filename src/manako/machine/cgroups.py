"""Limits of control groups: what a container may use of its machine (Linux; versions 1 and 2).

A group is bound by its own limits and by those of every group above it, so the smallest counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes a number near 2^63 where there is no limit."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What this process may use; None where no group limits it.

    cores: CPU time per time, so 1.5 is possible. used_bytes: of the group whose memory limit is the
    smallest, without file pages that the system would drop.
    """

    cores: float | None = None
    memory_bytes: int | None = None
    used_bytes: int | None = None


def read_limits(root: Path = ROOT, own: Path = OWN) -> Limits:
    """The limits that bind this process; none where there are no control groups."""
    groups = _groups(_text(own))
    cores = [found for folder in _folders(root, groups, "cpu") if (found := _cores(folder))]
    memory = [
        (limit, folder)
        for folder in _folders(root, groups, "memory")
        if (limit := _memory_limit(folder)) is not None
    ]
    least = min(memory, default=None, key=lambda found: found[0])
    return Limits(
        cores=min(cores, default=None),
        memory_bytes=least[0] if least else None,
        used_bytes=_used(least[1]) if least else None,
    )


def _groups(text: str) -> dict[str, str]:
    """Path by controller; version 2 has one path for all, under the empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number.isdigit():
            found |= dict.fromkeys(controllers.split(","), path)
    return found


def _folders(root: Path, groups: dict[str, str], controller: str) -> Iterator[Path]:
    """The folders of the group and of all above it, in both versions' places.

    Inside a container the path may be the host's, which does not exist there; the root does.
    """
    for top, path in (
        (root, groups.get("")),
        (root / controller, groups.get(controller)),
        (root / "cpu,cpuacct", groups.get("cpu") if controller == "cpu" else None),
    ):
        if path is None:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = top.joinpath(*parts[:depth])
            if folder.is_dir():
                yield folder


def _cores(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = (
            _text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        )
    if not quota.isdigit() or not period.isdigit() or not int(period):
        return None
    return int(quota) / int(period)


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name).strip()
        if text.isdigit() and int(text) < NO_LIMIT_BYTES:
            return int(text)
    return None


def _used(folder: Path) -> int | None:
    for name, dropped in (
        ("memory.current", "inactive_file"),
        ("memory.usage_in_bytes", "total_inactive_file"),
    ):
        used = _text(folder / name).strip()
        if used.isdigit():
            lines = dict(
                line.split(" ", 1)
                for line in _text(folder / "memory.stat").splitlines()
                if " " in line
            )
            pages = lines.get(dropped, "0")
            return max(0, int(used) - (int(pages) if pages.isdigit() else 0))
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
