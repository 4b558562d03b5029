"""What a probe is, and what it finds.

A probe says what it tried and what came of it. That something is absent is no error: most machines
have one kind of accelerator, and no one needs every package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from manako.core.words import Words

State = Literal["works", "does not", "not installed", "not here", "not tried"]
"""`not here`: the machine lacks what it would run on, so there is nothing to install."""
Group = Literal["machine", "numbers", "packages", "programs", "hub"]
LIMIT_SECONDS = 20.0
TORCH_LIMIT_SECONDS = 60.0
"""For a probe that loads PyTorch: its libraries may come from a slow disk."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of one probe.

    why: what was tried or is missing. mends: the line to type (or the page to read) that mends it.
    facts: plain values for programs. seconds: how long the probe took, its imports included.
    """

    state: State
    why: Words
    probe: str = ""
    mends: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One question to this machine.

    place: where it stands in its group, the smallest first. limit_seconds: after that it is
    stopped. is_needed: Manako cannot do without what it asks for.
    """

    group: Group
    title: Words
    look: Callable[[], Finding]
    place: int = 50
    limit_seconds: float = LIMIT_SECONDS
    is_needed: bool = False


def works(ja: str, en: str, /, *, mends: str = "", **facts: Any) -> Finding:
    """It was tried, and it works; `mends` is for what could be better."""
    return Finding(state="works", why=Words(ja=ja, en=en), mends=mends, facts=facts)


def does_not(ja: str, en: str, /, *, mends: str = "", **facts: Any) -> Finding:
    """It is there, was tried, and does not work."""
    return Finding(state="does not", why=Words(ja=ja, en=en), mends=mends, facts=facts)


def not_installed(ja: str, en: str, /, *, mends: str = "", **facts: Any) -> Finding:
    """It could run here, and is not installed."""
    return Finding(state="not installed", why=Words(ja=ja, en=en), mends=mends, facts=facts)


def not_here(ja: str, en: str, /, **facts: Any) -> Finding:
    """This machine lacks what it would run on."""
    return Finding(state="not here", why=Words(ja=ja, en=en), facts=facts)


def not_tried(ja: str, en: str, /, *, mends: str = "", **facts: Any) -> Finding:
    """Something forbids to try it."""
    return Finding(state="not tried", why=Words(ja=ja, en=en), mends=mends, facts=facts)
