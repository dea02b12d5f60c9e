"""Plant known bugs, one at a time, in a copy of the checkout, and see that the tests catch each.

They are those of `bugs.py`. Ends non-zero if one lives on, or if the line it replaces is no longer
there.

    python scripts/plant.py [WORD ...]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parent.parent


def first_failure(copy: Path, tests: Iterable[str]) -> str:
    """Run tests of a copy; gives the first that failed, or nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].partition(" - ")[0] if done.returncode else ""


def plant(bug: Bug, copy: Path) -> str:
    """Put one bug into the copy, run the tests, take it out; gives the first test that failed."""
    path = copy / "collegium" / bug.file
    text = path.read_text()
    if text.count(bug.right) != 1:
        raise SystemExit(f"{bug.name}: {bug.file} has {text.count(bug.right)} of {bug.right!r}")
    path.write_text(text.replace(bug.right, bug.wrong))
    try:
        return first_failure(copy, bug.tests)
    finally:
        path.write_text(text)


def main() -> int:
    """Every bug, or those whose name holds one of the words."""
    words = sys.argv[1:]
    chosen = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copy(ROOT / "pyproject.toml", copy)
        for part in ("collegium", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        if failed := first_failure(copy, sorted({test for bug in chosen for test in bug.tests})):
            raise SystemExit(f"with nothing planted {failed}")
        for bug in chosen:
            caught = plant(bug, copy)
            alive += not caught
            print(f"{'caught' if caught else 'ALIVE '}  {bug.name}: {caught}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} planted bugs are caught")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
