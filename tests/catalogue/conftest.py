"""Lets the tests of this folder import the scripts by their plain names."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent.parent / "scripts"))
