"""Write requirements.lock: every package that Manako and its tests need, pinned and hashed.

PyTorch takes part in the resolution, so the pins suit it, but is not written: `make` installs it
first, from the wheel index that fits the machine. Its own pure-Python needs are pinned here.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HEADER = """\
# Exact versions and hashes of all that Manako and its tests need, PyTorch apart.
# Written by `make lock` from pyproject.toml; not edited by hand.
"""
# pip-compile explains at the end which packages it left out; the header says it better.
LEFT_OUT_NOTE = re.compile(r"\n# (?:WARNING: )?The following packages (?:were|are) [\s\S]*\Z")
PLATFORM_BUILDS = re.compile(
    r"^(torch|torchvision|triton|pytorch-triton\S*|nvidia-\S+)==", re.MULTILINE
)
MACHINE_WORDS = re.compile(
    r"^(?!#).*(?:://|@ file:).*|^\s*-(?:i|f|-\S+-url|-find-links).*", re.MULTILINE
)


def resolve(target: Path, *, torch: str, upgrade: bool) -> None:
    """Run pip-compile into `target`, which holds the pins to start from."""
    options = ["--quiet", "--no-header", "--generate-hashes", "--strip-extras", "--all-extras"]
    options += ["--no-emit-options", "--no-emit-index-url", "--no-emit-find-links"]
    options += ["--no-emit-trusted-host", "--no-build-isolation"]
    options += ["--unsafe-package", "torch", "--upgrade-package", torch]
    options += ["--upgrade"] if upgrade else []
    command = [sys.executable, "-m", "piptools", "compile", *options]
    print("Resolving; some minutes. A warning that the file may be rejected means PyTorch alone,")
    print(
        "which is left out on purpose: `make` installs with --no-deps, then runs pip check.",
        flush=True,
    )
    subprocess.run([*command, "--output-file", str(target), "pyproject.toml"], cwd=ROOT, check=True)


def tidy(text: str) -> str:
    """The lock as it is kept; exits where it names what no other machine has."""
    text = HEADER + LEFT_OUT_NOTE.sub("\n", text).strip() + "\n"
    if found := PLATFORM_BUILDS.search(text):
        sys.exit(f"{found.group(1)} fits one kind of machine only and may not be in the lock.")
    if found := MACHINE_WORDS.search(text):
        sys.exit(f"The lock would name an index or a path: {found.group().strip()}")
    return text


def main() -> None:
    """Resolve beside the lock, then put the result in its place in one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True, help="the PyTorch to resolve with, torch==X.Y.Z")
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / LOCK.name
        if LOCK.exists():
            shutil.copyfile(LOCK, target)
        resolve(target, torch=arguments.torch, upgrade=arguments.upgrade)
        text = tidy(target.read_text(encoding="utf-8"))
    beside = LOCK.with_suffix(".lock.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, LOCK)


if __name__ == "__main__":
    main()
