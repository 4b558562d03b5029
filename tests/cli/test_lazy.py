"""Nothing heavy is loaded before a command needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "pyarrow", "PIL", "rich")


@pytest.mark.parametrize(
    "statement",
    [
        "import manako.cli",
        "from manako.core.family import families; assert not families().broken",
        "import manako.plan.plan, manako.verbs.plan; import manako.cli",
        "call('--help')",
        "call('--version')",
        "call('train', '--help')",
        "call('data', 'convert', '--help')",
        "call('frobnicate')",
    ],
)
def test_no_framework_is_loaded(statement: str) -> None:
    heavy = HEAVY[:2] if "manako.plan" in statement or "frobnicate" in statement else HEAVY
    program = f"""
import sys
from contextlib import redirect_stdout, redirect_stderr, suppress
from io import StringIO

def call(*args):
    from manako.cli.root import ROOT
    with suppress(SystemExit), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        ROOT.main(args)

{statement}
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
