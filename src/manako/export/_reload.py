"""Opens exported files in a process that knows nothing but them.

`python -m manako.export._reload FOLDER PROBES OUT` opens the checkpoint in FOLDER, asks it the
probes of the file PROBES, and writes logits and answers into OUT.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import manako
from manako.core.conversation import Conversation
from manako.core.errors import CheckpointError
from manako.export._probes import Seen, look, probes_from_json, probes_to_json, read_seen, save_seen

SHOWN_CHARACTERS = 2000


def look_in_clean_process(folder: Path, probes: Sequence[Conversation]) -> list[Seen]:
    """What a fresh Python process makes of the probes, from the files of `folder` alone.

    It computes in float32 on the CPU. Raises `CheckpointError` with its words when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="manako-export-") as temporary:
        asked, answered = Path(temporary) / "probes.json", Path(temporary)
        asked.write_text(probes_to_json(probes), encoding="utf-8")
        command = [sys.executable, "-P", "-m", __name__, str(folder), str(asked), str(answered)]
        done = subprocess.run(command, env=_environment(), capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", errors="replace").strip()[-SHOWN_CHARACTERS:]
            raise CheckpointError(
                f"the exported files cannot be opened by a clean process:\n{said}",
                next_step="nothing was kept; report this with the text above",
            )
        return read_seen(answered)


def _environment() -> dict[str, str]:
    """Finds this very package, whatever the current folder, and stays off the network."""
    home = str(Path(manako.__file__).resolve().parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUTF8": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _main(folder: str, asked: str, answered: str) -> None:
    from manako.infer.open import open_model

    model = open_model(Path(folder), device="cpu", dtype="float32")
    probes = probes_from_json(Path(asked).read_text(encoding="utf-8"))
    save_seen(Path(answered), look(model, probes))


if __name__ == "__main__":
    _main(*sys.argv[1:])
