"""`make laws`: every law over every family's tiny checkpoint, as one Record in the package.

What Manako can do with a family is read from there: it says "holds on a tiny checkpoint of this
layout", never "works".
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manako.catalogue.ability import RECORD
from manako.core.family import families
from manako.core.record import write_record


def record_laws(path: Path = RECORD) -> list[dict[str, Any]]:
    """Try all laws on all families and write the Record; its events."""
    with tempfile.TemporaryDirectory() as folder:
        events = list(_verdicts(Path(folder)))
    write_record(path, "laws", events, checkpoint="tiny, random weights, published file layout")
    return events


def _verdicts(folder: Path) -> Iterator[dict[str, Any]]:
    from manako.verify.runner import verify_model

    for name, family in families().items.items():
        family.make_tiny(folder / name, seed=1)
        for verdict in verify_model(folder / name):
            yield {"kind": "verdict", "family": name, **verdict.as_dict()}


def main() -> None:
    """Write the Record and print a line per verdict."""
    for event in record_laws():
        family, law, state = event["family"], event["law"], event["state"]
        sys.stdout.write(f"{family:12} {law:2} {state:14} {event['figure']}\n")


if __name__ == "__main__":
    main()
