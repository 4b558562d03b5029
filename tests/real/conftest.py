"""Tests with published tokenizers, which `make test-real` fetches first; not part of `make test`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests import their makers by name

collect_ignore_glob = [] if "MANAKO_REAL" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder that scripts/real_assets.py filled."""
    return Path(os.environ["MANAKO_REAL"]).resolve()
