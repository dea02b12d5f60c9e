"""The list of bugs that `scripts/plant.py` plants, and how it chooses among them and reports."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; .ci/run runs it."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("plant")
    for name in ("plant", "bugs"):
        sys.modules.pop(name)


def test_every_bug_can_be_planted_and_names_its_tests(plant: ModuleType) -> None:
    """The line that each replaces is there, once, and so are the tests that are to catch it."""
    for bug in plant.BUGS:
        text = (ROOT / "collegium" / bug.file).read_text()
        assert text.count(bug.right) == 1, bug.name
        assert bug.tests
        assert all((ROOT / test.partition("::")[0]).exists() for test in bug.tests), bug.name


def test_every_bug_is_planted_within_a_week(plant: ModuleType) -> None:
    planted = [bug for day in range(738_000, 738_007) for bug in plant.choose(["--dozen"], day)]
    assert {bug.name for bug in planted} == {bug.name for bug in plant.BUGS}
    assert [bug.name for bug in plant.choose(["--all"], 0)] == [bug.name for bug in plant.BUGS]
    assert {bug.name for bug in plant.choose(["KL", "gate"], 0)} >= {"reversed KL", "gate ignored"}


REPORT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import plant

files = {"strict": "tests/test_strict.py", "lax": "tests/test_lax.py"}
bugs = [plant.Bug(name, "code.py", "= 1", "= 2", (file,)) for name, file in files.items()]
print(plant.plant_all(bugs, Path.cwd()))
"""


def test_a_bug_that_no_test_catches_is_reported(tmp_path: Path) -> None:
    for name, text in {
        "pyproject.toml": "",
        "collegium/code.py": "RIGHT = 1\n",
        "tests/test_strict.py": TEST.format(1),
        "tests/test_lax.py": TEST.format(""),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-c", REPORT, str(ROOT / "scripts")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == [
        "caught  strict: FAILED tests/test_strict.py::test_code",
        "MISSED  lax: ",
        "1",
    ]
    assert (tmp_path / "collegium/code.py").read_text() == "RIGHT = 1\n"


TEST = "def test_code():\n    assert 'RIGHT = {}' in open('collegium/code.py').read()\n"
