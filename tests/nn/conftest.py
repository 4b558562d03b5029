"""Where tests of native networks find their plain references by name."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # `from reference import ...`
