"""Small runs on some real digits, through the real loop."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets
import torch

import collegium as cg
from collegium.api import execute
from collegium.build import input_spec_of
from collegium.config.options import Optimisation
from collegium.config.run import Run
from collegium.data import Splits, load_data
from collegium.models.network import Network
from collegium.models.registry import build_network
from collegium.records.run_folder import Record
from collegium.utils import threads
from tests.making import ALL_DIGITS, few_digits

KNOWN = {"low": (0, 1, 2, 3, 4), "high": (5, 6, 7, 8, 9)}


@pytest.fixture(scope="module", autouse=True)
def _few_digits() -> Iterator[None]:
    with few_digits():
        yield


@pytest.fixture(scope="module", autouse=True)
def _as_many_threads_as_torch() -> Iterator[None]:
    """With several threads for torch, these small networks use them: see `.ci/run`."""
    with pytest.MonkeyPatch.context() as patched:
        if torch.get_num_threads() > 1:
            patched.setattr(threads, "WORK_PER_THREAD", 1)
        yield


@pytest.fixture
def all_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 1,797 digits instead of the few that the tests of this folder train with."""
    monkeypatch.setattr(sklearn.datasets, "load_digits", ALL_DIGITS)


@pytest.fixture(scope="session")
def digits() -> Splits:
    with few_digits():
        return load_data("digits", seed=0)


@pytest.fixture(scope="session")
def specialists(digits: Splits, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Network]:
    """Two teachers, each of which has only ever seen half of the classes."""
    teachers = {}
    for name, classes in KNOWN.items():
        seen = torch.isin(digits.train.labels_N, torch.tensor(classes))
        network = build_network("small:cnn-wide", input_spec_of(digits.train), 0)
        half = Splits(digits.train.subset(seen), digits.validation, None)
        run = Run(half, network, optimisation=Optimisation(epochs=15, batch_size=32))
        execute(run, tmp_path_factory.mktemp(name) / "run", quiet=True)
        teachers[name] = network
    return teachers


@pytest.fixture
def distil(
    digits: Splits, specialists: dict[str, Network], tmp_path: Path
) -> Callable[..., Record]:
    """Distils a small student from the specialists into a folder."""

    def go(method: Any = None, folder: str = "run", epochs: int = 3, **options: Any) -> Record:
        run = Run(
            data=options.pop("data", digits),
            student=options.pop("student", "small:cnn"),
            teachers=options.pop("teachers", specialists),
            method=method or cg.AMTML(),
            optimisation=Optimisation(epochs=epochs, batch_size=64),
            seed=options.pop("seed", 0),
        )
        return execute(run, tmp_path / folder, quiet=True, **options)

    return go
