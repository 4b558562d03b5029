"""The command line: parse, call one verb, print. One file per command in `commands/`.

`main` is the console script. Nothing heavy is loaded before a command needs it.
"""

from __future__ import annotations


def main() -> None:
    """Run the command that the process was called with, and exit with its code."""
    from manako.cli.root import ROOT

    ROOT()
