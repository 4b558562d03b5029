"""When an answer is right, and how sure a share of right answers is.

Pure arithmetic on strings and numbers; nothing heavy is imported.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from manako.core.errors import InputError

Z = 1.959963984540054
"""The normal distribution's 97.5 % point: what lies within ± Z of its mean is 95 %."""
PRIOR_ERRORS = 2.0
"""How many questions the assumption "a picture is right as a whole or wrong as a whole" weighs
against what the answers show; see `accuracy`."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of right answers with its 95 % interval. clusters: independent pictures."""

    n: int
    clusters: int
    value: float
    low: float
    high: float


def normalise(text: str) -> str:
    """NFKC (full-width digits and letters become plain ones), blanks at both ends removed."""
    return unicodedata.normalize("NFKC", text).strip()


def exact_match(answer: str, expected: str) -> bool:
    """Whether the whole answer is right after NFKC, blanks at its ends aside."""
    return normalise(answer) == normalise(expected)


def majority(expected: Sequence[str]) -> float:
    """Share that always giving the most frequent answer would get right."""
    if not expected:
        raise InputError("no answers to count")
    counts = Counter(normalise(text) for text in expected)
    return max(counts.values()) / len(expected)


def accuracy(correct: Sequence[bool], clusters: Sequence[Hashable]) -> Share:
    """Share of right answers with a 95 % interval that knows which questions share a picture.

    Questions about one picture are right or wrong together, so n questions say less than n
    independent ones. With G clusters of sizes m_g, k right of n and p = k/n:

        V    = G/(G−1) · Σ_g (Σ_{i∈g} (x_i − p))² / n²       cluster-robust variance of p
        deff = V / (p(1−p)/n)                                design effect, at least 1
        low, high = Wilson's score interval for p with n/deff questions, t_{G−1} in place of z

    V: Liang and Zeger 1986, with the factor of Cameron and Miller 2015; for evaluations,
    arXiv 2411.00640, equation 4. Wilson 1927 with an effective n: Korn and Graubard 1998. Near
    p = 0 or 1 there are too few errors (or too few hits) to see how they cluster, and V tells
    nothing at p = 1, where a plain interval would be a point. So deff is mixed with Σ m_g²/n, what
    it is when pictures are right or wrong as a whole, which weighs as `PRIOR_ERRORS` errors:

        deff = (e·max(1, deff) + c·Σ m_g²/n) / (e + c),   e = min(k, n − k),  c = PRIOR_ERRORS

    Deterministic. Raises `InputError` for no answers, or lists of unequal length.
    """
    n = len(correct)
    if n == 0 or n != len(clusters):
        raise InputError(f"{n} answers and {len(clusters)} clusters; expected as many, and some")
    groups: dict[Hashable, list[bool]] = defaultdict(list)
    for is_right, cluster in zip(correct, clusters, strict=True):
        groups[cluster].append(bool(is_right))
    right = sum(map(bool, correct))
    p = right / n
    effective = n / _design_effect(list(groups.values()), n, right)
    low, high = _wilson(p, effective, _t_point(len(groups) - 1))
    return Share(n=n, clusters=len(groups), value=p, low=min(low, p), high=max(high, p))


def _design_effect(groups: Sequence[Sequence[bool]], n: int, right: int) -> float:
    together = sum(len(group) ** 2 for group in groups) / n
    errors = min(right, n - right)
    if errors == 0 or len(groups) < 2:
        return together
    p = right / n
    squares = sum((sum(group) - p * len(group)) ** 2 for group in groups)
    variance = len(groups) / (len(groups) - 1) * squares / n**2
    seen = max(1.0, variance / (p * (1 - p) / n))
    return (errors * seen + PRIOR_ERRORS * together) / (errors + PRIOR_ERRORS)


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    middle = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _t_point(degrees: int) -> float:
    """97.5 % point of Student's t, by Fisher's expansion in 1/degrees (Abramowitz and Stegun,
    26.7.5): within 0.5 % from 3 degrees on; below that 1 and 2 are exact, and 0 is taken for 1."""
    exact = {0: 12.706204736432095, 1: 12.706204736432095, 2: 4.302652729911275}
    if degrees in exact:
        return exact[degrees]
    z, v = Z, degrees
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
