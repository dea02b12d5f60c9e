"""Plant known bugs, one at a time, in a copy of the checkout, and check that the tests catch each.

The bugs are listed in `bugs.py`. Ends non-zero if the tests pass with a bug, or if the line that it
replaces is no longer there.

    python scripts/plant.py --all          every bug
    python scripts/plant.py --dozen        a dozen, chosen by the date: every bug within a week
    python scripts/plant.py WORD [...]     bugs whose name has one of these words in it
"""

import importlib
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import pytest
from bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parent.parent
DOZEN = 12
LIBRARIES = ("torch", "lightning_fabric", "sklearn.datasets", "scipy")
"""Imported once, before the process of each bug is forked: they take longer than most tests."""


def choose(words: Sequence[str], day: int) -> list[Bug]:
    """The bugs that the command line names.

    Args:
        words: `--all`, `--dozen`, or parts of names.
        day: number of the day, which chooses the dozen.
    """
    if list(words) == ["--all"]:
        return list(BUGS)
    if list(words) == ["--dozen"]:
        return [BUGS[(day * DOZEN + place) % len(BUGS)] for place in range(DOZEN)]
    return [bug for bug in BUGS if any(word in bug.name for word in words)]


def first_failure(copy: Path, tests: Iterable[str]) -> str:
    """Run tests of a copy in a process of their own; give the first that failed, or nothing."""
    log = copy / "pytest.log"
    child = os.fork()
    if child == 0:
        _run_and_exit(copy, log, tests)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return ""
    lines = log.read_text().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if not failed:
        raise SystemExit("\n".join(["pytest did not run the tests:", *lines[-20:]]))
    return failed[0].partition(" - ")[0]


def _run_and_exit(copy: Path, log: Path, tests: Iterable[str]) -> None:
    os.chdir(copy)
    code = 1
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        # Lightning imports anyio, a plugin, before pytest does.
        quiet = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
        options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--tb=no", *quiet]
        try:
            code = int(pytest.main([*options, *tests]))
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def plant(bug: Bug, copy: Path) -> str:
    """Put one bug into the copy, run the tests, take it out; give the first test that failed."""
    path = copy / "collegium" / bug.file
    text = path.read_text()
    if text.count(bug.right) != 1:
        raise SystemExit(f"{bug.name}: {bug.file} has {text.count(bug.right)} of {bug.right!r}")
    path.write_text(text.replace(bug.right, bug.wrong))
    try:
        return first_failure(copy, bug.tests)
    finally:
        path.write_text(text)


def copy_checkout(folder: Path) -> None:
    """Copy what the tests need."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    for part in ("collegium", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def plant_all(bugs: Sequence[Bug], copy: Path) -> int:
    """Plant each bug in the copy and print what caught it; give the number that nothing caught."""
    missed = 0
    for bug in bugs:
        caught = plant(bug, copy)
        missed += not caught
        print(f"{'caught' if caught else 'MISSED'}  {bug.name}: {caught}", flush=True)
    return missed


def main() -> int:
    """Plant the bugs that the command line names."""
    bugs = choose(sys.argv[1:], date.today().toordinal())
    if not bugs:
        raise SystemExit(__doc__)
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_checkout(copy)
        if failed := first_failure(copy, sorted({test for bug in bugs for test in bug.tests})):
            raise SystemExit(f"with nothing planted {failed}")
        missed = plant_all(bugs, copy)
    print(f"{len(bugs) - missed} of {len(bugs)} planted bugs are caught")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
