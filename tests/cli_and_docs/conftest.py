"""Commands in process, on digits, in a folder of their own."""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets

from collegium.cli.main import main
from tests.making import ALL_DIGITS, few_digits


@dataclass
class Output:
    """What a command printed.

    Attributes:
        code: its exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON object."""
        return json.loads(self.out)


Command = Callable[[str | list[str]], Output]


@pytest.fixture(scope="module", autouse=True)
def _few_digits() -> Iterator[None]:
    with few_digits():
        yield


@pytest.fixture
def all_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 1,797 digits instead of the few that the tests of this folder train with."""
    monkeypatch.setattr(sklearn.datasets, "load_digits", ALL_DIGITS)


@pytest.fixture
def command(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Runs `collegium WORDS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(words: str | list[str]) -> Output:
        capfd.readouterr()
        code = main(shlex.split(words) if isinstance(words, str) else words)
        printed = capfd.readouterr()
        return Output(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two networks trained for a moment: run folders."""
    folder = tmp_path_factory.mktemp("teachers")
    models = {"wide": "small:cnn-wide", "residual": "small:resnet"}
    for name, model in models.items():
        words = f"train --data digits --model {model} --epochs 6 --quiet --out {folder / name}"
        with few_digits():
            assert main(shlex.split(words)) == 0
    return {name: folder / name for name in models}


@pytest.fixture
def distil(command: Command, teachers: dict[str, Path]) -> Command:
    """Runs a short `collegium distill` of small:cnn from two teachers, with further words."""
    named = " ".join(f"--teacher {name}={folder}" for name, folder in teachers.items())
    start = f"distill --data digits --student small:cnn {named} --epochs 2 --batch-size 64 --quiet"
    return lambda words: command(f"{start} {words}")


@pytest.fixture
def quickstart(command: Command, teachers: dict[str, Path]) -> None:
    """The runs that pages take from the quickstart, in the folder of the commands."""
    Path("runs").mkdir()
    for name, folder in {**teachers, "alone": teachers["wide"]}.items():
        Path("runs", name).symlink_to(folder)
