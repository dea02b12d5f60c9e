"""Makes golden cases importable beside the tests, and opens them."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from golden_case import DTYPES, Case


@pytest.fixture(params=DTYPES, ids=["float64", "float32"])
def load(request: pytest.FixtureRequest, golden: Path) -> Any:
    """Opens a golden case in one precision."""
    return lambda name: Case(golden, name, request.param)
