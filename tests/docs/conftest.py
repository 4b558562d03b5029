"""Lets the tests of this folder import `doc_blocks`, and the scripts, by their plain names."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent.parent / "scripts")]
