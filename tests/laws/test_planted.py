"""The script that plants bugs: it catches them, and would say if one lived on."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "plant.py"


def plant(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_every_planted_bug_is_caught() -> None:
    done = plant()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "23 of 23 planted bugs are caught" in done.stdout
