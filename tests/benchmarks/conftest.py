"""`benchmarks/` by its name, from wherever pytest is started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
