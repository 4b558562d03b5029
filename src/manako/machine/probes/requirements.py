"""Versions: what is installed against what Manako and its packages ask for, as `pip check` does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, does_not, works

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SHOWN = ("torch", "transformers", "accelerate", "peft", "numpy", "datasets")


def look() -> Finding:
    """What of Manako's requirements is missing or of the wrong version, extras told apart."""
    wrong = list(dict.fromkeys(conflicts("manako")))
    extras = {extra: list(dict.fromkeys(conflicts("manako", extra))) for extra in _extras("manako")}
    versions = {name: found for name in SHOWN if (found := version_of(name))}
    facts: dict[str, Any] = {
        "versions": versions,
        "conflicts": [f"{asked} ({found or 'missing'})" for asked, found in wrong],
        "extras": {extra: not missing for extra, missing in extras.items()},
    }
    if wrong:
        words = ", ".join(f"{asked} ≠ {found or '-'}" for asked, found in wrong)
        mends = f"pip install {' '.join(shlex.quote(asked) for asked, _ in wrong)}"
        return does_not(f"合わない: {words}", f"does not fit: {words}", mends=mends, **facts)
    torn = [(asked, found) for missing in extras.values() for asked, found in missing if found]
    told = ", ".join(f"{name} {versions[name]}" for name in SHOWN[:2] if name in versions)
    if torn:
        words = ", ".join(f"{asked} ≠ {found}" for asked, found in dict.fromkeys(torn))
        return works(
            f"{told}。追加の機能でだけ合わない: {words}",
            f"{told}; wrong for an extra only: {words}",
            **facts,
        )
    whole = ", ".join(sorted(extra for extra, missing in extras.items() if not missing)) or "-"
    return works(f"{told}。そろっている追加: {whole}", f"{told}; complete extras: {whole}", **facts)


def conflicts(package: str, extra: str = "") -> Iterator[tuple[str, str]]:
    """(what is asked for, the version found or nothing), of a package and of all below it."""
    seen: set[tuple[str, str]] = set()
    waiting = [(package, extra)]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for requirement in _requirements(name, wanted):
            found = version_of(requirement.name)
            if not found or not requirement.specifier.contains(found, prereleases=True):
                yield f"{requirement.name}{requirement.specifier}", found
                continue
            child = re.sub(r"[-_.]+", "-", requirement.name).lower()
            waiting += [(child, option) for option in ("", *requirement.extras)]


def version_of(package: str) -> str:
    """The installed version; empty where the package is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _requirements(package: str, extra: str) -> Iterator[Requirement]:
    """Those that hold in this environment; with an extra, those of the extra alone."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # an old package's own spelling, which pip ignores too
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always if not extra else not always and marker and marker.evaluate({"extra": extra}):
            yield requirement


def _extras(package: str) -> list[str]:
    return metadata.metadata(package).get_all("Provides-Extra") or []


PROBE = Probe(
    group="machine",
    title=Words(ja="パッケージの版", en="package versions"),
    look=look,
    place=20,
    is_needed=True,
)
