"""`loader_fakes` by its plain name: worker processes search the same path as the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
