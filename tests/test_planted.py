"""The script that plants bugs: it catches them, and would say if one lived on."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "plant.py"


def plant(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=3600
    )


NAMED = (
    "temperature squared is lost",
    "temperature on one side",
    "mean over classes",
    "reversed KL",
    "softmax over the batch",
    "weights over the batch",
    "weights that are not normalised",
    "the student taught by itself",
    "a hint without gradient",
    "a regressor that is not trained",
    "angles: mirrored gradient dropped",
    "gate ignored",
)
"""One of each kind; all of them, by the script itself, take half an hour on two cores."""


@pytest.mark.slow
def test_planted_bugs_are_caught() -> None:
    done = plant(*NAMED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(NAMED)} of {len(NAMED)} planted bugs are caught" in done.stdout


def test_every_bug_can_be_planted() -> None:
    """The line that each replaces is there, once."""
    for bug in runpy.run_path(str(SCRIPT.with_name("bugs.py")))["BUGS"]:
        text = (ROOT / "collegium" / bug.file).read_text()
        assert text.count(bug.right) == 1, bug.name
