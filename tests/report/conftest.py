"""Lets the tests of this folder import `report_makers` by its plain name."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
