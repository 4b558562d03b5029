"""Ray: spreads work over several machines."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import look_at_package, package_probe


def look() -> Finding:
    """Imported; a cluster is not started for a question."""
    return look_at_package(
        "ray",
        use=Words(
            ja="複数台での実行。この版の Manako は使わない",
            en="work on several machines; not used by this version of Manako",
        ),
        install="pip install ray",
        reinstall="pip install --upgrade ray",
    )


PROBE = package_probe("Ray", look, place=60)
