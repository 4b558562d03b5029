"""llama.cpp's programs on PATH."""

from __future__ import annotations

import re
import shutil
import subprocess

from manako.core.words import Words
from manako.machine.finding import Finding, Probe, does_not, not_installed, works
from manako.machine.run_probe import first_line

PROGRAMS = ("llama-server", "llama-mtmd-cli", "llama-cli", "llama-quantize")
WAIT_SECONDS = 5


def look() -> Finding:
    """Each that is there is asked for its version."""
    there = [name for name in PROGRAMS if shutil.which(name)]
    if not there:
        return not_installed(
            "GGUF を動かすプログラム（llama-server など）",
            "programs that run GGUF (llama-server and others)",
            mends="https://github.com/ggml-org/llama.cpp/blob/master/docs/install.md",
        )
    try:
        version = _version(there[0])
    except (OSError, subprocess.TimeoutExpired) as error:
        words = first_line(f"{there[0]} --version: {error}")
        return does_not(words, words, programs=there)
    names = ", ".join(there)
    return works(f"{names}（{version}）", f"{names} ({version})", programs=there, version=version)


def _version(program: str) -> str:
    """The number that `--version` tells, on whichever stream."""
    done = subprocess.run(
        [program, "--version"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=WAIT_SECONDS,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    found = re.search(r"version:?\s*(\S+)", said)
    return found[1] if found else first_line(said, 40) or f"exit code {done.returncode}"


PROBE = Probe(
    group="programs",
    title=Words(ja="llama.cpp", en="llama.cpp"),
    look=look,
    place=10,
)
